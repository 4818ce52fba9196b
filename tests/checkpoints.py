"""What the tests of damaged, forged and hostile checkpoints share."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from fakes import CPU, FakeFamily, tiny_config
from torch import Tensor

from metaslac.config.sections import Config
from metaslac.errors import MetaslacError
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.storage.manifest import MANIFEST
from metaslac.training.trainer import MetaTrainer


def config() -> Config:
    base = tiny_config()
    return replace(base, checkpoint=replace(base.checkpoint, every=2, keep=9))


def family() -> FakeFamily:
    return FakeFamily(uneven=True, terminates=True)


def resume(directory: Path) -> MetaTrainer:
    trainer = MetaTrainer(config(), family(), CPU)
    trainer.resume(load_checkpoint(directory))
    return trainer


def refusal(directory: Path) -> str:
    """The line with which a checkpoint is refused; it says where that is."""
    with pytest.raises(MetaslacError) as error:
        resume(directory)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert str(directory) in message
    return message


def files_of(directory: Path) -> list[str]:
    """Every file of a whole checkpoint, the manifest too."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def put(path: Path, data: bytes) -> None:
    """Write a file anew: other names that the old one had keep their content."""
    path.unlink()
    path.write_bytes(data)


def forge(directory: Path, contents: dict[str, bytes], **facts: Any) -> None:
    """Change files and facts, and sign again."""
    manifest = json.loads((directory / MANIFEST).read_bytes())
    del manifest["manifest_sha256"]
    for name, data in contents.items():
        (directory / name).write_bytes(data)
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    signed = manifest | facts
    signed["manifest_sha256"] = hashlib.sha256(encoded(signed)).hexdigest()
    (directory / MANIFEST).write_bytes(encoded(signed))


def encoded(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def some(every: int, *axes: Iterable[Any]) -> list[Any]:
    """The cases of all axes with each other; all but every so many-th are slow tests."""
    return [
        pytest.param(*case, marks=[pytest.mark.slow] if number % every else [])
        for number, case in enumerate(itertools.product(*axes))
    ]


def nested(depth: int, closed: int) -> bytes:
    return b"[" * depth + b"]" * depth * closed


def replay_file(directory: Path) -> str:
    """The name of a file with several episodes."""
    for name in files_of(directory):
        if name.startswith("replay/"):
            numbers = safetensors.torch.load_file(directory / name)["numbers"]
            if len(numbers) > 1:
                return name
    raise AssertionError


Change = Callable[[Tensor], Tensor]


SHAPES: dict[str, Change] = {
    "one more": lambda x: torch.cat([x.reshape(-1), x.new_zeros(1)]),
    "none": lambda x: x.new_zeros(0),
    "none of many": lambda x: x.new_zeros(2**40, 0),
    "one dimension more": lambda x: x.unsqueeze(0),
    "sixty-six dimensions": lambda x: x.reshape(*x.shape, *[1] * (66 - x.dim())),
}


TYPES: dict[str, Change] = {
    "bool": lambda x: x.to(torch.bool) if x.dtype != torch.bool else x.to(torch.uint8),
    "long": lambda x: x.to(torch.long) if x.dtype != torch.long else x.to(torch.int32),
    "double": lambda x: x.to(torch.double),
    "complex": lambda x: x.to(torch.complex64),
    "small": lambda x: x.to(torch.float8_e4m3fn),
}


CHANGES: dict[str, Change | None] = {"gone": None, **SHAPES, **TYPES}


def with_one(directory: Path, file: str, name: str, change: Change | None) -> None:
    """Forge a file of a checkpoint so that one of its tensors is changed, or gone."""
    tensors = safetensors.torch.load_file(directory / file)
    tensor = tensors.pop(name)
    if change is not None:
        tensors[name] = change(tensor)
    forge(directory, {file: safetensors.torch.save(tensors)})
