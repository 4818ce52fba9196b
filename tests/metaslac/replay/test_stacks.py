"""Stacks of pictures: each picture is stored once, and what is drawn is what the agent saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaslac.replay.experience import Episode
from metaslac.replay.task_replay import TaskReplay, replay_bytes

CPU = torch.device("cpu")
SIZE, STEPS = 4, 5


def episode(number: int, steps: int, stack: int, repeat: int) -> Episode:
    """Pictures are numbered: control step c is 100 * number + c; the first one stands k times."""
    frames = np.zeros((steps + 1, stack, SIZE, SIZE, 3), np.uint8)
    for t in range(steps + 1):
        for place in range(stack):
            control = max(t * repeat - (stack - 1 - place), 0)
            frames[t, place] = 100 * number + control
    a = np.zeros((steps, 1), np.float32)
    r = np.arange(steps, dtype=np.float32)
    states = np.stack((np.full(steps + 1, number), np.arange(steps + 1)), 1).astype(np.float32)
    return Episode(frames, a, r, r, False, False, steps * repeat, states=states)


@pytest.mark.parametrize(("stack", "repeat"), [(2, 1), (3, 1), (2, 2), (3, 2), (2, 4), (3, 4)])
def test_stacks_are_drawn_as_they_were_seen(stack: int, repeat: int) -> None:
    replay = TaskReplay(1, 4, 4, STEPS, SIZE, 1, CPU, stack, repeat, state_size=2)
    played = [episode(number, steps, stack, repeat) for number, steps in enumerate((5, 2))]
    for entry in played:
        replay.add(0, entry, context=True)
    assert replay.frames.shape[1] == min(stack, repeat)  # as many as a decision adds
    generator = torch.Generator().manual_seed(0)
    windows = replay.sample_windows(torch.tensor([0]), 200, 3, generator)
    assert windows.frames is not None and windows.state is not None
    seen = set()
    for frames, valid, state in zip(windows.frames[0], windows.valid[0], windows.state[0], strict=True):
        number = int(state[1, 0])
        last = int(state[1, 1])
        assert state[0].tolist() == [number, last - 1]
        assert valid.tolist() == [last - 3 + i >= 0 for i in range(4)]
        index = np.maximum(np.arange(last - 3, last + 1), 0)
        np.testing.assert_array_equal(frames.numpy(), played[number].frames[index])
        seen.add((number, last))
    assert seen == {(0, t) for t in range(1, 6)} | {(1, t) for t in range(1, 3)}
    context = replay.sample_context(torch.tensor([0]), 100, 2, generator)
    assert context.frames is not None
    everything = {stack.tobytes() for entry in played for stack in entry.frames}
    assert {part.numpy().tobytes() for part in context.frames.flatten(0, 2)} == everything
    for entry, stored in zip(played, replay.stored[0], strict=True):
        drawn = replay.episode_frames(stored.offset, stored.length + 1)
        np.testing.assert_array_equal(drawn.numpy(), entry.frames)


@pytest.mark.parametrize(("stack", "repeat", "states", "features"), [(1, 4, 0, 0), (3, 2, 7, 16)])
def test_what_it_takes_is_what_it_is_said_to(stack: int, repeat: int, states: int, features: int) -> None:
    replay = TaskReplay(3, 4, 2, STEPS, SIZE, 2, CPU, stack, repeat, states)
    stores = [replay.frames, replay.actions, replay.rewards, replay.dense_rewards, replay.states]
    stores += [replay.offsets, replay.lengths, replay.terminated, replay.in_context]
    if features:
        stores.append(torch.zeros(len(replay.frames), features, dtype=torch.float16))
    said = replay_bytes(3, 4, STEPS, SIZE, 2, min(stack, repeat), states, features)
    assert sum(store.nbytes for store in stores) == said
