"""Replay on a counting environment: every pixel of a frame is the number of its step."""

import numpy as np
import pytest
import torch

from metaslac.replay import Episode, TaskReplay, replay_bytes

CPU = torch.device("cpu")
STEPS, WINDOW = 10, 4


def counting_episode(episode: int, length: int = STEPS, terminated: bool = False) -> Episode:
    """Frame t shows 20 * episode + t; dense reward t is that plus a half, the reward its negative."""
    numbers = 20 * episode + np.arange(length + 1)
    frames = np.broadcast_to(numbers[:, None, None, None], (length + 1, 4, 4, 3)).astype(np.uint8)
    step = (numbers[:-1] + 0.5).astype(np.float32)
    return Episode(frames, np.stack((step, -step), -1), -step, step, terminated)


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
        slots = replay.in_context[0].nonzero()[:, 0]
        pools.append(sorted((replay.frames[0, slots, 0, 0, 0, 0] // 20).tolist()))
    # episode 5 goes into the slot of episode 1, episode 6 into that of episode 2
    assert pools == [[0], [0, 1], [1, 2], [1, 2], [1, 2], [2], [6], [6]]


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
