"""What a CUDA graph asks for, as far as seen without CUDA: no waiting, no shape that depends on data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import FakeFamily, tiny_config

from metaslac import learner as learner_module
from metaslac.cuda_graph import WARM_UP, GraphedStep
from metaslac.learner import Batch, Learner
from metaslac.replay import TaskReplay

META = torch.device("meta")  # tensors without data: whoever asks for a number raises


@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
@pytest.mark.parametrize("gradient", ["both", "critic", "model"])
def test_neither_sampling_nor_an_update_waits_for_the_device(
    monkeypatch: pytest.MonkeyPatch, inference: str, gradient: str
) -> None:
    # torch's own optimiser, fused on CUDA, refuses tensors without data; this one is as good here.
    monkeypatch.setattr(learner_module, "adam", lambda parameters, lr: torch.optim.SGD(parameters, lr))
    config = tiny_config(inference=inference, gradient=gradient)
    family, generator = FakeFamily(), torch.Generator()
    learner = Learner(config, family.action_size, 1, META, generator)
    replay = TaskReplay(4, 4, 2, family.episode_steps, config.family.image_size, family.action_size, META)
    tasks = torch.rand(4, device=META, generator=generator).argsort()[:3]
    batch = Batch(
        replay.sample_windows(tasks, config.train.windows, config.model.window, generator),
        replay.sample_context(tasks, config.task.context_segments, config.task.context_length, generator),
        torch.zeros(4, 1, device=META)[tasks],
    )
    metrics = {**learner.pretrain(batch), **learner.update(batch)}
    assert all(value.is_meta and value.ndim == 0 for value in metrics.values())
    with pytest.raises(RuntimeError):  # so one would have raised
        float(metrics["model/loss"])
    with pytest.raises(RuntimeError):
        learner.check()


class Recorder:
    """Stands in for torch's graphs: what is captured is not done, and done again at each replay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, problem: Exception | None = None) -> None:
        self.problem = problem
        self.capturing = False
        self.registered: list[Any] = []
        self.replays = 0
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "stream", self.on_stream)

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.registered.append(generator)

    def wait_stream(self, stream: object) -> None:
        assert stream is self

    @contextmanager
    def on_stream(self, stream: object) -> Iterator[None]:
        yield

    @contextmanager
    def capture(self, graph: object, capture_error_mode: str) -> Iterator[None]:
        assert graph is self and capture_error_mode == "thread_local"
        self.capturing = True
        yield
        self.capturing = False
        if self.problem:
            raise self.problem

    def replay(self) -> None:
        self.replays += 1


def counting(recorder: Recorder) -> tuple[Callable[[], dict[str, torch.Tensor]], list[bool]]:
    made: list[bool] = []

    def step() -> dict[str, torch.Tensor]:
        made.append(recorder.capturing)
        return {"number": torch.tensor(float(len(made)))}

    return step, made


def test_a_step_is_warmed_up_captured_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, generator = Recorder(monkeypatch), torch.Generator()
    step, made = counting(recorder)
    graphed = GraphedStep(step, [generator], pytest.fail)
    for number in range(1, WARM_UP + 1):
        assert float(graphed()["number"]) == number
    assert (made, recorder.replays) == ([False] * WARM_UP, 0)
    results = [graphed() for _ in range(5)]
    assert made == [False] * WARM_UP + [True]  # what is captured is no step yet: each replay is one
    assert recorder.replays == 5 and recorder.registered == [generator]
    assert all(result is results[0] for result in results)


def test_what_cannot_be_captured_is_made_as_usual_after_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(monkeypatch, RuntimeError("operation not permitted\nwhen stream is capturing"))
    step, made = counting(recorder)
    told: list[str] = []
    graphed = GraphedStep(step, [], told.append)
    for _ in range(WARM_UP + 4):
        graphed()
    assert made == [False] * WARM_UP + [True] + [False] * 4
    assert recorder.replays == 0
    assert told == ["updates are made without a CUDA graph, which is slower: operation not permitted"]


def test_a_device_without_memory_is_no_reason_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    graphed = GraphedStep(counting(recorder)[0], [], pytest.fail)
    for _ in range(WARM_UP):
        graphed()
    with pytest.raises(torch.OutOfMemoryError):
        graphed()


def test_a_step_size_in_a_tensor_is_set_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, where a graph reads it at its place."""

    def with_tensor(parameters: Any, lr: float) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, torch.tensor(lr), fused=True, capturable=False)

    config = tiny_config()
    config = replace(config, train=replace(config.train, lr_decay=0.5))
    monkeypatch.setattr(learner_module, "adam", with_tensor)
    learner = Learner(config, 1, 1, torch.device("cpu"), torch.Generator())
    groups = {name: optimizer.param_groups[0] for name, optimizer in learner.optimizers.items()}
    places = {name: group["lr"].data_ptr() for name, group in groups.items()}
    learner.anneal(0.75)
    for name, group in groups.items():
        assert float(group["lr"]) == pytest.approx(0.5 * getattr(config.train, f"lr_{name}"))
        assert group["lr"].data_ptr() == places[name]
