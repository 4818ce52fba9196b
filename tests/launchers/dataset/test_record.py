"""`metaslac dataset record` and `info`: what is recorded is what was played, by whom it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import recorded
from helpers.recorded import PIXELS, STACKED, write
from reports import ONE_THREAD, ROOT, refusal, run

import metaslac
from metaslac.acting.agent import load_agent
from metaslac.acting.recording import RECORDING_STREAM, record_random, record_trials
from metaslac.acting.rollout import rng_of, run_trial
from metaslac.config.sections import Config
from metaslac.envs import make_family, make_vector_env
from metaslac.errors import MetaslacError
from metaslac.launchers.dataset.info import summary
from metaslac.replay.data_set import About, DataSet, RecordedTask, open_data_set
from metaslac.replay.data_writer import written_data_set
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.state import restore_replay
from metaslac.training.trainer import new_replay

CPU = torch.device("cpu")


def config_of(path: Path) -> Config:
    return load_checkpoint(path).config


def record(out: Path, *arguments: str) -> DataSet:
    run("dataset", "record", "--out", str(out), *arguments, *ONE_THREAD)
    return open_data_set(out)


def test_random_episodes_are_those_of_their_generators(tmp_path: Path) -> None:
    data = record(
        tmp_path / "data",
        *["--random", "point_robot", "--episodes", "2", "--image-size", "32", "--split", "test"],
        *["--seed", "5", "--states", "--hold", "3"],
    )
    family = make_family("point_robot", image_size=32)
    assert data.sources == ("random",) and data.about.state_size == family.state_size
    assert data.about.task_hash == family.task_hash and data.about.split == "test"
    assert [(task.index, task.params) for task in data.tasks] == [
        (task.index, tuple(task.params)) for task in family.test_tasks
    ]
    counts = np.unique(data.episodes[:, 0], return_counts=True)[1]
    assert counts.tolist() == [2] * len(family.test_tasks)
    index = data.tasks[3].index
    numbers = [number for number, row in enumerate(data.episodes.tolist()) if row[0] == index]
    for repeat, number in enumerate(numbers):
        rng, read = rng_of(5, RECORDING_STREAM, 0, index, repeat), data.episode(number)
        start = int(rng.integers(2**31))
        drawn = np.stack([rng.uniform(-1, 1, 2) for _ in range(7)]).astype(np.float32)
        np.testing.assert_array_equal(read.actions, np.repeat(drawn, 3, 0)[: len(read.actions)])
        env = make_vector_env(family, 1, states=True)
        frames, info = env.reset(seed=[start], options={"task": [index]})
        np.testing.assert_array_equal(read.frames[0], frames[0])
        assert read.states is not None
        np.testing.assert_array_equal(read.states[0], info["state"][0].astype(np.float32))
        env.close()


def test_agents_play_trials_that_do_not_depend_on_the_worlds(tmp_path: Path, staged_run: Path) -> None:
    data = record(
        tmp_path / "data",
        *["--checkpoint", str(staged_run), "--episodes", "3", "--split", "validation"],
    )
    (said,) = data.sources
    assert said.startswith("update 4 of infer, seed 0, settings ") and str(staged_run) not in said
    family, config = make_family("point_robot", image_size=data.about.image_size), config_of(staged_run)
    agent, task = load_agent(staged_run, CPU), data.tasks[4]
    env = make_vector_env(family, 1)
    keys = [[(0, RECORDING_STREAM, 0, task.index, 0, episode)] for episode in range(2)]
    expected = run_trial(env, agent, [task], keys, config.evaluation.exploration_episodes)[0]
    env.close()
    numbers = [number for number, row in enumerate(data.episodes.tolist()) if row[0] == task.index]
    assert len(numbers) == 3
    for number, (episode, *_) in zip(numbers, expected, strict=False):
        read = data.episode(number)
        np.testing.assert_array_equal(read.frames, episode.frames)
        np.testing.assert_allclose(read.actions, episode.actions, atol=1e-5)
        np.testing.assert_allclose(read.rewards, episode.rewards, atol=1e-5)


def test_every_stage_is_a_source_with_its_own_chance(tmp_path: Path, staged_run: Path) -> None:
    data = record(
        tmp_path / "data",
        *["--checkpoint", str(staged_run), "--stages", "2,4", "--episodes", "1", "--split", "test"],
    )
    assert [said.partition(" of ")[0] for said in data.sources] == ["update 2", "update 4"]
    half = len(data.tasks)
    assert data.episodes[:, 4].tolist() == [0] * half + [1] * half
    starts = [data.episode(number).frames[0] for number in (0, half)]
    actions = [data.episode(number).actions[0] for number in (0, half)]
    assert not np.array_equal(*actions) or not np.array_equal(*starts)


def test_what_is_in_a_replay_is_taken_as_it_is(tmp_path: Path, staged_run: Path) -> None:
    data = record(tmp_path / "data", "--checkpoint", str(staged_run), "--from-replay")
    checkpoint = load_checkpoint(staged_run)
    family = make_family("point_robot", image_size=data.about.image_size)
    replay = new_replay(checkpoint.config, family, CPU)
    restore_replay(checkpoint, replay)
    assert data.steps == replay.steps() == checkpoint.manifest["replay_steps"]
    assert [episode[0] for episode in data.episodes.tolist()] == [task for task, *_ in replay.episodes()]
    for number, (_, place, count) in enumerate(replay.episodes()):
        read, steps = data.episode(number), slice(place, place + count - 1)
        np.testing.assert_array_equal(read.frames, replay.frames[place : place + count].numpy())
        np.testing.assert_array_equal(read.actions, replay.actions[steps].numpy())
        np.testing.assert_array_equal(read.rewards, replay.rewards[steps].numpy())
    newest = record(tmp_path / "one", "--checkpoint", str(staged_run), "--from-replay", "--episodes", "1")
    assert len(newest.episodes) == len(family.train_tasks)
    last = [stored[-1] for stored in replay.stored]
    for number, (task, stored) in enumerate(enumerate(last)):
        place = replay.place(task, stored.offset)
        np.testing.assert_array_equal(newest.episode(number).frames[0], replay.frames[place].numpy())


def test_what_several_replays_have_is_taken_once(tmp_path: Path, staged_run: Path) -> None:
    """As of stages of one run; a belief would count it as often as it is there."""
    last = record(tmp_path / "last", "--checkpoint", str(staged_run), "--from-replay")
    both = record(tmp_path / "both", "--checkpoint", str(staged_run), "--from-replay", "--stages", "2,4")
    twice = ["--checkpoint", str(staged_run)] * 2
    assert len(record(tmp_path / "again", *twice, "--from-replay").episodes) == len(last.episodes)
    played = [
        [
            (data.episodes[number, 0], data.episode(number).actions.tobytes())
            for number in range(len(data.episodes))
        ]
        for data in (last, both)
    ]
    assert len(set(played[1])) == len(played[1]) and set(played[1]) == set(played[0])
    assert set(both.episodes[:, 4].tolist()) == {0, 1}


def test_a_call_does_what_the_command_does(tmp_path: Path, staged_run: Path) -> None:
    how: dict[str, Any] = {
        "episodes": 1,
        "split": "test",
        "deterministic": True,
        "device": "cpu",
        "threads": 1,
    }
    called = metaslac.record(tmp_path / "called", checkpoint=staged_run, **how)
    commanded = record(
        tmp_path / "commanded",
        *["--checkpoint", str(staged_run), "--episodes", "1", "--split", "test", "--deterministic"],
    )
    assert called.sources == commanded.sources and called.sources[0].endswith(", on its mean")
    for name, array in called.arrays.items():
        np.testing.assert_array_equal(array, commanded.arrays[name])


def test_episodes_are_as_many_as_asked_for_however_they_are_spread() -> None:
    family = make_family("point_robot", image_size=32, observation="state")
    env = make_vector_env(family, 4)
    played = list(record_random(env, family.train_tasks[:3], 2, episodes=3, seed=1))
    alone = make_vector_env(family, 1)
    others = list(record_random(alone, family.train_tasks[:3], 2, episodes=3, seed=1))
    assert [task.index for task, _ in played] == [task.index for task, _ in others] == [0, 1, 2] * 3
    for (_, one), (_, other) in zip(played, others, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
    env.close()
    alone.close()


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (("--observation", "state"), {"observation": "state"}),
        (("--frames", "3", "--action-repeat", "2", "--image-size", "32"), {"frames": 3, "action_repeat": 2}),
        (("--frames", "2", "--states", "--image-size", "32"), {"frames": 2}),
    ],
)
def test_it_is_seen_as_asked_for(tmp_path: Path, options: tuple[str, ...], seen: dict[str, Any]) -> None:
    data = record(
        tmp_path / "data", "--random", "point_robot", "--episodes", "1", "--split", "test", *options
    )
    family = make_family("point_robot", image_size=32, **seen)
    env = make_vector_env(family, 4, states="--states" in options)
    played = record_random(env, family.test_tasks, 2, episodes=1)
    for number, (task, episode) in enumerate(played):
        read = data.episode(number)
        assert data.episodes[number, 0] == task.index
        np.testing.assert_array_equal(read.frames, np.asarray(episode.frames, read.frames.dtype))
        np.testing.assert_array_equal(read.actions, episode.actions)
        np.testing.assert_array_equal(read.rewards, episode.rewards)
        if episode.states is not None:
            assert read.states is not None
            np.testing.assert_array_equal(read.states, episode.states)
    assert number + 1 == len(data.episodes) and (data.about.state_size > 0) == (
        "frames" not in seen or "--states" in options
    )
    env.close()


def test_info_tells_returns_of_each_source(tmp_path: Path, staged_run: Path) -> None:
    data = record(
        tmp_path / "data",
        *["--checkpoint", str(staged_run), "--stages", "2,4", "--episodes", "1", "--split", "test"],
    )
    text = run("dataset", "info", str(data.path), "--json", str(tmp_path / "info.json"))
    told = json.loads((tmp_path / "info.json").read_text())
    assert (told["episodes"], told["steps"], told["bytes"]) == (len(data.episodes), data.steps, data.bytes)
    for number, part in enumerate(told["sources"]):
        rewards = [
            data.episode(each).rewards.sum(dtype=float)
            for each, row in enumerate(data.episodes.tolist())
            if row[4] == number
        ]
        assert part["mean_return"] == pytest.approx(np.mean(rewards))
        assert (part["min_return"], part["max_return"]) == pytest.approx((min(rewards), max(rewards)))
        assert part["source"] in text and f"{part['mean_return']:.2f}" in text


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (PIXELS, "32 x 32 pixels, action repeat 1"),
        (STACKED, "stacks of 3 pictures of 32 x 32 pixels, action repeat 2"),
        (
            replace(PIXELS, state_size=1),
            "32 x 32 pixels, action repeat 1; and 1 number of the simulator's state",
        ),
    ],
)
def test_info_counts_what_there_is(tmp_path: Path, about: About, words: str) -> None:
    with written_data_set(tmp_path / "one", about) as writer:
        writer.add(
            RecordedTask(3, (0.0, 1.0)), recorded.episode(about, 1, np.random.default_rng(0)), "random"
        )
    lines = [
        line.partition("  ")[2].strip() for line in summary(open_data_set(tmp_path / "one")).splitlines()
    ]
    assert {"point_robot, 1 task (train)", "1 with 1 step", words} <= set(lines)
    write(tmp_path / "more", about)
    assert "point_robot, 3 tasks (train)" in summary(open_data_set(tmp_path / "more"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--episodes", "1"), "either --checkpoint DIR or --random FAMILY"),
        (("--random", "point_robot", "--checkpoint", "RUN", "--episodes", "1"), "either --checkpoint"),
        (("--random", "point_robot"), "--episodes says how many"),
        (("--random", "point_robo", "--episodes", "1"), "did you mean 'point_robot'"),
        (("--random", "point_robot", "--episodes", "1", "--image-size", "33"), "image_size must be one of"),
        (("--random", "point_robot", "--episodes", "1", "--stages", "2"), "goes with --checkpoint"),
        (("--random", "point_robot", "--episodes", "1", "--hold", "0"), "--hold must be at least 1"),
        (("--checkpoint", "RUN", "--episodes", "1", "--frames", "2"), "--frames goes with --random"),
        (("--checkpoint", "RUN", "--episodes", "1", "--stages", "3"), "has kept checkpoints of updates"),
        (("--checkpoint", "RUN", "--episodes", "1", "--stages", "3"), "is its setting checkpoint.keep"),
        (
            ("--checkpoint", "RUN/checkpoints/last", "--episodes", "1", "--stages", "2"),
            "--stages needs a run directory, and ",
        ),
        (("--random", "point_robot", "--episodes", "1", "--from-replay"), "--from-replay goes with"),
        (("--random", "point_robot", "--episodes", "1", "--deterministic"), "--deterministic goes with"),
        (("--random", "point_robot", "--episodes", "1", "--family", "point_robot"), "--family goes with"),
        (("--checkpoint", "RUN", "--episodes", "1", "--stages", "x"), "--stages takes numbers"),
        (("--checkpoint", "RUN", "--from-replay", "--split", "test"), "only training tasks in a replay"),
        (("--checkpoint", "RUN", "--from-replay", "--states"), "has none"),
        (("--checkpoint", "nowhere", "--episodes", "1"), "does not exist"),
        (("--checkpoint", "RUN", "--episodes", "1", "--family", "cheetah_vel"), "was trained on point_robot"),
        (("--random", "point_robot", "--episodes", "0"), "--episodes"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_played(
    tmp_path: Path, staged_run: Path, arguments: tuple[str, ...], words: str
) -> None:
    named = [word.replace("RUN", str(staged_run)) for word in arguments]
    line = refusal("dataset", "record", "--out", str(tmp_path / "data"), *named)
    assert words in line, line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"threads": -3}, "threads must be a whole number from 0, not -3"),
        ({"threads": 1.5}, "threads must be a whole number from 0, not 1.5"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, not 'tpu'"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_before_anything_is_played(
    tmp_path: Path, staged_run: Path, given: dict[str, Any], words: str
) -> None:
    for who in ({"random": "point_robot"}, {"checkpoint": staged_run}):
        with pytest.raises(MetaslacError) as caught:
            metaslac.record(tmp_path / "data", episodes=1, **who, **given)
        assert str(caught.value) == words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_stopped_leaves_nothing(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "metaslac", "dataset", "record", "--random", "point_robot"]
    command += ["--episodes", "4000", "--image-size", "64", "--out", str(tmp_path / "data"), "--threads", "1"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if any(path.stat().st_size > 10**6 for path in tmp_path.glob(".data.tmp-*/frames.npy")):
            break
        time.sleep(0.1)
    else:
        process.kill()
        raise AssertionError("nothing was recorded in a minute")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.splitlines()[-1] == "metaslac: interrupted", stderr
    assert not list(tmp_path.iterdir())


def test_trials_are_played_with_the_belief_of_the_trial_alone(staged_run: Path) -> None:
    """The first episodes act on the prior, and a trial knows nothing of the one before it."""
    family = make_family("point_robot", image_size=32)
    agent, env = load_agent(staged_run, CPU), make_vector_env(family, 2)
    begun: list[tuple[bool, bool]] = []
    begin = agent.begin_episode

    def spy(frames: Any, rngs: Any, exploring: bool, drawing: Any) -> None:
        begun.append((exploring, bool((agent.belief.std == 1).all())))
        begin(frames, rngs, exploring, drawing)

    agent.begin_episode = spy
    list(record_trials(agent, env, family.train_tasks[:2], episodes=5, trial_episodes=2))
    assert begun == [(True, True), (False, False)] * 2 + [(True, True)]
    env.close()
