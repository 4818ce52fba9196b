"""Checkpoints: written whole or not at all, and never read when anything about them is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import encoded

from metaslac.config.sections import Config
from metaslac.config.text import apply_settings
from metaslac.errors import MetaslacError
from metaslac.storage import checkpoint as module
from metaslac.storage.checkpoint import load_checkpoint, prune, save_checkpoint
from metaslac.storage.manifest import CONFIG, FORMAT_VERSION, MANIFEST, WEIGHTS

FILES = (WEIGHTS, CONFIG, MANIFEST)
FACTS: dict[str, Any] = {
    "family": "point_robot",
    "task_hash": "ab" * 32,
    "train_tasks": 80,
    "test_tasks": 20,
    "param_names": ["goal_x", "goal_y"],
    "action_size": 2,
    "update": 10,
    "env_steps": 400,
}
CONFIGURATION = apply_settings(Config(), ["train.seed=3", "train.lr_model=1e-05"])


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 3, 5, 5, generator=generator)
    return {
        "weight": weight.to(memory_format=torch.channels_last),
        "same": weight[0],  # shares memory with the first
        "log_alpha": torch.tensor(-1.5),
        "count": torch.tensor([2**40]),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "run" / "checkpoints" / "10"
    save_checkpoint(directory, tensors(), CONFIGURATION, FACTS)
    return directory


def refusal(path: Path) -> str:
    """The message with which a checkpoint is refused, one line."""
    with pytest.raises(MetaslacError) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_was_saved_comes_back(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.config == CONFIGURATION
    assert FACTS.items() <= loaded.manifest.items()
    assert loaded.manifest["versions"]["torch"]
    assert loaded.tensors.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(loaded.tensors[name], tensor) and loaded.tensors[name].dtype == tensor.dtype


def test_a_run_directory_means_its_last_checkpoint(saved: Path) -> None:
    later = saved.with_name("20")
    save_checkpoint(later, tensors(1), CONFIGURATION, {**FACTS, "update": 20})
    run_dir = saved.parent.parent
    for path in (run_dir, run_dir / "checkpoints", run_dir / "checkpoints" / "last"):
        assert load_checkpoint(path).manifest["update"] == 20
    assert os.readlink(saved.with_name("last")) == "20"  # relative, so that the run can be moved
    shutil.move(run_dir, run_dir.with_name("moved"))
    assert load_checkpoint(run_dir.with_name("moved")).manifest["update"] == 20


def test_a_checkpoint_is_never_overwritten(saved: Path) -> None:
    save_checkpoint(saved, {"other": torch.ones(1)}, CONFIGURATION, {**FACTS, "env_steps": 500})
    assert load_checkpoint(saved).tensors.keys() == tensors().keys()
    assert load_checkpoint(saved.parent).tensors.keys() == {"other"}
    assert names_in(saved.parent) == ["10", "10-2", "last"]


def test_the_newest_are_kept_and_the_last_one_always(saved: Path) -> None:
    for update in (20, 30, 5):  # whatever the update: one may go on from an older checkpoint
        save_checkpoint(saved.with_name(str(update)), tensors(), CONFIGURATION, FACTS)
        manifest = saved.with_name(str(update)) / MANIFEST
        os.utime(manifest, ns=(manifest.stat().st_mtime_ns + update,) * 2)
    prune(saved.parent, 2)
    assert names_in(saved.parent) == ["30", "5", "last"]
    saved.with_name("last").unlink()
    saved.with_name("last").symlink_to("30")
    shutil.copytree(saved.with_name("5"), saved.with_name("40"))
    os.utime(saved.with_name("40") / MANIFEST)
    prune(saved.parent, 1)
    assert names_in(saved.parent) == ["30", "40", "last"]
    load_checkpoint(saved.parent)


def test_what_has_not_changed_is_linked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = module.write_synced

    def noted(path: Path, data: bytes) -> None:
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(module, "write_synced", noted)
    where = saved.with_name("20")
    files = save_checkpoint(where, {}, CONFIGURATION, FACTS, {"more/a": b"a" * 9, "more/b": lambda: b"b"})
    assert sorted(written) == sorted(["a", "b", WEIGHTS, CONFIG, MANIFEST])
    written.clear()
    later = saved.with_name("30")
    save_checkpoint(later, {}, CONFIGURATION, FACTS, {"more/a": files["more/a"], "more/b": b"c"})
    assert sorted(written) == sorted(["b", WEIGHTS, CONFIG, MANIFEST])
    shutil.rmtree(where)
    assert [load_checkpoint(later).read(f"more/{name}") for name in "ab"] == [b"a" * 9, b"c"]
    monkeypatch.setattr(os, "link", refuse)
    linked = module.SavedFile(later / "more/a", files["more/a"].sha256, 9)
    save_checkpoint(saved.with_name("40"), {}, CONFIGURATION, FACTS, {"more/a": linked})
    assert load_checkpoint(saved.parent).read("more/a") == b"a" * 9


def refuse(*_: object) -> None:
    raise OSError(1, "Operation not permitted")


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_manifest_without_its_facts_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task_hash"):
        save_checkpoint(tmp_path / "1", {}, Config(), {k: v for k, v in FACTS.items() if k != "task_hash"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_write_that_fails_midway_leaves_the_old_checkpoint(
    saved: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full_disk(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        path.write_bytes(data[: len(data) // 2] if calls == failing else data)
        if calls == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_synced", full_disk)
    for directory in (saved, saved.with_name("20")):
        calls = 0
        with pytest.raises(MetaslacError, match="No space left on device"):
            save_checkpoint(directory, tensors(1), CONFIGURATION, {**FACTS, "update": 20})
    assert load_checkpoint(saved.parent).manifest["update"] == 10
    assert sorted(entry.name for entry in saved.parent.iterdir()) == ["10", "last"]


@pytest.mark.parametrize("renamed", ["the new one", "the link"])
def test_a_rename_that_fails_leaves_a_whole_checkpoint(
    saved: Path, renamed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, replace = os.rename, os.replace

    def refuse_new(source: Any, target: Any) -> None:
        if ".tmp-" in str(source):
            raise OSError(5, "Input/output error")
        rename(source, target)

    def refuse_link(source: Any, target: Any) -> None:
        if Path(target).name == "last":
            raise OSError(5, "Input/output error")
        replace(source, target)

    if renamed == "the new one":
        monkeypatch.setattr(os, "rename", refuse_new)
    else:
        monkeypatch.setattr(os, "replace", refuse_link)
    with pytest.raises(MetaslacError, match="Input/output error"):
        save_checkpoint(saved, tensors(1), CONFIGURATION, FACTS)
    load_checkpoint(saved)
    load_checkpoint(saved.parent)


def flip(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 100))


@pytest.mark.parametrize("damage", [flip, truncate, extend])
@pytest.mark.parametrize("name", FILES)
def test_every_damaged_file_is_refused_by_name(
    saved: Path, name: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    path = saved / name
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        path.write_bytes(damage(whole, rng))
        assert name in refusal(saved)
    path.write_bytes(whole)
    load_checkpoint(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert name in refusal(saved)


def test_swapped_files_are_refused(saved: Path) -> None:
    first, second = (saved / WEIGHTS).read_bytes(), (saved / CONFIG).read_bytes()
    (saved / WEIGHTS).write_bytes(second)
    (saved / CONFIG).write_bytes(first)
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", FILES)
def test_files_of_two_checkpoints_are_not_mixed(saved: Path, name: str) -> None:
    other = saved.with_name("20")
    save_checkpoint(
        other, tensors(1), apply_settings(CONFIGURATION, ["train.seed=4"]), {**FACTS, "update": 20}
    )
    (saved / name).write_bytes((other / name).read_bytes())
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_place_of_a_file_is_refused_and_not_run(saved: Path, name: str, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "was run"),)

    (saved / name).write_bytes(pickle.dumps(Payload()))
    refusal(saved)
    assert not (tmp_path / "was run").exists()


def signed(saved: Path, contents: dict[str, bytes], listed: dict[str, Any] | None = None) -> None:
    """Write files and a manifest whose checksums are right, as another program might."""
    facts = json.loads((saved / MANIFEST).read_text())
    del facts["manifest_sha256"]
    facts["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in contents.items()
    } | (listed or {})
    facts["manifest_sha256"] = hashlib.sha256(encoded(facts)).hexdigest()
    for name, data in contents.items():
        (saved / name).write_bytes(data)
    (saved / MANIFEST).write_bytes(encoded(facts))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (WEIGHTS, b"no tensors"),
        (WEIGHTS, b""),
        (WEIGHTS, b"\xff" * 64),
        (CONFIG, b"\xff\xfe"),
        (CONFIG, b"train: 1\n"),
    ],
)
def test_a_right_checksum_does_not_save_a_file_that_cannot_be_read(
    saved: Path, name: str, data: bytes
) -> None:
    whole = {name: (saved / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    signed(saved, {**whole, name: data})
    assert name in refusal(saved)


def test_a_configuration_that_cannot_be_is_refused(saved: Path) -> None:
    text = (saved / CONFIG).read_bytes().replace(b"window: 8", b"window: 0")
    signed(saved, {WEIGHTS: (saved / WEIGHTS).read_bytes(), CONFIG: text})
    assert "model.window" in refusal(saved)


def test_another_format_version_is_said_to_be_one(saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_text())
    (saved / MANIFEST).write_text(json.dumps({**manifest, "format_version": FORMAT_VERSION + 1}))
    assert f"format version {FORMAT_VERSION + 1}; this metaslac reads version {FORMAT_VERSION}" in refusal(
        saved
    )


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"format": "other"}', "[" * 100_000])
def test_a_foreign_manifest_is_refused(saved: Path, text: str) -> None:
    (saved / MANIFEST).write_text(text)
    assert MANIFEST in refusal(saved)


def test_a_manifest_cannot_name_files_elsewhere(saved: Path) -> None:
    whole = {name: (saved / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    signed(saved, whole, {"../../secret": {"sha256": "", "size": 0}})
    assert "damaged" in refusal(saved)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert "is not a directory" in refusal(tmp_path / "file")
    assert "not a metaslac checkpoint" in refusal(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last").symlink_to("gone")
    assert "not a metaslac checkpoint" in refusal(tmp_path)
