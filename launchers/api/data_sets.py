"""Data sets recorded of agents at chosen stages of their runs, of random actions, or of a run's replay.

Who plays is sources.py's; what a data set is stands in metaslac/replay/data_set.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaslac.config.sections import SPLITS
from metaslac.config.validation import check_seed
from metaslac.errors import MetaslacError
from metaslac.launchers.api.process import check_device, check_threads, torch_threads
from metaslac.launchers.api.sources import Design, Source, agent_source, random_source, replay_source
from metaslac.launchers.api.trained import SECONDS_BEFORE_A_BAR
from metaslac.storage.files import check_unused, user_path

if TYPE_CHECKING:
    from metaslac.envs.family import Family
    from metaslac.replay.data_set import About, DataSet
    from metaslac.replay.data_writer import DataSetWriter
    from metaslac.replay.experience import Episode


def record(
    out: str | Path,
    *,
    checkpoint: str | Path | Sequence[str | Path] = (),
    random: str | None = None,
    episodes: int | None = None,
    split: str = "train",
    seed: int = 0,
    stages: Sequence[int] = (),
    from_replay: bool = False,
    trial_episodes: int = 2,
    deterministic: bool = False,
    states: bool = False,
    image_size: int | None = None,
    action_repeat: int | None = None,
    frames: int | None = None,
    observation: str | None = None,
    hold: int | None = None,
    family: str | None = None,
    device: str = "auto",
    threads: int = 0,
) -> DataSet:
    """Record a data set of a family's tasks; what `metaslac dataset record` does.

    Agents play trials as `adapt` plays them: the first episodes of a trial with m from the prior, as many as
    `evaluation.exploration_episodes` of the run says, the others with m from the posterior of the trial.

    Args:
        out: the directory, which must not be there yet; it is written beside its place and renamed.
        checkpoint: checkpoint or run directories whose agents play, each a source.
        random: or the family in which random actions are played.
        episodes: of every task, from every source. Of a replay the newest; None is all of it.
        split: tasks that are played: "train", "validation" or "test".
        seed: of all that is random.
        stages: of each run, in place of its last checkpoint those after so many updates, each a source.
        from_replay: take the episodes that are in the runs' replays, each once, and play nothing.
        trial_episodes: in every trial.
        deterministic: whether agents act on the mean of their policy, and not on a sample of it.
        states: whether the simulator's states are recorded beside pictures.
        image_size, action_repeat, frames, observation: how the family of random actions is seen; None is as
            `metaslac settings` has it.
        hold: decisions for which each random action is held; None is 1.
        family: only ever the checkpoints' own; needed where that is module:attribute, to allow the import.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; 0 takes as many as this process may use.

    Returns: the data set.

    Raises:
        MetaslacError or metaslac.envs.FamilyError: bad input, before anything is played; or a full disk.
            Nothing is left behind then.
    """
    from metaslac.replay.data_set import open_data_set
    from metaslac.replay.data_writer import written_data_set

    out = user_path(out)
    check_unused(out)
    given = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
    paths = [user_path(path) for path in given]
    seen = {"image_size": image_size, "action_repeat": action_repeat, "frames": frames}
    chosen = {
        name: value for name, value in {**seen, "observation": observation}.items() if value is not None
    }
    of_agents = {
        "stages": stages,
        "from_replay": from_replay,
        "deterministic": deterministic,
        "family": family is not None,
    }
    _check_who(
        paths,
        random,
        of_agents=[name for name, given in of_agents.items() if given],
        of_random=[*chosen, *["hold"] * (hold is not None)],
    )
    _check_what(episodes, split, trial_episodes, hold, from_replay)
    check_seed(seed)
    check_device(device)
    check_threads(threads)
    design = Design(split, episodes, seed, trial_episodes, deterministic, states, family, device, threads)
    if random is not None:
        sources = [random_source(random, chosen, hold or 1, design)]
    elif from_replay:
        sources = [replay_source(path, design) for path in _staged(paths, stages)]
    else:
        sources = [agent_source(path, number, design) for number, path in enumerate(_staged(paths, stages))]
    about = _common(sources, paths, design)
    with torch_threads(threads), written_data_set(out, about) as writer:
        _write(sources, writer, once=from_replay)
    return open_data_set(out, verify=False)


def about_of(family: Family, name: str, split: str, state_size: int, seed: int) -> About:
    """What a data set says of its family, which goes by `name`."""
    from metaslac.replay.data_set import About

    return About(
        family=name,
        task_hash=family.task_hash,
        split=split,
        param_names=tuple(family.param_names),
        action_size=family.action_size,
        image_size=family.image_size,
        frames=family.frames,
        action_repeat=family.action_repeat,
        observation=family.observation,
        state_size=state_size,
        episode_steps=family.episode_steps,
        seed=seed,
    )


def _check_who(
    paths: Sequence[Path], random: str | None, of_agents: Sequence[str], of_random: Sequence[str]
) -> None:
    """Raise MetaslacError unless one of both plays, and is given nothing that is the other's."""
    if bool(paths) == (random is not None):
        raise MetaslacError("either --checkpoint DIR or --random FAMILY says who plays")
    if random is not None and of_agents:
        raise MetaslacError(f"{_flag(of_agents[0])} goes with --checkpoint, not with --random")
    if random is None and of_random:
        raise MetaslacError(
            f"{_flag(of_random[0])} goes with --random: what an agent sees and does is its run's"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_what(
    episodes: int | None, split: str, trial_episodes: int, hold: int | None, replay: bool
) -> None:
    if split not in SPLITS:
        raise MetaslacError(f"--split must be one of {', '.join(SPLITS)}, got {split!r}")
    if replay and split != "train":
        raise MetaslacError(f"--split {split}: there are only training tasks in a replay")
    if episodes is None and not replay:
        raise MetaslacError("--episodes says how many episodes of every task are played")
    for flag, value in (("episodes", episodes), ("trial-episodes", trial_episodes), ("hold", hold)):
        if value is not None and value < 1:
            raise MetaslacError(f"--{flag} must be at least 1, got {value}")


def _staged(paths: Sequence[Path], stages: Sequence[int]) -> list[Path]:
    """The checkpoints that are meant. Raises MetaslacError for stages of no run, or that it has not kept."""
    from metaslac.storage.checkpoint import checkpoints_in, find_checkpoint
    from metaslac.storage.manifest import read_manifest
    from metaslac.storage.named import is_exported
    from metaslac.training.run_directory import CHECKPOINTS

    found = [find_checkpoint(path) for path in paths]
    if not stages:
        return found
    found = []
    for path in paths:
        if not (path / CHECKPOINTS).is_dir():
            what = "an exported agent" if is_exported(path) else "a checkpoint"
            raise MetaslacError(f"--stages needs a run directory, and {path} is {what}, of one stage")
        kept = {read_manifest(each)["update"]: each for each in checkpoints_in(path / CHECKPOINTS)}
        for stage in stages:
            if stage not in kept:
                there = ", ".join(map(str, sorted(kept))) or "none"
                raise MetaslacError(
                    f"--stages {stage}: {path} has kept checkpoints of updates {there}; how many of the "
                    "newest a run keeps is its setting checkpoint.keep"
                )
            found.append(kept[stage])
    return found


def _common(sources: Sequence[Source], paths: Sequence[Path], design: Design) -> About:
    """What all sources have in common. Raises MetaslacError where they do not."""
    abouts = [
        about_of(source.family, source.name, design.split, source.state_size, design.seed)
        for source in sources
    ]
    for about in abouts[1:]:
        for name, value in vars(about).items():
            if value != (first := getattr(abouts[0], name)):
                raise MetaslacError(
                    f"the runs {', '.join(map(str, paths))} differ in {name} ({first}, {value}); "
                    "a data set is of one family, seen in one way"
                )
    return abouts[0]


def _write(sources: Sequence[Source], writer: DataSetWriter, once: bool) -> None:
    """Write what all sources play; with `once`, what was played alike only the first time."""
    from metaslac.replay.data_set import RecordedTask
    from metaslac.training.log.progress_bar import ProgressBar

    total = sum(source.episodes for source in sources)
    met: set[tuple[int, bytes]] = set()
    with ProgressBar(
        total=total, unit=" episodes", leave=False, delay=SECONDS_BEFORE_A_BAR, disable=None
    ) as bar:
        for source in sources:
            for task, episode in source.play():
                bar.update()
                if once and (this := (task.index, _digest(episode))) in met:
                    continue  # of replays of one run, or of runs of one seed; evidence of it counts once
                if once:
                    met.add(this)
                writer.add(RecordedTask(task.index, tuple(map(float, task.params))), episode, source.said)


def _digest(episode: Episode) -> bytes:
    played = (episode.frames, episode.actions, episode.rewards)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in played)).digest()
