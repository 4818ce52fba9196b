"""Files that run code in careless hands: refused, and none of it is run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkpoints import config, forge, refusal, replay_file, resume
from click.testing import CliRunner, Result
from fakes import CPU

from metaslac.config.text import with_values
from metaslac.envs import make_family, make_vector_env
from metaslac.launchers.cli import cli
from metaslac.storage.manifest import CONFIG, MANIFEST, WEIGHTS
from metaslac.training import online
from metaslac.training.run_directory import start_run_directory
from metaslac.training.state import NUMBERS, ROWS, TENSORS

# Hostile files: what they would run makes a directory.


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "was run"
    yield path
    assert not path.exists()


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def hostile(marker: Path) -> dict[str, bytes]:
    """Files that make the directory `marker` in the hands of a careless reader."""
    zipped, plain = io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.zeros(3), "more": Payload(marker)}, zipped)
    torch.save([Payload(marker)], plain, _use_new_zipfile_serialization=False)
    texts = [f"{tag}os.mkdir ['{marker}']\n" for tag in ("!!python/object/apply:", "!!python/object/new:")]
    texts.append(f"train:\n  seed: !!python/object/apply:os.mkdir ['{marker}']\n")
    return {
        **{f"pickle {protocol}": pickle.dumps(Payload(marker), protocol) for protocol in (0, 2, 5)},
        **{"torch.save": zipped.getvalue(), "old torch.save": plain.getvalue()},
        **{f"yaml {number}": text.encode() for number, text in enumerate(texts)},
        "numpy": npy(marker),
    }


def npy(marker: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


def test_hostile_files_would_run_in_careless_hands(tmp_path: Path) -> None:
    for what, data in hostile(tmp_path / "was run").items():
        with contextlib.suppress(Exception):
            if "yaml" in what:
                yaml.unsafe_load(data)
            elif what == "numpy":
                np.load(io.BytesIO(data), allow_pickle=True)
            else:
                torch.load(io.BytesIO(data), weights_only=False) if "torch" in what else pickle.loads(data)
        (tmp_path / "was run").rmdir()


@pytest.mark.parametrize("is_signed", [False, True])
def test_hostile_files_are_refused_and_not_run(saved: Path, marker: Path, is_signed: bool) -> None:
    manifest, replay = (saved / MANIFEST).read_bytes(), replay_file(saved)
    for name in (WEIGHTS, CONFIG, TENSORS, NUMBERS, ROWS, replay, MANIFEST):
        whole = (saved / name).read_bytes()
        for data in hostile(marker).values():
            if is_signed and name != MANIFEST:
                forge(saved, {name: data})
            else:
                (saved / name).write_bytes(data)
            assert str(saved) in refusal(saved)
            assert not marker.exists()
            (saved / name).write_bytes(whole)
            (saved / MANIFEST).write_bytes(manifest)


def test_hostile_files_that_nobody_asked_for_are_not_run(saved: Path, marker: Path) -> None:
    for name in ("data.pkl", "model.pt", "more.npy", "replay/more.pkl", "config.yml"):
        for data in hostile(marker).values():
            (saved / name).write_bytes(data)
            forge(saved, {name: data} if "replay" not in name else {})
            resume(saved)


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on point_robot that the commands can adapt with and go on with."""
    family = make_family("point_robot", image_size=32)
    path = tmp_path_factory.mktemp("real")
    values = {"family.name": "point_robot", "train.initial_episodes": 1, "train.updates": 2}
    settings = with_values(config(), {**values, "evaluation.episodes": 1, "runtime.threads": 1})
    start_run_directory(path, settings, {"task_hash": family.task_hash})
    online.meta_train(settings, family, partial(make_vector_env, family), path, CPU, quiet=True)
    return path


@pytest.fixture
def copied(real_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(real_run, tmp_path / "run", symlinks=True))


def command(*arguments: str) -> Result:
    """A command that ends without a traceback."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code in (0, 2), result.output
    assert "Traceback" not in result.output
    if result.exit_code:
        (line,) = result.stderr.splitlines()
        assert line.startswith("metaslac: ")
    return result


def adapt(run_dir: Path) -> Result:
    return command("adapt", "--checkpoint", str(run_dir), "--task", "85", "--episodes", "1", "--device=cpu")


def go_on(run_dir: Path) -> Result:
    return command("meta-train", "--resume", str(run_dir), "--updates", "3", "--quiet", "--device=cpu")


@pytest.mark.parametrize("is_signed", [False, True])
def test_commands_refuse_hostile_files_and_do_not_run_them(
    copied: Path, marker: Path, is_signed: bool
) -> None:
    last = (copied / "checkpoints" / "last").resolve()
    manifest = (last / MANIFEST).read_bytes()
    texts = hostile(marker)
    for name in (WEIGHTS, CONFIG, TENSORS, NUMBERS, ROWS, replay_file(last), MANIFEST):
        whole = (last / name).read_bytes()
        for what in ("pickle 0", "torch.save", *(["yaml 0", "yaml 2"] if name == CONFIG else [])):
            if is_signed and name != MANIFEST:
                forge(last, {name: texts[what]})
            else:
                (last / name).write_bytes(texts[what])
            assert str(last) in go_on(copied).stderr
            if name in (WEIGHTS, CONFIG, MANIFEST):  # all that an agent is made of
                assert str(last) in adapt(copied).stderr
            elif (name, what) == (TENSORS, "pickle 0"):
                assert adapt(copied).exit_code == 0
            assert not marker.exists()
            (last / name).write_bytes(whole)
            (last / MANIFEST).write_bytes(manifest)


def test_a_hostile_description_of_a_run_is_refused_and_not_run(copied: Path, marker: Path) -> None:
    for data in hostile(marker).values():
        (copied / "config.yaml").write_bytes(data)
        assert str(copied / "config.yaml") in go_on(copied).stderr
        refused = command("meta-train", "--run-dir", str(copied), "--family", "point_robot", "--device=cpu")
        assert str(copied / "config.yaml") in refused.stderr


def test_what_is_only_written_for_others_is_not_read(copied: Path, marker: Path) -> None:
    (copied / "variant.json").write_bytes(hostile(marker)["pickle 0"])
    (copied / "progress.csv").write_bytes(hostile(marker)["torch.save"])
    assert go_on(copied).exit_code == 0
    assert json.loads((copied / "variant.json").read_text())["task_hash"]
    assert (copied / "progress.csv").read_text().startswith("update,")
