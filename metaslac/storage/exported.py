"""Exported agents: a directory with the weights that act, how they were trained and how they were judged.

Its files are those of a checkpoint that acting needs (weights, configuration, manifest), evaluations and a
model card. Which weights act is acting/agent.py's; what the card says is evidence/card.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from metaslac.config.sections import Config
from metaslac.config.text import to_yaml
from metaslac.storage.checkpoint import Checkpoint, tensors_to_bytes, write_directory
from metaslac.storage.files import new_directory
from metaslac.storage.manifest import AGENT, CONFIG, WEIGHTS, is_agent

# Of a checkpoint's manifest, what is of that one directory.
OF_THE_FILES = ("files", "format", "format_version", "versions", "commit", "manifest_sha256")


def facts_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the manifest of an agent exported from a checkpoint says of its training."""
    facts = {name: value for name, value in checkpoint.manifest.items() if name not in OF_THE_FILES}
    return {**facts, "trained_with": trained_with(checkpoint.manifest)}


def trained_with(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and commit of the training that a checkpoint, or an exported agent, is from."""
    if is_agent(manifest):
        return dict(manifest["trained_with"])
    return {**manifest["versions"], "commit": manifest.get("commit")}


def save_agent(
    directory: Path,
    tensors: Mapping[str, Tensor],
    config: Config,
    facts: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Write an exported agent, whole or not at all.

    Args:
        directory: where; it must not be there, or be empty.
        tensors: the weights that act.
        config: the configuration it was trained with.
        facts: as of facts_of.
        files: evaluations and card, by name.

    Raises:
        MetaslacError: something is there, or the disk refuses.
    """
    contents = {WEIGHTS: tensors_to_bytes(tensors), CONFIG: to_yaml(config).encode(), **files}
    with new_directory(directory, over_empty=True) as temporary:
        write_directory(temporary, contents, facts, AGENT)
