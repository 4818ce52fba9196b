"""What a program calls does what the commands do, and returns what they print."""

from __future__ import annotations

import errno
import fcntl
import inspect
import json
import os
import random
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reports import ONE_THREAD, refusal, run
from runs import TINY, assert_equal, rows
from scripts import run_program

import metaslac
from metaslac.acting.adaptation import adapt as run_adaptation
from metaslac.acting.agent import load_agent
from metaslac.envs import make_family, make_vector_env
from metaslac.evidence.evaluation_file import read_evaluation
from metaslac.launchers.api.process import tf32_allowed

SETTINGS = [argument.removeprefix("--set=") for argument in TINY]

LEAST = [*SETTINGS, "train.updates=1", "runtime.threads=1", "runtime.device=cpu"]


def ignore(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run by a call and by the command."""
    called, commanded = (tmp_path_factory.mktemp("runs") / name for name in ("called", "commanded"))
    told: list[str] = []
    outcome = metaslac.meta_train(
        "point_robot",
        "quick",
        called,
        settings=[*SETTINGS, "train.updates=3", "runtime.threads=1", "runtime.device=cpu"],
        quiet=True,
        tell=told.append,
    )
    assert outcome == (called, True)
    assert told[-1].startswith("finished; try: metaslac adapt --checkpoint ")
    run(
        *["meta-train", "--family", "point_robot", "--preset", "quick", *ONE_THREAD, "--quiet"],
        *["--updates", "3", "--run-dir", str(commanded), *TINY],
    )
    return called, commanded


def test_a_run_is_the_commands(trained: tuple[Path, Path]) -> None:
    assert_equal(*trained)
    assert len({(path / "config.yaml").read_text() for path in trained}) == 1


def test_adaptation_is_the_commands(trained: tuple[Path, Path], tmp_path: Path) -> None:
    family, tasks, privileged = metaslac.adapt(trained[1], episodes=2, threads=1, keep_frames=True)
    run("adapt", "--checkpoint", str(trained[1]), "--json", str(tmp_path / "table"), *ONE_THREAD)
    told = json.loads((tmp_path / "table").read_text())
    assert (family.name, family.task_hash) == ("point_robot", told["task_hash"])
    assert [task["returns"] for task in told["tasks"]] == [list(map(float, task.returns)) for task in tasks]
    assert tasks[0].frames[0].shape == (21, 32, 32, 3)
    (alone,) = metaslac.adapt(trained[1], task=85, threads=1).tasks
    assert alone.task.index == 85


def test_evaluation_is_the_commands(trained: tuple[Path, Path], tmp_path: Path) -> None:
    found = metaslac.evaluate(trained[1], episodes=2, trials=1, out=tmp_path / "mine.json", threads=1)
    arguments = ["--episodes", "2", "--trials", "1", "--json", str(tmp_path / "command.json"), *ONE_THREAD]
    run("evaluate", "--checkpoint", str(trained[1]), *arguments)
    assert found.path == tmp_path / "mine.json" and not found.controls
    for path in (found.path, tmp_path / "command.json"):
        evaluation = read_evaluation(path)
        assert evaluation.about == found.evaluation.about
        np.testing.assert_allclose(evaluation.held_out.returns, found.evaluation.held_out.returns, rtol=1e-6)


def test_an_evaluation_draws_what_the_training_did_not(trained: tuple[Path, Path], tmp_path: Path) -> None:
    family, rows_ = make_family("point_robot"), rows(trained[1])
    watched = [float(rows_[-1][f"validation/return_{episode}"]) for episode in (1, 2)]  # seed 0, one trial
    asked = {"episodes": 2, "trials": 1, "seed": 0, "training_tasks": False, "threads": 1}
    found = metaslac.evaluate(trained[1], split="validation", out=tmp_path / "e.json", **asked).evaluation
    returns = found.held_out.returns.mean((0, 1))
    assert found.about["stream"] == 10 and (abs(returns - watched) > 1e-3).all()
    # Had it the training's generators, it would be the same: these are adapt's, played by hand.
    agent = load_agent(trained[1], torch.device("cpu"))
    with closing(make_vector_env(make_family("point_robot", image_size=32), 4)) as env:
        played = run_adaptation(agent, env, family.validation_tasks, episodes=2, stream=1)
        again = run_adaptation(agent, env, family.validation_tasks, episodes=2, stream=10)
    assert np.mean([entry.returns for entry in played], axis=0) == pytest.approx(watched, rel=1e-3)
    assert np.mean([entry.returns for entry in again], axis=0) == pytest.approx(returns, rel=1e-3)


def test_another_evaluation_is_not_lost(trained: tuple[Path, Path], tmp_path: Path) -> None:
    out, like = tmp_path / "e.json", {"episodes": 1, "training_tasks": False, "threads": 1}
    metaslac.evaluate(trained[1], trials=2, out=out, **like)
    kept = out.read_bytes()
    for split in ("test", "validation"):
        with pytest.raises(metaslac.MetaslacError, match=r"e.json holds another evaluation: .*trials \(2, 1"):
            metaslac.evaluate(trained[1], trials=1, out=out, split=split, **like)
    arguments = ["--json", str(out), "--episodes", "1", "--trials", "1", "--no-training-tasks", *ONE_THREAD]
    assert "--overwrite replaces it" in refusal("evaluate", "--checkpoint", str(trained[1]), *arguments)
    assert out.read_bytes() == kept
    metaslac.evaluate(trained[1], trials=2, out=out, **like)  # the same may be made again
    run("evaluate", "--checkpoint", str(trained[1]), *arguments, "--overwrite")
    assert read_evaluation(out).about["trials"] == 1


def test_adapt_loses_no_evaluation_either(trained: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "evaluation.json"
    metaslac.evaluate(trained[1], trials=1, episodes=1, out=out, training_tasks=False, threads=1)
    adapt = ["adapt", "--checkpoint", str(trained[1]), "--task", "85", *ONE_THREAD, "--json"]
    kept = out.read_bytes()
    assert "what is there is not a table of adapt's; choose another name" in refusal(*adapt, str(out))
    assert out.read_bytes() == kept
    for _ in range(2):  # its own table may be made again
        run(*adapt, str(tmp_path / "table.json"))


def global_state() -> list[Any]:
    """Whatever of the process belongs to the program that calls."""
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return [
        *(torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()),
        *(torch.get_num_threads(), torch.get_num_interop_threads(), flags),
        *(torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()),
        *(torch.get_default_dtype(), torch.is_grad_enabled(), np.geterr()),
        *(dict(os.environ), os.getcwd(), [signal.getsignal(number) for number in signal.valid_signals()]),
    ]


def play_a_suite_task() -> None:
    with closing(make_vector_env("dmc:cartpole-swingup", 1)) as env:
        env.reset(seed=0, options={"task": [0]})
        env.step(np.zeros((1, 1)))


CALLS = ["load", "adapt", "evaluate", "meta_train", "worlds", "record", "export", "offline_train"]


@pytest.mark.parametrize("name", CALLS)
def test_no_call_moves_what_is_the_whole_process(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = tmp_path / "data"

    def train() -> None:
        metaslac.meta_train("point_robot", "quick", tmp_path / "run", settings=LEAST, quiet=True)

    calls: dict[str, Callable[[], object]] = {
        "load": lambda: metaslac.load(trained[0]),
        "adapt": lambda: metaslac.adapt(trained[0], task=85, episodes=1, threads=1),
        "evaluate": lambda: metaslac.evaluate(
            trained[0],
            episodes=1,
            trials=1,
            training_tasks=False,
            threads=1,
            out=tmp_path / "evaluation.json",
        ),
        "meta_train": train,
        "worlds": play_a_suite_task,
        "record": lambda: metaslac.record(data, random="point_robot", episodes=1, image_size=32, threads=1),
        "export": lambda: metaslac.export(trained[0], tmp_path / "agent"),
        "offline_train": lambda: metaslac.offline_train(
            data, run_dir=tmp_path / "off", settings=LEAST, quiet=True, tell=ignore
        ),
    }
    if name == "offline_train":
        calls["record"]()
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(99)  # or an earlier call would have left them as this one does
    np.random.seed(99)
    random.seed(99)
    seeds.clear()
    try:
        state = global_state()
        calls[name]()
        assert global_state() == state and not seeds
    finally:
        torch.set_num_threads(before)


def test_a_program_may_say_how_it_starts_processes_after_a_call() -> None:
    """And finds no thread that it has not started."""
    program = "import metaslac, multiprocessing, sys, threading\n"
    program += "metaslac.adapt('zoo:point_robot', task=80, episodes=1, threads=1)\n"
    program += "multiprocessing.set_start_method('spawn'); print(threading.enumerate())"
    done = run_program(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[<_MainThread") and done.stdout.count("<") == 1


@pytest.mark.parametrize("before", [True, False])
def test_the_precision_of_products_is_put_back(before: bool) -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    own = [flag.allow_tf32 for flag in flags]
    try:
        for precision, within in (("auto", True), ("float32", False)):
            for flag in flags:
                flag.allow_tf32 = before
            with tf32_allowed(torch.device("cuda"), precision):
                assert [flag.allow_tf32 for flag in flags] == [within, within]
            assert [flag.allow_tf32 for flag in flags] == [before, before]
    finally:
        for flag, was in zip(flags, own, strict=True):
            flag.allow_tf32 = was


def test_an_evaluation_says_how_m_was_drawn(trained: tuple[Path, Path], tmp_path: Path) -> None:
    def evaluated(name: str, **drawing: float) -> tuple[dict[str, object], np.ndarray]:
        found = metaslac.evaluate(
            trained[1],
            **{"episodes": 2, "trials": 1, "training_tasks": False, "threads": 1, **drawing},
            out=tmp_path / name,
        )
        read = read_evaluation(found.path)
        return dict(read.about), read.held_out.returns

    plain, returns = evaluated("plain")
    drawn, other = evaluated("drawn", redraw_every=1, mean_below=0.25)
    assert (plain["redraw_every"], plain["mean_below"]) == (0, 0.0)
    assert (drawn["redraw_every"], drawn["mean_below"]) == (1, 0.25)
    assert "--redraw-every 1 --mean-below 0.25" in str(drawn["command"])
    assert "redraw" not in str(plain["command"]) and not np.array_equal(returns, other)


def test_an_unknown_split_is_refused(trained: tuple[Path, Path]) -> None:
    with pytest.raises(metaslac.MetaslacError, match="split must be one of validation, test, got 'train'"):
        metaslac.evaluate(trained[1], split="train")


def test_a_disk_without_links_and_locks_is_told_and_will_do(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    run_dir = Path(shutil.copytree(trained[1], tmp_path / "run", symlinks=True))
    for module, name in ((os, "symlink"), (fcntl, "flock")):
        monkeypatch.setattr(module, name, refused)
    told: list[str] = []
    more = {"train.updates": 4}
    assert metaslac.meta_train(resume=run_dir, settings=more, quiet=True, tell=told.append).finished
    assert len([line for line in told if "no locks in" in line]) == 1
    last = run_dir / "checkpoints" / "last"
    assert last.read_text() == "00000004\n" and not list(run_dir.glob(".lock.*"))
    few = {"episodes": 1, "trials": 1, "training_tasks": False, "threads": 1}
    assert metaslac.evaluate(last, **few).path == last.with_name("00000004.evaluation.json")
    assert metaslac.load(last).observation_shape == (32, 32, 3)


def test_a_call_goes_on_with_a_run_until_it_is_stopped(trained: tuple[Path, Path]) -> None:
    more = {"train.updates": 50}
    stopped = metaslac.meta_train(
        resume=trained[0], settings=more, quiet=True, stop=lambda: True, tell=ignore
    )
    assert stopped == (trained[0], False)
    whole = metaslac.meta_train(resume=trained[0], settings={"train.updates": 4}, quiet=True, tell=ignore)
    assert whole == (trained[0], True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  gamma: 0.5", "actor_critic.gamma (0.5, 0.95) "),
        ("  z1_size: 5", "model.z1_size (5, 3) "),
        ("  name: cheetah_vel", "family.name (cheetah_vel, point_robot) "),
    ],
)
def test_a_run_whose_config_was_edited_is_not_gone_on_with(
    trained: tuple[Path, Path], tmp_path: Path, line: str, said: str
) -> None:
    run_dir = Path(shutil.copytree(trained[1], tmp_path / "run", symlinks=True))
    config, setting = run_dir / "config.yaml", line.partition(":")[0]
    config.write_text(re.sub(rf"^{setting}: .*", line, config.read_text(), flags=re.MULTILINE))
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(metaslac.MetaslacError) as caught:
        metaslac.meta_train(resume=run_dir, settings={"train.updates": 50}, quiet=True, tell=ignore)
    assert f"{config} was changed: {said}(there, in 0" in str(caught.value)
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "quik"}, "there is no preset 'quik': they are default, quick"),
        ({"settings": {"train.update": 3}}, "train.update"),
        ({"settings": {"train.updates": "many"}}, "train.updates"),
        ({"resume": "there", "preset": "quick"}, "resume goes with neither preset nor run_dir"),
        ({"resume": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(metaslac.MetaslacError, match=said) as caught:
        metaslac.meta_train(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["adapt", "evaluate", "meta_train", "load", "record"])
def test_every_call_is_described(name: str) -> None:
    function = getattr(metaslac, name)
    text = inspect.getdoc(function)
    assert text is not None and "Raises:" in text
    described = text.partition("Args:")[2].partition("Raises:")[0]
    for parameter in inspect.signature(function).parameters:
        assert f" {parameter}:" in described or f" {parameter}," in described, parameter
