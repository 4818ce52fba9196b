"""Context that an agent is given of tasks it has not met: episodes of a data set, which somebody else played.

The other protocol, in which it explores for itself, needs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metaslac.errors import MetaslacError
from metaslac.launchers.api.family import tasks_of
from metaslac.launchers.api.offline import check_data

if TYPE_CHECKING:
    from metaslac.acting.rollout import Task
    from metaslac.launchers.api.trained import Trained
    from metaslac.replay.experience import Episode


def check_context(context: str | Path | None, episodes: int | None) -> None:
    """Raise MetaslacError for a number of episodes, None if not said, that does not go with `context`."""
    if episodes is not None and (context is None or episodes < 1):
        raise MetaslacError(f"context_episodes, {episodes}, goes with context and is at least 1")


class GivenContext:
    """The episodes of a data set for each trial.

    Args:
        path: of the data set.
        episodes: so many in each trial.
        trained: the agent that is given them, with its family.
        split: of the family's tasks that the trials are on.

    Raises:
        MetaslacError: it is damaged, not of these tasks as the agent sees them, or too small.
    """

    def __init__(self, path: Path, episodes: int, trained: Trained, split: str) -> None:
        from metaslac.replay.data_set import open_data_set

        self.path = path
        self.episodes = episodes
        self._data = open_data_set(path)
        check_data(self._data, trained.family, trained.config, split)
        self._numbers: dict[int, list[int]] = {}
        for number, task in enumerate(self._data.episodes[:, 0].tolist()):
            self._numbers.setdefault(task, []).append(number)
        tasks = tasks_of(trained.family, split)
        fewest = min(len(self._numbers.get(task.index, [])) for task in tasks)
        if fewest < episodes:
            raise MetaslacError(f"--context-episodes {episodes}: {path} has {fewest} of a task")

    @property
    def words(self) -> str:
        """What is given, and of which data set, which tells it from any other."""
        many = f"{self.episodes} episode{'s' * (self.episodes > 1)}"
        return f"{many} of data set {self._data.checksum[:12]}"

    def __call__(self, task: Task, trial: int) -> Sequence[Episode]:
        """What a trial on a task is given: the episodes after those of the trial before, and around."""
        numbers = self._numbers[task.index]
        first = trial * self.episodes
        return [self._data.episode(numbers[(first + i) % len(numbers)]) for i in range(self.episodes)]
