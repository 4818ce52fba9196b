"""The text that people read: the README and the pages of docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """The README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def everything() -> str:
    """All of them, one after the other."""
    return "\n\n".join(path.read_text(encoding="utf-8") for path in documents())


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    """What is fenced as code of a language, and where."""
    for path in documents():
        for found, code in FENCED.findall(path.read_text(encoding="utf-8")):
            if found == language:
                yield path, code


def python_block(beginning: str) -> str:
    """The one block of Python that begins so."""
    (code,) = (code for _, code in blocks("python") if code.startswith(beginning))
    return code


def batch_scripts() -> list[str]:
    """The scripts for sbatch: of one process, and of torchrun."""
    return [code for _, code in blocks("bash") if "#SBATCH" in code]
