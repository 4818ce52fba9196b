"""Agents on Hugging Face's Hub, played by a server here: put there, taken from there, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.hub import Hub, serving
from reports import refusal

import metaslac

ROOT = Path(__file__).parents[3]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
LOADED = "import metaslac, sys; print(metaslac.load(sys.argv[1], 'cpu').family)"


@pytest.fixture
def hub() -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with serving(Hub()) as hub:
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Runs Python in a process of its own, as the library asks where the Hub is when it is imported."""
    environment = {
        **{"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_nobodys"},
        **{"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    }

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_an_agent_goes_there_and_comes_back(hub: Hub, run: Run, agent: Path, evaluated_run: Path) -> None:
    pushed = run("-m", "metaslac", "export", str(evaluated_run), "--push-to-hub", "me/points", "--private")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout == f"{hub.address}/me/points: metaslac adapt --checkpoint hf:me/points\n"
    (files,) = hub.repositories["me/points"]
    assert hub.private["me/points"]
    for name in ("model.safetensors", "config.yaml", "README.md", "evaluation.json"):
        assert files[name] == (agent / name).read_bytes()
    assert {*files} == {path.name for path in agent.iterdir()}

    # Somebody puts there what is no agent's: it is not even fetched.
    hub.repositories["me/points"].append({**files, "model.pkl": b"never", "code.py": b"never"})
    loaded = run("-c", LOADED, "hf:me/points")
    assert loaded.stdout == "point_robot\n", loaded.stderr
    assert set(hub.asked) == {*files}

    # An agent that is exported already is pushed as it is; an earlier revision can still be had.
    again = run("-m", "metaslac", "export", str(agent), "--push-to-hub", "me/points")
    assert again.returncode == 0, again.stderr
    hub.repositories["me/points"].append(
        {**files, "model.safetensors": bytes(len(files["model.safetensors"]))}
    )
    damaged = run("-c", LOADED, "hf:me/points")
    assert "model.safetensors is damaged: its checksum does not match" in damaged.stderr
    first = run("-m", "metaslac", "inspect", f"hf:me/points@{1:040d}")
    assert "weights only, whole" in first.stdout, first.stderr


def test_what_is_not_there_is_a_line(hub: Hub, run: Run) -> None:
    hub.repositories["me/points"] = [{"README.md": b"nothing else"}]
    for name, said in (
        ("me/nothing", "there is no such repository"),
        ("me/points@v2", "it has no such revision"),
        ("me/points", "manifest.json is missing"),
    ):
        refused = run("-m", "metaslac", "adapt", "--checkpoint", f"hf:{name}")
        (line,) = refused.stderr.splitlines()
        assert refused.returncode == 2 and said in line


def test_no_connection_is_a_line(run: Run, agent: Path) -> None:
    nowhere = "http://127.0.0.1:9"  # nothing answers there
    for words, said in (
        (["inspect", "hf:me/points"], "cannot download hf:me/points: "),
        (["export", str(agent), "--push-to-hub", "me/points"], "cannot write to me/points: "),
    ):
        refused = run("-m", "metaslac", *words, HF_ENDPOINT=nowhere)
        (line,) = refused.stderr.splitlines()
        assert refused.returncode == 2 and said in line


def test_without_the_extra_a_line_says_what_to_install(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = 'need huggingface_hub: pip install "metaslac[hub]"'
    with pytest.raises(metaslac.MetaslacError) as error:
        metaslac.load("hf:me/points")
    assert said in str(error.value)
    assert said in refusal("export", str(agent), "--push-to-hub", "me/points")
    assert said in refusal(
        "export", str(agent), "--out", str(tmp_path / "agent"), "--push-to-hub", "me/points"
    )


@pytest.mark.parametrize("name", ["me", "me/a/b", "", "me/points@", "../..", "me/po ints", "me/points@a b"])
def test_what_names_no_repository_is_refused(name: str, agent: Path) -> None:
    with pytest.raises(metaslac.MetaslacError, match=r"is not OWNER/NAME"):
        metaslac.load(f"hf:{name}")
    assert "is not OWNER/NAME" in refusal("export", str(agent), "--push-to-hub", name)
