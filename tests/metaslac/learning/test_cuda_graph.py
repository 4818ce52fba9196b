"""What a CUDA graph asks for, as far as seen without CUDA: no waiting, no shape that depends on data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import CPU, FakeFamily, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metaslac.config.sections import Config
from metaslac.config.text import with_values
from metaslac.learning import learner as learner_module
from metaslac.learning.cuda_graph import WARM_UP, GraphedStep
from metaslac.learning.learner import Batch, Learner
from metaslac.replay.task_replay import TaskReplay

META = torch.device("meta")  # tensors without data: whoever asks for a number raises


class NothingOfTheHost(TorchDispatchMode):
    """No tensor on the CPU is used within: a device would wait for its copy, and a graph keep its address."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        assert all(tensor.is_meta for tensor in tensors), func
        return out


FROM_CRITICS = {
    "model.elbo_weight": 0.0,
    "actor_critic.critic_input": "features",
    "train.encoder_from_critic": True,
    "train.random_shift": 4,
    "train.pretrain_updates": 0,
}

LOMPO = {
    **{"actor_critic.actor_input": "latent", "actor_critic.deterministic": True, "model.heads": 3},
    **{"imagination.share": 0.5, "imagination.penalty": "log_prob"},
}


@pytest.mark.parametrize("inference", ["infer", "oracle", "blind"])
@pytest.mark.parametrize("gradient", ["both", "critic", "model"])
def test_neither_sampling_nor_an_update_waits_for_the_device(
    monkeypatch: pytest.MonkeyPatch, inference: str, gradient: str
) -> None:
    check_nothing_waits(monkeypatch, tiny_config(inference=inference, gradient=gradient))


@pytest.mark.parametrize(
    "settings",
    [
        FROM_CRITICS,
        {"train.random_shift": 4},
        {"train.predict_with_critics": False},
        LOMPO,
        {**FROM_CRITICS, "train.cloning": True},
        {"actor_critic.cloning_weight": 1.0},
    ],
    ids=["encoder from critics", "shifted", "slac", "imagined", "cloned", "cloned beside critics"],
)
def test_nor_does_one_of_another_kind(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    check_nothing_waits(monkeypatch, with_values(tiny_config(), settings))


def check_nothing_waits(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    """That a batch is drawn, and an update of each kind made of it, on tensors without data."""
    # torch's own optimiser, fused on CUDA, refuses tensors without data; this one is as good here.
    monkeypatch.setattr(learner_module, "adam", lambda parameters, lr: torch.optim.SGD(parameters, lr))
    config = replace(config, train=replace(config.train, extra_steps=2))
    family, generator = FakeFamily(), torch.Generator()
    learner = Learner(config, family.action_size, 1, META, generator)
    replay = TaskReplay(4, 4, 2, family.episode_steps, config.family.image_size, family.action_size, META)
    with NothingOfTheHost():
        tasks = torch.rand(4, device=META, generator=generator).argsort()[:3]
        batch = Batch(
            replay.sample_windows(tasks, config.train.windows, config.model.window, generator),
            replay.sample_context(tasks, config.task.context_segments, config.task.context_length, generator),
            torch.zeros(4, 1, device=META)[tasks],
        )
        metrics = learner.update(batch)
        if not config.train.encoder_from_critic:
            metrics |= learner.pretrain(batch)
    assert all(value.is_meta and value.ndim == 0 for value in metrics.values())
    with pytest.raises(RuntimeError):  # so one would have raised
        float(metrics["actor/loss"])
    with pytest.raises(RuntimeError):
        learner.check()


class Recorder:
    """Stands in for torch's graphs: what is captured is not done, and done again at each replay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, problem: Exception | None = None) -> None:
        self.problem = problem
        self.capturing = False
        self.streams = 0
        self.current: object = self
        self.registered: list[Any] = []
        self.replays = 0
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)
        monkeypatch.setattr(torch.cuda, "Stream", self.new_stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "set_stream", self.set_stream)
        monkeypatch.setattr(torch.cuda, "stream", self.on_stream)

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.registered.append(generator)

    def new_stream(self) -> Recorder:
        self.streams += 1
        return self

    def set_stream(self, stream: object) -> None:
        self.current = stream

    def wait_stream(self, stream: object) -> None:
        assert stream is self

    @contextmanager
    def on_stream(self, stream: object) -> Iterator[None]:
        yield

    @contextmanager
    def capture(self, graph: object, capture_error_mode: str) -> Iterator[None]:
        assert graph is self and capture_error_mode == "thread_local"
        self.capturing, before, self.current = True, self.current, "the capture's"
        try:
            yield
        finally:  # as torch's does
            self.capturing = False
            if self.problem:
                raise self.problem
            self.current = before

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
    assert recorder.streams == 1  # or every warm-up step would have memory of its own
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


class Captured:
    """Stands in for a generator on CUDA, which a capture that cannot be ended leaves unusable."""

    state: object = "usable"

    def clone_state(self) -> object:
        return f"a copy that is {self.state}"

    def graphsafe_set_state(self, state: object) -> None:
        self.state = state


def test_a_capture_that_cannot_be_ended_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its stream nor its generators' state; the reason told is the operation's, not the end's."""
    recorder = Recorder(monkeypatch, RuntimeError("operation failed due to a previous error during capture"))
    generator: Any = Captured()
    told: list[str] = []

    def step() -> dict[str, torch.Tensor]:
        if recorder.capturing:
            generator.state = "capturing"
            raise RuntimeError("operation not permitted")
        return {}

    graphed = GraphedStep(step, [generator], told.append)
    for _ in range(WARM_UP + 2):
        graphed()
    assert (recorder.current, generator.state) == (recorder, "a copy that is usable")
    assert told == ["updates are made without a CUDA graph, which is slower: operation not permitted"]


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_ends_while_capturing_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, problem: RuntimeError
) -> None:
    recorder = Recorder(monkeypatch, RuntimeError("operation failed due to a previous error during capture"))

    def step() -> dict[str, torch.Tensor]:
        if recorder.capturing:
            raise problem
        return {}

    graphed = GraphedStep(step, [], pytest.fail)
    for _ in range(WARM_UP):
        graphed()
    with pytest.raises(RuntimeError) as raised:
        graphed()
    assert raised.value is problem


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


def test_the_state_of_a_cpu_goes_on_as_a_graph_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments and counts of steps on the device, the step size in a tensor of each optimiser's own."""

    def capturable(parameters: Any, lr: float) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, torch.tensor(lr), fused=True, capturable=True)

    config = tiny_config()
    source = Learner(config, 1, 1, CPU, torch.Generator())
    for optimizer in source.optimizers.values():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    monkeypatch.setattr(learner_module, "adam", capturable)
    learner = Learner(config, 1, 1, META, torch.Generator())
    learner.load_state(source.state())
    for name, optimizer in learner.optimizers.items():
        group = optimizer.param_groups[0]
        assert float(group["lr"]) == pytest.approx(getattr(config.train, f"lr_{name}"))
        assert isinstance(group["lr"], torch.Tensor) and group["fused"] and group["capturable"]
        assert len(optimizer.state) == len(group["params"])
        for parameter, values in optimizer.state.items():
            assert all(value.is_meta and value.dtype == torch.float32 for value in values.values())
            assert values["exp_avg"].shape == parameter.shape and values["step"].shape == ()
    assert len({optimizer.param_groups[0]["lr"].data_ptr() for optimizer in learner.optimizers.values()}) == 5
