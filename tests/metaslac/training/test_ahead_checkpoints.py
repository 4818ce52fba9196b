"""What a checkpoint holds of collection in the background, and what it refuses to go on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from checkpoints import forge
from fakes import CPU, FakeFamily
from runs import PER_VISIT, UPDATES, train
from runs import ahead_config as config

from metaslac.errors import MetaslacError
from metaslac.storage.checkpoint import load_checkpoint
from metaslac.training.state import TENSORS
from metaslac.training.trainer import MetaTrainer


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    for updates in (4, 6):
        assert train(tmp_path / "a", config=config(updates=updates))
    assert train(tmp_path / "b", config=config(updates=6))
    first, second = (load_checkpoint(tmp_path / name) for name in "ab")
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    # In memory: a mapped file must not be forged.
    return safetensors.torch.load((checkpoint / TENSORS).read_bytes())


def ahead_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    tensors = tensors_of(checkpoint)
    return {
        name.removeprefix("ahead/"): value for name, value in tensors.items() if name.startswith("ahead/")
    }


def test_a_checkpoint_holds_the_weights_that_the_next_visit_is_played_with(whole: tuple[Path, int]) -> None:
    # Those of update 0 before are from before and within pre-training.
    names = ["00000000-4", *(f"{update:08d}" for update in range(1, UPDATES + 1))]
    checkpoints = [whole[0] / "checkpoints" / name for name in names]
    assert not ahead_of(checkpoints[0])
    for update, path in enumerate(checkpoints[1:], 1):
        held = ahead_of(path)
        # That of update 2 is written before the visit that is due there.
        then = load_checkpoint(checkpoints[(update - 1) // PER_VISIT * PER_VISIT]).tensors
        parts = "encoder", "context_encoder", "actor", "task_params"
        acting = {name for name in then if name.split(".")[0] in parts}
        assert held.keys() == acting
        assert all(torch.equal(held[name], then[name]) for name in acting)


def test_checkpoints_of_other_runs_hold_no_more_than_before(tmp_path: Path) -> None:
    assert train(tmp_path, config=config(collect_ahead=False))
    names = load_checkpoint(tmp_path).read_tensors(TENSORS)
    assert {name.partition("/")[0] for name in names} == {"generator", "learner", "replay"}


def refusal(directory: Path, collect_ahead: bool = True) -> str:
    """The line with which a checkpoint is refused."""
    family = FakeFamily(uneven=True, terminates=True)
    with pytest.raises(MetaslacError) as error:
        MetaTrainer(config(collect_ahead), family, CPU).resume(load_checkpoint(directory))
    message = str(error.value)
    assert len(message.splitlines()) == 1 and str(directory / TENSORS) in message
    return message


@pytest.fixture
def saved(whole: tuple[Path, int], tmp_path: Path) -> Path:
    """A copy of the checkpoint after the third update."""
    return Path(shutil.copytree(whole[0] / "checkpoints/00000003", tmp_path / "saved"))


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor] | None] = {
    "gone": None,
    "none": lambda x: x.new_zeros(0),
    "one more": lambda x: torch.cat([x.reshape(-1), x.new_zeros(1)]),
    "one dimension more": lambda x: x.unsqueeze(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_cannot_be_are_refused(saved: Path, change: str) -> None:
    tensors = tensors_of(saved)
    for name in [name for name in tensors if name.startswith("ahead/")][::5]:
        changed, function = dict(tensors), CHANGES[change]
        tensor = changed.pop(name)
        if function is not None:
            changed[name] = function(tensor)
        forge(saved, {TENSORS: safetensors.torch.save(changed)})
        assert name.removeprefix("ahead/") in refusal(saved)


def test_weights_that_do_not_belong_there_are_refused(whole: tuple[Path, int], saved: Path) -> None:
    assert "weights to play ahead with" in refusal(saved, collect_ahead=False)
    tensors = tensors_of(saved)
    forge(saved, {TENSORS: safetensors.torch.save({**tensors, "ahead/more": torch.zeros(1)})})
    assert "more" in refusal(saved)
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("ahead/")}
    forge(saved, {TENSORS: safetensors.torch.save(without)})
    refusal(saved)
    first = Path(shutil.copytree(whole[0] / "checkpoints/00000000", saved.with_name("first")))
    early = {**tensors_of(first), **{f"ahead/{n}": t for n, t in tensors.items()}}
    forge(first, {TENSORS: safetensors.torch.save(early)})
    assert "before the first visit" in refusal(first)
