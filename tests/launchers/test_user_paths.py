"""`~` is the home directory in every path that a user gives, whether or not a shell has seen it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import metaslac
from metaslac.errors import MetaslacError
from metaslac.launchers.api.training import Outcome
from metaslac.launchers.cli import cli
from metaslac.storage.files import user_path

TAKE_PATHS = {
    "meta-train": {"run_dir", "resume", "config"},
    "sweep": {"out", "config"},
    "adapt": {"checkpoint", "video", "picture", "json_path"},
    "offline-train": {"dataset", "run_dir", "resume"},
    "watch": {"checkpoint"},
    "evaluate": {"checkpoint", "context", "blind", "oracle", "json_path"},
    "report": {"directories", "out", "context"},
    "inspect": {"directory", "json_path"},
    "export": {"directory", "out"},
    "zoo": set(),
    "demo": {"video"},
    "families": {"out"},
    "settings": set(),
    "doctor": set(),
    "dataset": set(),
    "dataset record": {"out", "checkpoint"},
    "dataset info": {"directory", "json_path"},
    "dataset convert": {"source", "out"},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory and, beside it, an empty one to work in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def named_commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from named_commands(command, f"{before}{name} ")


def path_parameters(command: click.Command) -> Iterator[click.Parameter]:
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            yield parameter


def test_every_path_of_every_command_may_be_in_the_home_directory(home: Path) -> None:
    commands = dict(named_commands(cli))
    found = {name: {param.name for param in path_parameters(command)} for name, command in commands.items()}
    assert found == TAKE_PATHS
    for command in commands.values():
        for parameter in path_parameters(command):
            context = click.Context(command)
            many = parameter.nargs == -1 or parameter.multiple
            value = parameter.type_cast_value(context, ("~/x",) if many else "~/x")
            assert value == ((home / "x",) if many else home / "x")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~", "home"),
        ("~/runs/a b", "home/runs/a b"),
        ("runs/x", "runs/x"),
        ("runs/~/x", "runs/~/x"),
        ("/srv/~", "/srv/~"),
        ("./~/x", "here/~/x"),
        ("./~x.png", "here/~x.png"),
        ("", "."),
    ],
)
def test_only_a_path_that_begins_with_it_is_in_the_home_directory(
    written: str, meant: str, tmp_path: Path
) -> None:
    absolute = meant.startswith(("home", "here"))
    expected = tmp_path / meant if absolute else Path(meant)
    assert user_path(written) == expected
    assert user_path(user_path(written)) == expected  # a command hands it on to a function


def test_nobodys_home_is_refused_and_said_how_it_may_be_meant() -> None:
    result = CliRunner().invoke(cli, ["meta-train", "--run-dir=~nobody-of-that-name/x"])
    assert result.exit_code == 2
    assert result.stderr == (
        "metaslac: ~nobody-of-that-name/x: there is no home directory of that name; "
        "a file called so is ./~nobody-of-that-name/x\n"
    )
    assert not os.listdir()


def test_a_picture_goes_where_it_was_said(home: Path) -> None:
    command = ["families", "--show", "point_robot", "--image-size", "32", "--tasks", "1"]
    result = CliRunner().invoke(cli, [*command, "--out=~/sheet.png"])
    assert result.exit_code == 0, result.output
    assert os.listdir(home) == ["sheet.png"] and not os.listdir()


def test_calls_and_commands_begin_a_run_in_the_home_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dirs: list[Path] = []

    def train(config: object, run_dir: Path, *_: object, **__: object) -> Outcome:
        run_dirs.append(run_dir)
        return Outcome(run_dir, finished=True)

    monkeypatch.setattr("metaslac.launchers.api.training.train", train)
    assert CliRunner().invoke(cli, ["meta-train", "--run-dir=~/x"]).exit_code == 0
    metaslac.meta_train(run_dir="~/x")
    metaslac.meta_train(run_dir=Path("~/x"))
    assert run_dirs == [home / "x"] * 3


@pytest.mark.parametrize("call", [metaslac.load, metaslac.adapt, metaslac.evaluate])
def test_calls_look_for_checkpoints_in_the_home_directory(call: object, home: Path) -> None:
    assert callable(call)
    with pytest.raises(MetaslacError, match=f"^{home}/none does not exist"):
        call("~/none", device="cpu")
