"""Meta-training: collect on a few tasks, update, evaluate on held-out tasks, and again.

The only place with a loop over time; everything it strings together lives in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from metaslac.adaptation import TaskAdaptation, adapt, slots_for
from metaslac.agent import Agent, load_weights
from metaslac.ahead import CollectorAhead
from metaslac.checkpoint import Checkpoint, prune, save_checkpoint
from metaslac.collection import CollectedFamily, Collector
from metaslac.config import Config
from metaslac.cuda_graph import GraphedStep
from metaslac.errors import MetaslacError, TrainingFault
from metaslac.evaluation import returns_array
from metaslac.faults import is_out_of_memory, what_to_lower, write_dump
from metaslac.generators import seeded, torch_seed
from metaslac.latent_model import Metrics
from metaslac.learner import Batch, Learner, NonFinite
from metaslac.replay import TaskReplay
from metaslac.replay_files import ReplayFiles
from metaslac.rollout import Interruptible, Task, VectorEnv
from metaslac.run_directory import other_checkpoints
from metaslac.run_log import LogState, RunLog
from metaslac.saving import Saver
from metaslac.training_state import TrainingState

NETWORK_STREAM, NOISE_STREAM, BATCH_STREAM = 4, 5, 6


class Family(CollectedFamily, Protocol):
    """What is needed of a task family."""

    @property
    def param_names(self) -> Sequence[str]: ...
    @property
    def task_hash(self) -> str: ...
    @property
    def test_tasks(self) -> Sequence[Task]: ...
    def make_vector_env(self, num_envs: int, threads: int = 0, tolerant: bool = False) -> Any: ...


class StopRequested(Exception):
    """Someone asked for a stop; the training is at a point from which it can go on, told in words."""


class MetaTrainer:
    """Replay, learner and environments of one run; `run` is the whole of meta-training.

    Args:
        config: of the run.
        family: whose training tasks are learned from and whose test tasks are evaluated on.
        device: of networks and replay.
        stop: asked between any two steps of the work; once it says yes, a checkpoint is written and
            StopRequested raised.
    """

    def __init__(
        self, config: Config, family: Family, device: torch.device, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self.config = config
        self.family = family
        self.device = device
        self.params = torch.tensor(
            [task.params for task in family.train_tasks], dtype=torch.float32, device=device
        )
        seed, num_params = config.train.seed, self.params.shape[1]
        with seeded(torch_seed(seed, NETWORK_STREAM)):
            generator = torch.Generator(device).manual_seed(torch_seed(seed, NOISE_STREAM))
            self.learner = Learner(config, family.action_size, num_params, device, generator)
        self.learner.networks.task_params.fit(self.params)
        self.generator = torch.Generator(device).manual_seed(torch_seed(seed, BATCH_STREAM))
        self.agent = Agent.from_networks(config, self.learner.networks, family.action_size, num_params)
        self.replay = TaskReplay(
            len(family.train_tasks),
            config.replay.episodes_per_task,
            config.replay.context_episodes,
            family.episode_steps,
            config.family.image_size,
            family.action_size,
            device,
        )
        self.collector = Collector(config, family, self.replay)
        self.ahead = CollectorAhead(self.collector, self.agent) if config.train.collect_ahead else None
        self.state = TrainingState(
            self.learner, self.generator, self.collector, ReplayFiles(self.replay), self.ahead
        )
        self.progress = self.state.progress
        self.saver = Saver(self.save, config.checkpoint.grace_minutes)
        self._graph: tuple[Callable[[Batch], Metrics], GraphedStep] | None = None
        self._stop = stop

    def resume(self, checkpoint: Checkpoint) -> LogState:
        """Go back to where a checkpoint was written. Raises MetaslacError if it is damaged or not of this."""
        if checkpoint.manifest["task_hash"] != self.family.task_hash:
            raise MetaslacError(
                f"{checkpoint.path} was trained on another task list of {self.family.name} "
                "than this version has"
            )
        load_weights(self.learner.networks, checkpoint.tensors, checkpoint.path)
        log = self.state.restore(checkpoint)
        self.saver.last, self.saver.behind = checkpoint.path, False
        return log

    def run(self, run_dir: Path, log: RunLog) -> None:
        """Collect, pre-train, then alternate visits and updates until the last; evaluate, log and save.

        Raises:
            StopRequested: after a checkpoint was written.
            TrainingFault: what keeps the training from going on.
        """
        with self._environments() as (env, test_env):
            try:
                self._go_on(env, test_env, run_dir, log)
            except StopRequested:
                if self.saver.behind:
                    self.saver.save_at_last(run_dir, log)
                raise StopRequested(self._where()) from None
            except TrainingFault:
                raise
            except MetaslacError as error:
                raise TrainingFault(f"{error}; {self.saver.last_in_words()}") from None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                device, lower = self.device.type, what_to_lower(self.config)
                raise TrainingFault(
                    f"no memory on {device}: {lower}; {self.saver.last_in_words()}"
                ) from error

    def _go_on(self, env: VectorEnv, test_env: VectorEnv, run_dir: Path, log: RunLog) -> None:
        train, progress = self.config.train, self.progress
        self.collector.collect_random(env, self._after_collection)
        if self.saver.last is None:
            self.saver.try_to_save(run_dir, log)
        self.pretrain(run_dir, log)
        if progress.unlogged is not None:
            self._after_update(run_dir, log, test_env)
        while progress.updates < train.updates:
            self._between()
            if not progress.until_visit:
                self._check_finite(run_dir)
                if self.ahead is None:
                    self.collector.visit(env, self.agent)
                else:
                    self.ahead.visit(env, self._between)
                progress.until_visit = train.updates_per_visit
                self._after_collection()
            if self.ahead is not None and progress.updates + progress.until_visit < train.updates:
                self.ahead.start(env)
            self.learner.anneal(progress.updates / train.updates)
            metrics = self._update(self.learner.update, None, run_dir, log)
            progress.updates += 1
            progress.until_visit -= 1
            self.saver.behind = True
            if self._due(self.config.runtime.log_every) or self._due(self.config.evaluation.every):
                progress.unlogged = self._told(metrics, run_dir)
            self._after_update(run_dir, log, test_env)
        if self.saver.behind:
            self.saver.save_at_last(run_dir, log)

    def pretrain(self, run_dir: Path, log: RunLog) -> None:
        """Model-only updates on what has been collected."""
        train, progress = self.config.train, self.progress
        while progress.pretrained < train.pretrain_updates:
            self._between()
            metrics = self._update(self.learner.pretrain, train.pretrain_windows, run_dir, log)
            progress.pretrained += 1
            last = progress.pretrained == train.pretrain_updates
            self.saver.behind = True
            if last or progress.pretrained % self.config.runtime.log_every == 0:
                told = self._told(metrics, run_dir)
                log.pretraining(progress.pretrained, train.pretrain_updates, told)
            if last or progress.pretrained % self.config.checkpoint.every == 0 or self.saver.failing:
                self.saver.try_to_save(run_dir, log)

    def sample_batch(self, windows: int | None = None) -> Batch:
        """A meta-batch of distinct training tasks: RL windows from all replay, context from the pools."""
        config = self.config
        order = torch.rand(len(self.params), device=self.device, generator=self.generator).argsort()
        tasks = order[: config.train.tasks_per_update]
        return Batch(
            self.replay.sample_windows(
                tasks, windows or config.train.windows, config.model.window, self.generator
            ),
            self.replay.sample_context(
                tasks, config.task.context_segments, config.task.context_length, self.generator
            ),
            self.params[tasks],
        )

    def evaluate(self, test_env: VectorEnv) -> list[TaskAdaptation]:
        """Adaptation to every held-out task, with the same random numbers each time."""
        evaluation = self.config.evaluation
        return adapt(
            self.agent,
            test_env,
            self.family.test_tasks,
            episodes=evaluation.episodes,
            exploration_episodes=evaluation.exploration_episodes,
            trials=evaluation.trials,
            seed=self.config.train.seed,
        )

    def save(self, run_dir: Path, log: RunLog) -> Path:
        """Write a checkpoint of everything, named after the update count; gives where it is.

        Raises MetaslacError if it cannot be.
        """
        self._check_finite(run_dir)
        manifest = {
            "family": self.family.name,
            "task_hash": self.family.task_hash,
            "train_tasks": len(self.family.train_tasks),
            "test_tasks": len(self.family.test_tasks),
            "param_names": list(self.family.param_names),
            "action_size": self.family.action_size,
            "update": self.progress.updates,
            "pretraining_update": self.progress.pretrained,
            "replay_steps": self.replay.steps(),
            **self.collector.counts(),
        }
        parent = run_dir / "checkpoints"
        saved = save_checkpoint(
            parent / f"{self.progress.updates:08d}",
            self.learner.networks.state_dict(),
            self.config,
            manifest,
            self.state.contents(log.state()),
        )
        self.state.files.commit(saved)
        try:
            prune(parent, self.config.checkpoint.keep)
        except OSError as error:
            log.warning(f"cannot delete old checkpoints in {parent}: {error.strerror or error}")
        return (parent / "last").resolve()

    def _after_update(self, run_dir: Path, log: RunLog, test_env: VectorEnv) -> None:
        """Evaluate, log and save, each if it is due."""
        progress, evaluation = self.progress, self.config.evaluation
        if progress.unlogged is not None:
            if self._due(evaluation.every):
                held_out = evaluation_metrics(self.evaluate(Interruptible(test_env, self._between)))
            else:
                held_out = dict.fromkeys(evaluation_columns(evaluation.episodes))
            log.row(progress.updates, {**self.collector.counts(), **progress.unlogged, **held_out})
            progress.unlogged = None
            self.saver.behind = True
        if self._due(self.config.checkpoint.every) or self.saver.failing:
            self.saver.try_to_save(run_dir, log)

    def _update(
        self, update: Callable[[Batch], Metrics], windows: int | None, run_dir: Path, log: RunLog
    ) -> Metrics:
        """One update on a new batch. Raises TrainingFault for one that is not finite."""
        if self.device.type == "cuda" and self.config.runtime.cuda_graph:
            return self._graphed(update, windows, log)()
        batch = None
        try:
            batch = self.sample_batch(windows)
            return update(batch)
        except NonFinite as error:
            raise self._not_finite(error, batch, run_dir) from None

    def _graphed(self, update: Callable[[Batch], Metrics], windows: int | None, log: RunLog) -> GraphedStep:
        """An update and its batch as one CUDA graph, which replaces that of another kind of update."""
        if self._graph is None or self._graph[0] != update:
            generators = self.generator, self.learner.generator
            step = GraphedStep(lambda: update(self.sample_batch(windows)), generators, log.warning)
            self._graph = update, step
        return self._graph[1]

    def _told(self, metrics: Metrics, run_dir: Path) -> dict[str, float]:
        """The metrics as numbers: the one place that waits for the device."""
        self._check_finite(run_dir)
        return {name: float(value) for name, value in metrics.items()}

    def _check_finite(self, run_dir: Path) -> None:
        try:
            self.learner.check()
        except NonFinite as error:
            raise self._not_finite(error, None, run_dir) from None

    def _not_finite(self, error: NonFinite, batch: Batch | None, run_dir: Path) -> TrainingFault:
        """The fault to raise, its numbers written to a file."""
        dump = run_dir / f"fault-{self.progress.updates:08d}.json"
        try:
            write_dump(dump, str(error), batch, self.learner.networks, self.config)
            told = f"its numbers are in {dump}"
        except OSError as problem:
            told = f"its numbers cannot be written to {dump} ({problem.strerror})"
        return TrainingFault(f"after {self._where()}: {error}; {told}; {self.saver.last_in_words()}")

    def _where(self) -> str:
        """How far the training is, in words."""
        train, progress = self.config.train, self.progress
        if progress.updates:
            return f"update {progress.updates} of {train.updates}"
        return f"update {progress.pretrained} of {train.pretrain_updates} of pre-training"

    def _after_collection(self) -> None:
        self.saver.behind = True
        self._between()

    def _between(self) -> None:
        """Called where the state is whole: the place to stop."""
        if self._stop():
            raise StopRequested

    def _due(self, every: int) -> bool:
        """Whether something that happens every so many updates, and after the last, happens now."""
        return self.progress.updates % every == 0 or self.progress.updates == self.config.train.updates

    @contextmanager
    def _environments(self) -> Iterator[tuple[VectorEnv, VectorEnv]]:
        """One vector environment to train in and one to evaluate in; no fault of a world ends the run."""
        jobs = len(self.family.test_tasks) * self.config.evaluation.trials
        threads = self.config.runtime.threads
        env, test_env = (
            self.family.make_vector_env(worlds, threads, tolerant=True)
            for worlds in (self.config.train.tasks_per_visit, slots_for(jobs, self.config.runtime.worlds))
        )
        try:
            yield env, test_env
        finally:
            if self.ahead is not None:
                self.ahead.close()
            env.close()
            test_env.close()


def meta_train(
    config: Config,
    family: Family,
    run_dir: Path,
    device: torch.device,
    *,
    quiet: bool = False,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Meta-train in a run directory that is ready; rows, events and checkpoints go into it.

    With a `checkpoint` of the run, go on from there. Raises as MetaTrainer.run does, and MetaslacError for
    a checkpoint that cannot be gone on from.
    """
    try:
        trainer = MetaTrainer(config, family, device, stop)
        state = trainer.resume(checkpoint) if checkpoint else LogState()
    except MetaslacError as error:
        raise MetaslacError(f"{error}{other_checkpoints(checkpoint.path) if checkpoint else ''}") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MetaslacError(
            f"no memory on {device.type} for replay and networks: lower replay.episodes_per_task "
            f"(now {config.replay.episodes_per_task})"
        ) from error
    try:
        log = RunLog(run_dir, total_updates=config.train.updates, quiet=quiet, state=state)
    except OSError as error:
        raise MetaslacError(f"cannot write to run directory {run_dir}: {error.strerror or error}") from None
    with log:
        trainer.run(run_dir, log)


def evaluation_metrics(adaptations: Sequence[TaskAdaptation]) -> dict[str, float | None]:
    """Columns of progress.csv: the mean held-out return of each episode, and the belief's width after it.

    Where a simulation diverged, the mean return is not a number rather than that of the other tasks.
    """
    returns = returns_array(adaptations).mean((0, 1))
    stds = np.stack([entry.belief_width for entry in adaptations]).mean(0)[1:]
    return dict(zip(evaluation_columns(len(returns)), map(float, (*returns, *stds)), strict=True))


def evaluation_columns(episodes: int) -> list[str]:
    """Names of what evaluation_metrics gives, in its order."""
    return [f"test/{what}_{e + 1}" for what in ("return", "belief_std") for e in range(episodes)]
