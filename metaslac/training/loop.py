"""The loop over time: pre-train, then update, evaluate, log and save, until the last update.

Where experience comes from is the business of those who make a Training of it: online.py plays, offline.py
has a data set.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from metaslac.acting.adaptation import TaskAdaptation, of_all, slots_for
from metaslac.acting.rollout import Interruptible, VectorEnv
from metaslac.config.sections import Config
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.evidence.evaluation import returns_array
from metaslac.learning.faults import is_out_of_memory, what_to_lower
from metaslac.ranks.ranks import RankLost
from metaslac.training.log.columns import Split, evaluation_columns
from metaslac.training.log.run_log import Pace, RunLog
from metaslac.training.refresh import Refresh
from metaslac.training.saving import Saver
from metaslac.training.trainer import Family, Trainer
from metaslac.training.updates import NonFiniteUpdate, Updates

Result = TypeVar("Result")


class StopRequested(Exception):
    """Someone asked for a stop; the training is at a point from which it can go on, told in words."""


class ClosableVectorEnv(VectorEnv, Protocol):
    """An environment of a run, which closes it."""

    def close(self) -> None: ...


FEWEST_EVALUATIONS = 5  # of a run
MakeEnv = Callable[..., ClosableVectorEnv]  # of so many worlds, and with `states` where critics see them


class Training(ABC):
    """One run from where it stands to its end.

    Args:
        trainer: what is trained, and with what.
        run_dir: where rows, events and checkpoints go.
        log: of the run.
        stop: asked between any two steps of the work; once it says yes, a checkpoint is written and
            StopRequested raised.
        begun: the checkpoint that the run goes on from, if it does.
        hint: what is said together with its duration where the run will take hours.
    """

    def __init__(
        self,
        trainer: Trainer,
        run_dir: Path,
        log: RunLog,
        stop: Callable[[], bool] = lambda: False,
        begun: Path | None = None,
        hint: str = "",
    ) -> None:
        self.config = trainer.config
        self.trainer = trainer
        self.progress = trainer.progress
        self.run_dir = run_dir
        self.log = log
        self.pace = Pace(self.config.train, log.message, hint)
        self.ranks = trainer.ranks
        self.saver = Saver(
            self._write,
            self.config.checkpoint.grace_minutes,
            log.warning,
            begun,
            lambda: float(self.ranks.of_first(time.monotonic())),
        )
        self.updates = Updates(
            trainer.learner,
            trainer.batches,
            run_dir,
            lambda: self.progress.updates,
            log.warning,
            trainer.shard,
        )
        self.refresh = Refresh(trainer, self.updates, self.saver, log, self.between)
        self._stop = stop

    def run(self, make_env: MakeEnv) -> None:
        """Do all that is left of the run, in worlds that `make_env` makes.

        Raises:
            StopRequested: after a checkpoint was written.
            TrainingFault: what keeps the training from going on.
        """
        if self.trainer.split == "test":
            name, why = self.trainer.family.name, _why(self.trainer.family)
            self.log.warning(f"this run is evaluated on the held-out tasks of {name}: {why}")
        with self.environments(make_env) as evaluation_env:
            try:
                self.ranks.meet()
                self._go_on(evaluation_env)
            except NonFiniteUpdate as fault:
                raise self._fault(f"after {self._where()}: {fault}") from None
            except RankLost as error:
                raise self._fault(error) from None
            except TrainingFault:
                raise
            except MetaslacError as error:
                raise self._fault(error) from None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                device, lower = self.trainer.device.type, what_to_lower(self.config)
                raise self._fault(f"no memory on {device}: {lower}") from error

    @abstractmethod
    def environments(self, make_env: MakeEnv) -> AbstractContextManager[VectorEnv]:
        """The worlds to evaluate in, and whatever others the run needs, open for as long."""

    @abstractmethod
    def begin(self) -> None:
        """What comes before anything is learned; nothing where it was done before."""

    @abstractmethod
    def before_update(self) -> None:
        """What comes before each update."""

    def between(self) -> None:
        """Called where the state is whole: the place to stop, for all ranks if one of them is to."""
        if self.ranks.agree(self._stop()):
            raise StopRequested

    def between_of_own(self) -> None:
        """The same within work that this rank does alone."""
        if self._stop():
            raise StopRequested

    def apart(self, work: Callable[[Callable[[], None]], Result]) -> Result:
        """Work that ranks do at their own pace, given what to call between steps; if one stops, all do."""
        try:
            result = work(self.between_of_own)
        except StopRequested:
            self.ranks.tell(True)
            raise
        if any(self.ranks.tell(False)):
            raise StopRequested
        return result

    @contextmanager
    def evaluation_worlds(self, make_env: MakeEnv) -> Iterator[VectorEnv]:
        """Worlds to evaluate in, closed afterwards."""
        jobs = len(self.trainer.own_evaluated_tasks) * self.config.evaluation.trials
        env = make_env(slots_for(max(jobs, 1), self.config.runtime.worlds))
        try:
            yield env
        finally:
            env.close()

    def _go_on(self, evaluation_env: VectorEnv) -> None:
        """All that is left to do, or a checkpoint of how far it came."""
        try:
            self.begin()
            if self.saver.last is None:
                self.saver.try_to_save()
            self._pretrain()
            self._train(evaluation_env)
            if self.log.trackers:
                self._tell_of_the_end(evaluation_env)
        except StopRequested:
            if self.saver.behind:
                self.saver.save_at_last()
            raise StopRequested(self._where()) from None

    def _pretrain(self) -> None:
        """Model-only updates on what has been collected."""
        train, progress, learner = self.config.train, self.progress, self.trainer.learner
        self.pace.begin(progress.pretrained)
        while progress.pretrained < train.pretrain_updates:
            self.log.pretraining(progress.pretrained, train.pretrain_updates)
            self.between()
            learner.anneal_pretraining(progress.pretrained / train.pretrain_updates)
            metrics = self.updates.make(learner.pretrain, train.pretrain_windows)
            progress.pretrained += 1
            self.saver.behind = True
            self.pace.pretraining(progress.pretrained)
            last = progress.pretrained == train.pretrain_updates
            if last or progress.pretrained % self.config.runtime.log_every == 0:
                told = self.updates.numbers(metrics)
                self.log.pretraining(progress.pretrained, train.pretrain_updates, told)
                self.ranks.meet()
            if last or progress.pretrained % self.config.checkpoint.every == 0 or self.saver.failing:
                self.saver.try_to_save()

    def _train(self, evaluation_env: VectorEnv) -> None:
        train, progress, learner = self.config.train, self.progress, self.trainer.learner
        if not progress.updates:
            self.trainer.kept.begin()
        self.pace.begin(progress.updates)
        if progress.unlogged is not None:
            self._after_update(evaluation_env)
        while progress.updates < train.updates:
            self.log.progress(progress.updates)
            self.between()
            self.refresh.if_due()
            self.before_update()
            learner.anneal(progress.updates / train.updates)
            metrics = self.updates.make(learner.update)
            progress.updates += 1
            self.saver.behind = True
            self.pace.updates(progress.updates)
            if self._due(self.config.runtime.log_every) or self._due(evaluation_interval(self.config)):
                progress.unlogged = self.updates.numbers(metrics)
            self._after_update(evaluation_env)
        if self.saver.behind:
            self.saver.save_at_last()

    def _tell_of_the_end(self, evaluation_env: VectorEnv) -> None:
        """What trackers are told at last: returns, and a picture of what was learned."""
        self.log.result()
        with suppress(StopRequested):  # all is done, and only the picture not worth waiting for
            picture = self.trainer.picture(Interruptible(evaluation_env, self.between_of_own))
            if picture is not None:
                self.log.trackers.picture("last_episode", picture, self.progress.updates)

    def _after_update(self, evaluation_env: VectorEnv) -> None:
        """Evaluate, log and save, each if it is due."""
        progress, evaluation = self.progress, self.config.evaluation
        infers = self.config.task.inference == "infer"
        if progress.unlogged is not None:
            if self._due(evaluation_interval(self.config)):
                own = self.apart(
                    lambda between: self.trainer.evaluate(Interruptible(evaluation_env, between))
                )
                played = of_all(own, self.trainer.evaluated_tasks, self.ranks)
                found = evaluation_metrics(played, self.trainer.split, infers)
            else:
                found = dict.fromkeys(evaluation_columns(self.trainer.split, evaluation.episodes, infers))
            self.log.row(progress.updates, {**self.trainer.counts(), **progress.unlogged, **found})
            self.ranks.meet()  # trackers and disks of the first may take their time
            progress.unlogged = None
            self.saver.behind = True
        if self._due(self.config.checkpoint.every) or self.saver.failing:
            self.saver.try_to_save()

    def _write(self) -> Path:
        self.updates.check()
        return self.trainer.save(self.run_dir, self.log)

    def _fault(self, what: object) -> TrainingFault:
        return TrainingFault(f"{what}; {self.saver.last_in_words()}")

    def _where(self) -> str:
        """How far the training is, in words."""
        train, progress = self.config.train, self.progress
        if progress.updates:
            return f"update {progress.updates} of {train.updates}"
        return f"update {progress.pretrained} of {train.pretrain_updates} of pre-training"

    def _due(self, every: int) -> bool:
        """Whether something that happens every so many updates, and after the last, happens now."""
        return self.progress.updates % every == 0 or self.progress.updates == self.config.train.updates


def evaluation_interval(config: Config) -> int:
    """Updates between evaluations: few enough for a learning curve, however short the run."""
    return min(config.evaluation.every, max(1, config.train.updates // FEWEST_EVALUATIONS))


def evaluation_metrics(
    adaptations: Sequence[TaskAdaptation], split: Split, infers: bool
) -> dict[str, float | None]:
    """Columns of progress.csv: the mean return of each episode and, of agents that infer, the belief's width.

    Where a simulation diverged, the mean return is not a number rather than that of the other tasks.
    """
    returns = returns_array(adaptations).mean((0, 1))
    stds = np.stack([entry.belief_width for entry in adaptations]).mean(0)[1:]
    columns = evaluation_columns(split, len(returns), infers)
    return dict(zip(columns, map(float, (*returns, *[*stds] * infers, returns[-1])), strict=True))


def _why(family: Family) -> str:
    return "it was begun so" if family.validation_tasks else "there are no validation tasks"
