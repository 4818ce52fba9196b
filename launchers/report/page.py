"""The page itself: the template filled in, and everything it shows inside it as data URIs.

What is shown is made elsewhere; nothing here computes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from metaslac.launchers.report.words import number

HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"


def render(values: Mapping[str, Any]) -> str:
    """The page as HTML; `values` are the names that page.html.j2 uses."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT))
    return environment.get_template(TEMPLATE).render(
        values, style=style, script=script, style_hash=_hash(style), script_hash=_hash(script)
    )


def compressed(data: bytes) -> bytes:
    """`data` as a .gz file, the same whenever it is made."""
    return gzip.compress(data, mtime=0)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
