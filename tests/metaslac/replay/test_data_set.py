"""Data sets: what was written is what is read and drawn, and memory does not grow with them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.recorded import CPU, KINDS, PIXELS, STACKED, episode, played, replay_of, tasks, write

from metaslac.config.presets import resolve
from metaslac.errors import MetaslacError
from metaslac.learning.batch import Batches
from metaslac.replay import experience as experience_module
from metaslac.replay import recorded
from metaslac.replay.data_set import About, open_data_set
from metaslac.replay.data_writer import written_data_set
from metaslac.replay.recorded import RecordedExperience


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def about(request: pytest.FixtureRequest) -> About:
    found: About = request.param
    return found


def test_what_is_read_is_what_was_written(tmp_path: Path, about: About) -> None:
    entries = write(tmp_path / "data", about)
    data = open_data_set(tmp_path / "data")
    assert (data.about, list(data.tasks), data.sources) == (about, tasks(), ("random", "update 7"))
    assert data.steps == sum(len(entry.rewards) for _, entry, _ in entries)
    assert data.bytes == sum(path.stat().st_size for path in data.path.glob("*.npy"))
    for number, (task, entry, source) in enumerate(entries):
        index, _, _, _, spoken = data.episodes[number].tolist()
        assert (index, data.sources[spoken]) == (task.index, source)
        read = data.episode(number)
        for name in ("frames", "actions", "rewards", "dense_rewards", "states"):
            np.testing.assert_array_equal(getattr(read, name), getattr(entry, name))
        assert (read.terminated, read.control_steps) == (entry.terminated, entry.control_steps)
    np.testing.assert_allclose(data.returns(), [entry.rewards.sum() for _, entry, _ in entries], atol=1e-5)


def test_it_is_shown_in_a_short_line(tmp_path: Path) -> None:
    write(tmp_path / "data")
    data = open_data_set(tmp_path / "data")
    assert repr(data) == str(data) == f"<data set {data.path}: 6 episodes of point_robot, train tasks>"


def test_its_files_are_plain_arrays_of_numpy(tmp_path: Path) -> None:
    entries = write(tmp_path / "data", STACKED)
    frames = np.load(tmp_path / "data/frames.npy", allow_pickle=False)
    places = sum(len(entry.rewards) + 1 for _, entry, _ in entries)
    assert frames.shape == (places, 2, 32, 32, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[0], entries[0][1].frames[0, -2:])


def test_it_is_drawn_from_as_a_replay_with_the_same_episodes(tmp_path: Path, about: About) -> None:
    replay = replay_of(about, write(tmp_path / "data", about))
    recorded = RecordedExperience(open_data_set(tmp_path / "data"), CPU)
    assert recorded.steps() == replay.steps()
    for seed in range(3):
        chosen = torch.randperm(3, generator=torch.Generator().manual_seed(seed))[: seed + 1]
        for draw, numbers in (("sample_windows", (40, 4)), ("sample_context", (30, 3))):
            mine, its = (
                getattr(kept, draw)(chosen, *numbers, torch.Generator().manual_seed(seed))
                for kept in (recorded, replay)
            )
            for name, value in its._asdict().items():
                other = getattr(mine, name)
                assert (value is None) == (other is None), name
                assert value is None or torch.equal(value, other), name


def test_each_episode_is_in_it_once(tmp_path: Path, about: About) -> None:
    entries = write(tmp_path / "data", about)
    recorded = RecordedExperience(open_data_set(tmp_path / "data"), CPU)
    found = [(task, recorded.episode_frames(place, count)) for task, place, count in recorded.episodes()]
    ordered = sorted(entries, key=lambda entry: entry[0].index)
    assert len(found) == len(ordered)
    for (number, frames), (task, entry, _) in zip(found, ordered, strict=True):
        assert tasks()[number] == task
        np.testing.assert_array_equal(frames.numpy(), entry.frames)


def test_what_is_drawn_of_it_never_changes_the_files(tmp_path: Path) -> None:
    write(tmp_path / "data")
    RecordedExperience(open_data_set(tmp_path / "data"), CPU).frames.fill_(3)
    open_data_set(tmp_path / "data")


def test_nothing_is_kept_of_what_was_lost_or_has_no_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = episode(PIXELS, 3, rng)
    empty = whole._replace(
        frames=whole.frames[:1],
        actions=whole.actions[:0],
        rewards=whole.rewards[:0],
        dense_rewards=whole.dense_rewards[:0],
    )
    with written_data_set(tmp_path / "data", PIXELS) as writer:
        kept = [
            writer.add(tasks()[0], entry, "random") for entry in (empty, whole, whole._replace(lost=True))
        ]
    assert kept == [False, True, False]
    assert len(open_data_set(tmp_path / "data").episodes) == 1
    with (
        pytest.raises(MetaslacError, match="nothing was recorded"),
        written_data_set(tmp_path / "none", PIXELS) as writer,
    ):
        writer.add(tasks()[0], empty, "random")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("where", ["data", "sets/new/data"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_one_that_was_stopped(tmp_path: Path, stop: BaseException, where: str) -> None:
    with (
        pytest.raises((KeyboardInterrupt, MetaslacError)),
        written_data_set(tmp_path / where, PIXELS) as writer,
    ):
        for task, entry, source in played(PIXELS):
            writer.add(task, entry, source)
        raise stop
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "file").touch()
    for path, words in (
        ("data", "is there already"),
        ("file/new/data", "file is not a directory"),
        ("new/..", "names no new directory"),
    ):
        with pytest.raises(MetaslacError, match=words), written_data_set(tmp_path / path, PIXELS):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file"]


def test_directories_above_it_that_are_missing_are_made(tmp_path: Path) -> None:
    write(tmp_path / "sets/new/data")
    assert open_data_set(tmp_path / "sets/new/data").sources == ("random", "update 7")
    with (
        pytest.raises(KeyboardInterrupt),
        written_data_set(tmp_path / "sets/more/data", PIXELS),
    ):
        (tmp_path / "sets/more/other").touch()  # somebody else's
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "sets/more").iterdir()] == ["other"]


def test_an_episode_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    entry = episode(PIXELS, 3, rng)
    others = [
        entry._replace(actions=entry.actions * 0 + 1.5),
        entry._replace(rewards=entry.rewards * np.float32("nan")),
        entry._replace(frames=entry.frames[:, :16]),
        entry._replace(actions=entry.actions[:, :1]),
        episode(PIXELS, 8, rng),
    ]
    with written_data_set(tmp_path / "data", PIXELS) as writer:
        for other in others:
            with pytest.raises(ValueError, match="of an episode|an episode of 8 steps"):
                writer.add(tasks()[0], other, "random")
        with pytest.raises(ValueError, match="two sets of parameters"):
            writer.add(tasks()[0], entry, "random")
            writer.add(replace(tasks()[0], params=(0.0, 0.0)), entry, "random")
    assert len(open_data_set(tmp_path / "data").episodes) == 1


SAMPLE = """
import sys
from pathlib import Path
import torch
from metaslac.replay.data_set import open_data_set
from metaslac.replay import experience as experience_module
from metaslac.replay import recorded
from metaslac.replay.recorded import RecordedExperience

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))

def draw(path):
    recorded = RecordedExperience(open_data_set(Path(path)), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        recorded.sample_windows(torch.arange(2), 16, 8, generator)
    return recorded

draw(sys.argv[1])
before = memory("RssAnon"), memory("RssFile")
recorded = draw(sys.argv[2])
print(memory("RssAnon") - before[0], memory("RssFile") - before[1], recorded.frames.nbytes // 1024)
"""


def test_memory_does_not_grow_with_what_is_drawn_of_it(tmp_path: Path) -> None:
    about = replace(PIXELS, episode_steps=200, image_size=64)
    rng = np.random.default_rng(0)
    steps = 199
    frames = rng.integers(0, 256, (steps + 1, 64, 64, 3), dtype=np.uint8)
    entry = episode(PIXELS, steps, rng)._replace(frames=frames)
    for name, episodes in (("small", 2), ("large", 26)):
        with written_data_set(tmp_path / name, about) as writer:
            for number in range(episodes):
                writer.add(tasks()[number % 2], entry, "random")
    paths = [str(tmp_path / name) for name in ("small", "large")]
    done = subprocess.run([sys.executable, "-c", SAMPLE, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    grown, mapped, size = map(int, done.stdout.split())  # KiB
    assert size > 60_000 and mapped > 50_000 and grown < 4_000


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells how a map is read")
def test_pictures_are_read_without_reading_ahead(tmp_path: Path) -> None:
    write(tmp_path / "data")
    experience = RecordedExperience(open_data_set(tmp_path / "data"), CPU)
    maps = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    (pictures,) = [entry for entry in maps if str(tmp_path / "data/frames.npy") in entry]
    assert "rr" in re.findall(r"VmFlags: (.*)", pictures)[0].split()
    assert len(experience.frames)


def test_what_is_drawn_is_asked_for_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data", STACKED)
    experience = RecordedExperience(open_data_set(tmp_path / "data"), CPU)
    asked: list[tuple[int, int]] = []
    touched: list[int] = []
    monkeypatch.setattr(recorded, "ask_for", lambda array, spans: asked.extend(spans))
    gathered = experience_module.gather

    def seen(store: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        if store is experience.frames:
            assert asked
            touched.extend(place.flatten().tolist())
        return gathered(store, place)

    monkeypatch.setattr(experience_module, "gather", seen)
    experience.sample_windows(torch.tensor([0, 2]), 20, 3, torch.Generator())
    experience.sample_context(torch.tensor([1]), 5, 2, torch.Generator())
    assert touched and all(any(first <= place < end for first, end in asked) for place in touched)
    assert all(0 <= first < end <= len(experience.frames) for first, end in asked)


def test_the_next_batch_is_asked_for_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data", STACKED)
    experience = RecordedExperience(open_data_set(tmp_path / "data"), CPU)
    config = resolve("quick_latent", ["train.tasks_per_update=2", "train.windows=8"])
    params = torch.zeros(3, 1)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(recorded, "ask_for", lambda array, spans: asked.extend(spans))

    def batches() -> Batches:
        return Batches(config, experience, params, torch.Generator().manual_seed(3))

    plain = batches()
    wanted = [plain.sample(), plain.sample()]
    told, ahead = batches(), list[list[tuple[int, int]]]()
    for batch in wanted:
        asked.clear()
        told.ask_ahead()
        ahead.append(sorted(asked))
        asked.clear()
        drawn = told.sample()
        assert sorted(asked) == ahead[-1]
        for one, other in zip(
            (*drawn.windows, *drawn.context), (*batch.windows, *batch.context), strict=True
        ):
            assert (one is None and other is None) or torch.equal(one, other)
    assert ahead[0] and ahead[0] != ahead[1]
    experience.features = torch.zeros(len(experience.frames), 4)
    asked.clear()
    told.ask_ahead()
    assert not asked  # nothing is read where features are kept
