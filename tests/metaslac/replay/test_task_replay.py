"""Replay on a counting environment: every pixel of a frame is the number of its step."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metaslac.replay.experience import Context, Episode, Windows, repeats
from metaslac.replay.task_replay import TaskReplay, replay_bytes

CPU = torch.device("cpu")
STEPS, WINDOW = 10, 4


def counting_episode(episode: int, length: int = STEPS, terminated: bool = False) -> Episode:
    """Frame t shows 20 * episode + t; dense reward t is that plus a half, the reward its negative.

    Numbers beyond 255 go on in the second channel.
    """
    numbers = 20 * episode + np.arange(length + 1)
    frames = np.broadcast_to(numbers[:, None, None, None], (length + 1, 4, 4, 3)).astype(np.uint8)
    frames[..., 1] = (numbers // 256)[:, None, None]
    step = (numbers[:-1] + 0.5).astype(np.float32)
    return Episode(frames, np.stack((step, -step), -1), -step, step, terminated, False, length)


def counting_replay(lengths: list[list[int]], capacity: int = 8) -> TaskReplay:
    """Tasks with episodes of the given lengths; the last episode of each is its context pool."""
    replay = TaskReplay(len(lengths), capacity, 1, STEPS, 4, 2, CPU)
    number = 0
    for task, task_lengths in enumerate(lengths):
        for index, length in enumerate(task_lengths):
            replay.add(task, counting_episode(number, length, length < STEPS), index == len(task_lengths) - 1)
            number += 1
    return replay


def test_windows_are_consecutive_never_cross_episodes_and_pad_with_the_first_frame() -> None:
    replay = counting_replay([[10, 3], [7, 10, 10]])
    tasks = torch.tensor([1, 0])
    windows = replay.sample_windows(tasks, 500, WINDOW, torch.Generator().manual_seed(0))
    first_episode = {0: 0, 1: 2}
    for k, task in enumerate(tasks.tolist()):
        for w in range(500):
            numbers = windows.frames[k, w, :, 0, 0, 0].tolist()
            valid = windows.valid[k, w].tolist()
            episode, last = divmod(numbers[-1], 20)
            assert episode >= first_episode[task] and 1 <= last <= STEPS
            expected = [20 * episode + max(0, last - WINDOW + i) for i in range(WINDOW + 1)]
            assert numbers == expected
            assert valid == [last - WINDOW + i >= 0 for i in range(WINDOW + 1)]
            for i in range(WINDOW):
                value = numbers[i] + 0.5 if valid[i] else 0.0
                assert windows.r[k, w, i] == value
                assert windows.a[k, w, i].tolist() == [value, -value]
            restarts = [i == 0 or last - WINDOW + i <= 0 for i in range(WINDOW + 1)]
            assert windows.restart[k, w].tolist() == restarts


def test_last_transitions_are_uniform_over_the_stored_steps_and_only_true_ends_terminate() -> None:
    replay = counting_replay([[10, 3]])
    windows = replay.sample_windows(torch.tensor([0]), 26_000, WINDOW, torch.Generator().manual_seed(1))
    last = windows.frames[0, :, -1, 0, 0, 0].numpy()
    numbers, counts = np.unique(last, return_counts=True)
    assert numbers.tolist() == [*range(1, 11), *range(21, 24)]
    assert abs(counts - 2_000).max() < 250  # more than five standard deviations
    assert np.array_equal(windows.terminated[0].numpy(), last == 23)


def test_context_comes_from_the_pool_alone_in_whole_segments() -> None:
    replay = counting_replay([[10, 10], [10, 4]])
    context = replay.sample_context(torch.tensor([0, 1]), 4_000, 6, torch.Generator().manual_seed(2))
    numbers = context.frames[..., 0, 0, 0].int()
    steps = numbers[..., :-1][context.valid], numbers[..., 1:][context.valid]
    assert torch.equal(steps[1], steps[0] + 1)
    assert torch.equal(context.r[context.valid], -steps[0] - 0.5)
    assert torch.equal(context.a[..., 0], -context.r) and torch.equal(context.a[..., 1], context.r)
    for task, first, length in ((0, 20, 10), (1, 60, 4)):  # the last episode of each, all of it, evenly
        seen, counts = numbers[task, :, :-1][context.valid[task]].unique(return_counts=True)
        assert seen.tolist() == list(range(first, first + length))
        assert counts.max() < 1.2 * counts.min()
    replay.add(0, counting_episode(5), context=True)
    numbers = replay.sample_context(torch.tensor([0]), 300, 6, torch.Generator()).frames[..., 0, 0, 0]
    assert set(numbers.flatten().tolist()) == set(range(100, 111))


def test_the_ring_keeps_the_newest_episodes() -> None:
    replay = TaskReplay(1, 3, 2, STEPS, 4, 2, CPU)
    for number in range(5):
        replay.add(0, counting_episode(number), context=False)
    windows = replay.sample_windows(torch.tensor([0]), 400, WINDOW, torch.Generator().manual_seed(3))
    assert set((windows.frames[0, :, -1, 0, 0, 0] // 20).tolist()) == {2, 3, 4}
    assert replay.steps() == 3 * STEPS


def test_the_context_pool_is_the_newest_marked_episodes_that_are_still_stored() -> None:
    replay = TaskReplay(1, 4, 2, STEPS, 4, 2, CPU)
    pools = []
    for number, context in enumerate([True, True, True, False, False, False, True, False]):
        replay.add(0, counting_episode(number), context)
        offsets = replay.offsets[0, replay.in_context[0]]
        pools.append(sorted((replay.frames[offsets, 0, 0, 0] // 20).tolist()))
    # episode 5 goes into the place of episode 1, episode 6 into that of episode 2
    assert pools == [[0], [0, 1], [1, 2], [1, 2], [1, 2], [2], [6], [6]]


class Kept(NamedTuple):
    """An episode in the model below."""

    number: int
    length: int
    marked: bool


class ListModel:
    """The replay of one task as a list of the ring's places, each with the episode that has a frame there."""

    def __init__(self, episodes: int, context_steps: int) -> None:
        self.ring: list[Kept | None] = [None] * (episodes * (STEPS + 1))
        self.head, self.context_steps = 0, context_steps

    def add(self, episode: Kept) -> None:
        if episode.length == 0:
            return
        if self.head + episode.length + 1 > len(self.ring):
            self.forget(self.head, len(self.ring))
            self.head = 0
        end = self.head + episode.length + 1
        self.forget(self.head, end)
        self.ring[self.head : end] = [episode] * (episode.length + 1)
        self.head = end

    def forget(self, start: int, end: int) -> None:
        gone = set(self.ring[start:end])
        self.ring = [None if kept in gone else kept for kept in self.ring]

    def stored(self) -> list[Kept]:
        return sorted({kept for kept in self.ring if kept is not None})

    def pool(self) -> list[Kept]:
        marked = [kept for kept in self.stored() if kept.marked]
        for start in reversed(range(len(marked))):
            if sum(kept.length for kept in marked[start:]) >= self.context_steps:
                return marked[start:]
        return marked or self.stored()[-1:]

    def windows(self) -> set[object]:
        return {window_of(kept, t) for kept in self.stored() for t in range(kept.length)}

    def segments(self, length: int) -> set[object]:
        pool = self.pool()
        return {segment_of(kept, start, length) for kept in pool for start in range(1 - length, kept.length)}


def window_of(kept: Kept, t: int) -> object:
    """The window whose last transition is an episode's t-th, as drawn_windows tells it."""
    index = range(t + 1 - WINDOW, t + 2)
    steps = [20 * kept.number + i + 0.5 if i >= 0 else 0.0 for i in index[:-1]]
    return (
        tuple(20 * kept.number + max(i, 0) for i in index),
        tuple((step, -step) for step in steps),
        tuple(steps),
        tuple(n == 0 or i <= 0 for n, i in enumerate(index)),
        tuple(i >= 0 for i in index),
        kept.length < STEPS and t + 1 == kept.length,
    )


def segment_of(kept: Kept, start: int, length: int) -> object:
    """The segment of a context from an episode's step `start` on, as drawn_segments tells it."""
    index = range(start, start + length + 1)
    steps = [20 * kept.number + min(max(i, 0), kept.length - 1) + 0.5 for i in index[:-1]]
    return (
        tuple(20 * kept.number + min(max(i, 0), kept.length) for i in index),
        tuple((step, -step) for step in steps),
        tuple(-step for step in steps),
        tuple(0 <= i < kept.length for i in index[:-1]),
    )


def nested(values: list[object]) -> tuple[object, ...]:
    return tuple(nested(value) if isinstance(value, list) else value for value in values)


def numbers_of(frames: torch.Tensor) -> torch.Tensor:
    assert (frames == frames[..., :1, :1, :]).all()
    return frames[..., 0, 0, 0].int() + 256 * frames[..., 0, 0, 1].int()


def drawn_windows(windows: Windows, k: int) -> list[object]:
    parts = (numbers_of(windows.frames[k]), *(part[k] for part in windows[1:6]))
    return list(zip(*(nested(part.tolist()) for part in parts), strict=True))


def drawn_segments(context: Context, k: int) -> list[object]:
    parts = (numbers_of(context.frames[k]), *(part[k] for part in context[1:4]))
    return list(zip(*(nested(part.tolist()) for part in parts), strict=True))


def told_again(context: Context, k: int) -> list[list[bool]]:
    """Whether each transition was seen before, from the numbers in its frames; outside an episode none is."""
    seen: set[int] = set()
    again = []
    for frames, valid in zip(numbers_of(context.frames[k]).tolist(), context.valid[k].tolist(), strict=True):
        again.append([inside and number in seen for number, inside in zip(frames, valid, strict=False)])
        seen |= {number for number, inside in zip(frames, valid, strict=False) if inside}
    return again


EPISODE = st.tuples(st.integers(0, 1), st.integers(0, STEPS), st.booleans())  # task, steps, marked
EPISODES = st.lists(EPISODE, min_size=1, max_size=6) | st.lists(EPISODE, min_size=20, max_size=40)


@settings(deadline=None, max_examples=60)
@example([(0, steps, True) for steps in (9, 4, 2, 2, 9, 5, 7)], 2, 1, 3)  # leaves one behind at the end
@example([(0, steps, steps != 6) for steps in (1, 9, 6)], 1, 1, 3)  # leaves none that is marked
@given(EPISODES, st.integers(1, 4), st.integers(1, 3), st.integers(1, 7))
def test_whatever_is_added_is_drawn_as_from_a_plain_list(
    added: list[tuple[int, int, bool]], capacity: int, context_episodes: int, length: int
) -> None:
    replay = TaskReplay(2, capacity, context_episodes, STEPS, 4, 2, CPU)
    models = [ListModel(capacity, context_episodes * STEPS) for _ in range(2)]
    for number, (task, steps, marked) in enumerate(added):
        replay.add(task, counting_episode(number, steps, 0 < steps < STEPS), marked)
        models[task].add(Kept(number, steps, marked))
    stored = [model.stored() for model in models]
    assert replay.steps() == sum(kept.length for kept in stored[0] + stored[1])
    for task, kept in enumerate(stored):  # the newest ones, none left out
        numbers = [n for n, (t, steps, _) in enumerate(added) if t == task and steps]
        assert [entry.number for entry in kept] == numbers[len(numbers) - len(kept) :]
    generator = torch.Generator().manual_seed(0)
    filled = [task for task in (1, 0) if stored[task]]
    if filled:
        # each of at most 40 windows is missed with a probability of less than exp(-35)
        windows = replay.sample_windows(torch.tensor(filled), 1_400, WINDOW, generator)
        assert [set(drawn_windows(windows, k)) for k in range(len(filled))] == [
            models[task].windows() for task in filled
        ]
        count = 35 * max(len(models[task].segments(length)) for task in filled)
        for apart in (False, True):
            context = replay.sample_context(torch.tensor(filled), count, length, generator, apart)
            assert [set(drawn_segments(context, k)) for k in range(len(filled))] == [
                models[task].segments(length) for task in filled
            ]
        assert context.distinct.tolist() == [
            sum(kept.length for kept in models[task].pool()) for task in filled
        ]
        assert context.repeated.tolist() == [told_again(context, k) for k in range(len(filled))]


UNEQUAL = [10, 1, 3, 1, 7, 2]


def unequal_replay() -> TaskReplay:
    replay = TaskReplay(1, 4, 4, STEPS, 4, 2, CPU)
    for number, length in enumerate(UNEQUAL):
        replay.add(0, counting_episode(number, length), context=True)
    return replay


def deviations(numbers: torch.Tensor, draws: int, chance: float) -> torch.Tensor:
    """How far each transition's count is from that of `draws` with its chance, in standard deviations."""
    seen, counts = numbers.unique(return_counts=True)
    assert seen.tolist() == [20 * e + t for e, length in enumerate(UNEQUAL) for t in range(length)]
    return (counts - draws * chance) / (draws * chance * (1 - chance)) ** 0.5


def test_windows_are_uniform_over_the_transitions_of_unequal_episodes() -> None:
    draws = 24_000
    windows = unequal_replay().sample_windows(
        torch.tensor([0]), draws, WINDOW, torch.Generator().manual_seed(4)
    )
    off = deviations(numbers_of(windows.frames)[0, :, -1] - 1, draws, 1 / sum(UNEQUAL))
    assert off.abs().max() < 4 and 0.3 < off.square().mean() < 2


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("length", [1, 6, 25])
def test_contexts_are_uniform_over_the_transitions_of_unequal_episodes(length: int, apart: bool) -> None:
    contexts, segments = 4_000, 6
    context = unequal_replay().sample_context(
        torch.zeros(contexts, dtype=torch.long), segments, length, torch.Generator().manual_seed(5), apart
    )
    numbers = numbers_of(context.frames)[..., :-1][context.valid]
    off = deviations(numbers, contexts * segments, length / sum(n + length - 1 for n in UNEQUAL))
    least, most = (0.1, 2.0) if apart else (0.3, 2.0 * min(length, 3))  # neighbours go together
    assert off.abs().max() < 4 and least < off.square().mean() < most


def test_segments_of_a_context_are_drawn_apart() -> None:
    replay, steps = unequal_replay(), sum(UNEQUAL)
    generator = torch.Generator().manual_seed(6)
    context = replay.sample_context(torch.tensor([0, 0]), steps, 1, generator, apart=True)
    numbers = numbers_of(context.frames)[..., 0]
    assert torch.equal(*numbers.sort(1).values) and len(set(numbers[0].tolist())) == steps
    few = replay.sample_context(torch.zeros(400, dtype=torch.long), 4, 3, generator, apart=True)
    apart = few.repeated.sum() / few.valid.sum()
    alone = [replay.sample_context(torch.zeros(400, dtype=torch.long), 1, 3, generator) for _ in range(4)]
    places = torch.cat([numbers_of(part.frames)[..., :-1].masked_fill(~part.valid, -1) for part in alone], 1)
    again = repeats(places.flatten(1)) & (places.flatten(1) >= 0)
    assert 0 < apart < 0.5 * again.sum() / (places >= 0).sum()


def test_short_episodes_fill_the_replay_and_the_context_pool() -> None:
    replay = TaskReplay(1, 40, 2, 200, 4, 2, CPU)
    for _ in range(1_000):
        replay.add(0, counting_episode(0, 9), context=True)
    assert replay.steps() == 40 * 201 // 10 * 9
    assert replay.lengths[replay.in_context].sum() == 45 * 9  # the fewest that hold 400
    replay = TaskReplay(1, 3, 2, 1, 4, 2, CPU)
    for number in range(5):
        replay.add(0, counting_episode(number, 1), context=True)
    assert replay.steps() == 3


def test_an_episode_without_a_step_is_ignored() -> None:
    replay = counting_replay([[10, 3]])
    before = {name: value.clone() for name, value in vars(replay).items() if isinstance(value, torch.Tensor)}
    replay.add(0, counting_episode(5, 0), context=True)
    assert all(torch.equal(getattr(replay, name), value) for name, value in before.items())


def test_an_episode_that_does_not_fit_is_refused() -> None:
    replay = TaskReplay(1, 3, 2, STEPS, 4, 2, CPU)
    with pytest.raises(ValueError, match="11 steps"):
        replay.add(0, counting_episode(0, STEPS + 1), context=False)


def test_memory_is_the_frames_once_plus_actions_and_rewards() -> None:
    tasks, episodes, steps, actions = 2, 3, 200, 6
    replay = TaskReplay(tasks, episodes, 1, steps, 64, actions, CPU)
    held = sum(value.nbytes for value in vars(replay).values() if isinstance(value, torch.Tensor))
    per_step = held / (tasks * episodes * steps)
    ideal = 12_288 + 4 * actions + 4
    assert ideal <= per_step <= 1.02 * ideal
    assert replay_bytes(tasks, episodes, steps, 64, actions) == held
