"""A trained agent in a directory of its own, small enough to be given away: what `metaslac export` does.

The files are metaslac/storage/exported.py's, the card is metaslac/evidence/card.py's.
"""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaslac.errors import MetaslacError
from metaslac.storage.files import check_unused, user_path, utf8

if TYPE_CHECKING:
    from metaslac.config.sections import Config
    from metaslac.evidence.evaluation_file import Evaluation
    from metaslac.storage.checkpoint import Checkpoint


class Exported(NamedTuple):
    """What came of a call of export."""

    path: Path | None  # of the directory, if one was asked for
    address: str | None  # on the Hub, likewise
    evaluations: Mapping[str, Evaluation]  # that are in it, by file name


def export(
    directory: str | Path,
    out: str | Path | None = None,
    *,
    push_to_hub: str | None = None,
    private: bool = False,
) -> Exported:
    """Make an exported agent of a finished run, or of a checkpoint; what `metaslac export` does.

    It has the weights that act, configuration, evaluations, a model card and a manifest: safetensors, JSON,
    YAML and Markdown. No path of this machine is in it.

    Args:
        directory: the run; a checkpoint of it, which may be of any stage; or, to push, an exported agent.
        out: the directory to make, which must not be there or be empty.
        push_to_hub: repository on Hugging Face's Hub to put it into, "OWNER/NAME".
        private: whether that repository, if it is new, is private.

    Raises:
        MetaslacError: the run is not finished, damaged, or was trained on after it was evaluated; something
            is there already; or the Hub refuses.
    """
    from metaslac.storage import hub
    from metaslac.storage.manifest import check_agent
    from metaslac.storage.named import is_exported, located

    if out is None and push_to_hub is None:
        raise MetaslacError("--out DIR or --push-to-hub OWNER/NAME says where the agent goes")
    path = None if out is None else user_path(out)
    if path is not None:
        check_unused(path, over_empty=True)
    if push_to_hub is not None:
        hub.check_name(push_to_hub)
    source, address = user_path(directory), None
    if is_exported(source):
        if path is not None:
            raise MetaslacError(f"{source} is an exported agent already; copy it")
        source = located(source)
        check_agent(source)
        address = hub.upload(source, push_to_hub or "", private)
        return Exported(None, address, evaluations_in(source))
    with nullcontext(path) if path is not None else _passing() as made:
        evaluations = _export(source, made)
        if push_to_hub is not None:
            address = hub.upload(made, push_to_hub, private)
    return Exported(path, address, evaluations)


@contextmanager
def _passing() -> Iterator[Path]:
    """Within, a place for an agent that only the Hub is to have."""
    try:
        temporary = tempfile.TemporaryDirectory()
    except OSError as error:
        raise MetaslacError(
            f"no directory for temporary files ({error.strerror}); --out DIR says where the agent goes first"
        ) from None
    with temporary as folder:
        yield Path(folder) / "agent"


def evaluations_in(directory: Path) -> dict[str, Evaluation]:
    """The evaluations that an exported agent came with, by file name; that of held-out tasks first."""
    from metaslac.evidence.evaluation_file import read_evaluation
    from metaslac.storage.manifest import read_manifest

    files = read_manifest(directory)["files"]
    return {name: read_evaluation(directory / name) for name, *_ in _evaluation_kinds() if name in files}


def mean_returns(evaluations: Mapping[str, Evaluation]) -> dict[str, list[float]]:
    """What each evaluation is of, in words, and the mean return of every episode of it."""
    from metaslac.training.log.columns import CALLED

    return {
        CALLED[found.about["split"]]
        + ", given context" * (found.about["context"] != ""): found.held_out.returns.mean((0, 1)).tolist()
        for found in evaluations.values()
    }


def _export(source: Path, out: Path) -> dict[str, Evaluation]:
    import torch

    from metaslac.acting.agent import agent_from_checkpoint
    from metaslac.evidence.card import card
    from metaslac.evidence.evaluation_file import to_bytes
    from metaslac.storage.exported import facts_of, save_agent
    from metaslac.storage.manifest import CARD

    checkpoint = _whole_checkpoint(source)
    agent = agent_from_checkpoint(checkpoint, checkpoint.path, torch.device("cpu"))
    config, facts = _without_path(checkpoint.config), facts_of(checkpoint)
    found = _evaluations_of(checkpoint, source)
    evaluations = {
        name: dataclasses.replace(each, about=_portable(each.about)) for name, each in found.items()
    }
    text = card(config, facts, list(evaluations.values()), agent.observation_shape)
    files = {name: to_bytes(evaluation) for name, evaluation in evaluations.items()}
    save_agent(out, agent.acting_weights(), config, facts, {CARD: utf8(text), **files})
    return evaluations


def _whole_checkpoint(source: Path) -> Checkpoint:
    """The checkpoint that is meant. Raises MetaslacError where it is damaged, or its run not finished."""
    from metaslac.storage.checkpoint import load_checkpoint
    from metaslac.storage.last import followed
    from metaslac.storage.manifest import CONFIG, missing_files
    from metaslac.training.run_directory import saved_config
    from metaslac.training.state import is_finished

    checkpoint = load_checkpoint(source)
    if problems := missing_files(checkpoint.path, checkpoint.manifest):
        raise MetaslacError(problems[0])
    if followed(source) is not None:  # it was chosen itself
        return checkpoint
    config = saved_config(source) if (source / CONFIG).exists() else checkpoint.config
    if not is_finished(checkpoint, config.train.updates):
        done, of = checkpoint.manifest["update"], config.train.updates
        raise MetaslacError(
            f"{source} is not finished: {done} of {of} updates are made; to export it as it is, name its "
            f"checkpoint {shlex.quote(str(checkpoint.path))}"
        )
    return checkpoint


def _evaluations_of(checkpoint: Checkpoint, source: Path) -> dict[str, Evaluation]:
    """The evaluations of a checkpoint, by name. Raises MetaslacError for one of other weights."""
    from metaslac.evidence.evaluation_file import evaluation_at, read_evaluation

    files = {name: evaluation_at(source, split, given) for name, split, given in _evaluation_kinds()}
    found = {name: read_evaluation(file) for name, file in files.items() if file.is_file()}
    for name, evaluation in found.items():
        if differs := _other_agent(evaluation.about, checkpoint):
            raise MetaslacError(
                f"{files[name]} is of another agent than {checkpoint.path}: {differs}; evaluate it again, or "
                "move the file away"
            )
    return found


def _other_agent(about: Mapping[str, Any], checkpoint: Checkpoint) -> str:
    """What an evaluation says of its agent that is not so of a checkpoint, in words; empty if all is."""
    from metaslac.config.text import differences, from_dict, listed

    for entry in ("family", "task_hash", "update", "env_steps"):
        if (have := about[entry]) != (want := checkpoint.manifest[entry]):
            return f"its {entry} is {have}, not {want}"
    trained = checkpoint.config
    # Where a run computes and what it keeps makes it no other one.
    evaluated = dataclasses.replace(
        from_dict(about["settings"]), runtime=trained.runtime, checkpoint=trained.checkpoint
    )
    different = differences(evaluated, trained)
    return f"they differ in {listed(different)}" if different else ""


def _evaluation_kinds() -> Iterator[tuple[str, str, bool]]:
    """File name, split, and whether the agent was given context, of each kind of evaluation."""
    from metaslac.evidence.evaluation_file import evaluation_name

    for given in (False, True):
        for split in ("test", "validation"):
            yield evaluation_name(split, given), split, given


def _portable(about: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation says of itself, with the names of directories in place of where they were."""
    words = [Path(word).name if word.startswith("/") else word for word in shlex.split(about["command"])]
    settings = about["settings"]
    runtime = {**settings["runtime"], "data_set": Path(settings["runtime"].get("data_set", "")).name}
    return {**about, "command": shlex.join(words), "settings": {**settings, "runtime": runtime}}


def _without_path(config: Config) -> Config:
    name = Path(config.runtime.data_set).name
    return dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, data_set=name))
