"""Updates on fresh batches, singly or as a CUDA graph; one that is not finite leaves its numbers in a file.

What an update is lies in learning/; when one is made, in the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metaslac.errors import TrainingFault
from metaslac.learning.batch import Batch, Batches
from metaslac.learning.cuda_graph import GraphedStep
from metaslac.learning.faults import write_dump
from metaslac.learning.learner import Learner
from metaslac.learning.optimizers import NonFinite
from metaslac.networks.latent_models.base import Metrics
from metaslac.ranks.sharding import WHOLE, Shard


class NonFiniteUpdate(TrainingFault):
    """An update was not finite; the text says where its numbers are, and not yet what is left of the run."""


class Updates:
    """Makes the updates of one run.

    Args:
        learner: whose updates these are.
        batches: where their batches come from.
        run_dir: where the numbers of one that is not finite are left.
        count: how many updates were made, for the name of that file.
        warn: is told why there is no CUDA graph, where there could be one.
        shard: of the rank that makes them.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        run_dir: Path,
        count: Callable[[], int],
        warn: Callable[[str], None],
        shard: Shard = WHOLE,
    ) -> None:
        self._shard = shard
        self._learner = learner
        self._batches = batches
        self._run_dir = run_dir
        self._count = count
        self._warn = warn
        asked = learner.device.type == "cuda" and learner.config.runtime.cuda_graph
        self._graphs = asked and shard.ranks.size == 1
        if asked and not self._graphs:
            warn("several ranks: updates are made without a CUDA graph, which is slower")
        self._graph: tuple[Callable[[Batch], Metrics], GraphedStep] | None = None

    def make(self, update: Callable[[Batch], Metrics], windows: int | None = None) -> Metrics:
        """One update, one of the learner's, on a new batch. Raises NonFiniteUpdate."""
        if self._graphs:
            return self._graphed(update, windows)()
        batch = None
        try:
            batch = self._batches.sample(windows)
            self._batches.ask_ahead(windows)
            return update(batch)
        except NonFinite as error:
            raise self._fault(error, batch) from None

    def numbers(self, metrics: Metrics) -> dict[str, float]:
        """The metrics as numbers, the means of all ranks': the one place that waits for the device.

        Raises NonFiniteUpdate.
        """
        self.check()
        return self._shard.mean({name: float(value) for name, value in metrics.items()})

    def check(self) -> None:
        """Raise NonFiniteUpdate if any update so far was."""
        try:
            self._learner.check()
        except NonFinite as error:
            raise self._fault(error, None) from None

    def _graphed(self, update: Callable[[Batch], Metrics], windows: int | None) -> GraphedStep:
        """An update and its batch as one CUDA graph, which replaces that of another kind of update."""
        if self._graph is None or self._graph[0] != update:
            batches, learner = self._batches, self._learner
            generators = batches.generator, learner.chance.generator
            step = GraphedStep(lambda: update(batches.sample(windows)), generators, self._warn)
            self._graph = update, step
        return self._graph[1]

    def _fault(self, error: NonFinite, batch: Batch | None) -> NonFiniteUpdate:
        ranks = self._shard.ranks
        whose = f"-rank{ranks.rank}" if ranks.size > 1 else ""
        dump = self._run_dir / f"fault-{self._count():08d}{whose}.json"
        try:
            write_dump(dump, str(error), batch, self._learner.networks, self._learner.config)
            return NonFiniteUpdate(f"{error}; its numbers are in {dump}")
        except OSError as problem:
            return NonFiniteUpdate(f"{error}; its numbers cannot be written to {dump} ({problem.strerror})")
