"""One step of training as one CUDA graph: hundreds of kernels launched at once, not one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from metaslac.learning.faults import is_out_of_memory
from metaslac.networks.latent_models.base import Metrics

WARM_UP = 3  # steps made as usual first: libraries set themselves up, optimisers make their state


class GraphedStep:
    """A step that is captured once it is warm and replayed from then on.

    What the step reads and writes has to stay at its place in memory, and nothing in it may wait for the
    device. What it returns is overwritten by the next call. Where it cannot be captured, it is made as
    usual, after a warning.

    Args:
        step: from nothing to 0-d tensors, reading and writing tensors that it holds.
        generators: on the device, that it draws from.
        warn: told once, in words, why there is no graph.
    """

    def __init__(
        self,
        step: Callable[[], Metrics],
        generators: Sequence[torch.Generator],
        warn: Callable[[str], None],
    ) -> None:
        self._step = step
        self._generators = generators
        self._warn = warn
        self._graph: torch.cuda.CUDAGraph | None = None
        self._metrics: Metrics = {}
        self._until_capture = WARM_UP
        self._stream = torch.cuda.Stream()  # one for all warm-up steps: each has a memory pool of its own

    def __call__(self) -> Metrics:
        """Make the step."""
        if self._until_capture > 0:
            self._until_capture -= 1
            return self._warmed()
        if self._until_capture == 0:
            self._until_capture = -1
            self._capture()
        if self._graph is None:
            return self._step()
        self._graph.replay()
        return self._metrics

    def _warmed(self) -> Metrics:
        """The step on a stream of its own, as a capture will be: torch asks for it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            metrics = self._step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return metrics

    def _capture(self) -> None:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        states = [generator.clone_state() for generator in self._generators]
        try:
            for generator in self._generators:
                graph.register_generator_state(generator)
            # Another thread may be collecting meanwhile; what it does on the device is not this graph's.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                metrics = self._step()
        except RuntimeError as error:
            # A capture that cannot be ended stays on its stream, and before torch 2.13 its generators give
            # no numbers any more; that it cannot be ended hides why.
            torch.cuda.set_stream(stream)
            for generator, state in zip(self._generators, states, strict=True):
                generator.graphsafe_set_state(state)
            first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            if is_out_of_memory(first):
                raise first from None
            reason = str(first).strip().partition("\n")[0]
            self._warn(f"updates are made without a CUDA graph, which is slower: {reason}")
        else:
            self._graph, self._metrics = graph, metrics
