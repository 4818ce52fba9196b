"""The raw numbers of a report's runs, to be saved from the page itself.

As whole as the size of a page allows; what was left out is said beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metaslac.launchers.media.data_uris import data_uri
from metaslac.launchers.report.gather import PROGRESS, Run
from metaslac.launchers.report.page import compressed

MOST_BYTES = 2_500_000  # of all of them together, as they are on the page
LARGEST_PART = "belief_width"  # after every single decision


@dataclass(frozen=True)
class Download:
    """A file that is on the page."""

    run: str
    name: str
    file: str  # the name to save it under
    source: str
    note: str


def downloads(runs: Sequence[Run]) -> list[Download]:
    """Two files of each run: as they are if all of them fit, else compressed, else evaluations in part."""
    for zipped, whole in ((False, True), (True, True), (True, False)):
        files = [
            _download(run, name, data, zipped, whole or name == PROGRESS)
            for run in runs
            for name, data in run.files.items()
        ]
        if sum(len(file.source) for file in files) <= MOST_BYTES:
            break
    return files


def _download(run: Run, name: str, data: bytes, zipped: bool, whole: bool) -> Download:
    if not whole:
        data = _without_largest(data)
    media_type = "text/csv" if name == PROGRESS else "application/json"
    if zipped:
        data, media_type = compressed(data), "application/gzip"
    note = "" if whole else f"without {LARGEST_PART}"
    name += ".gz" * zipped
    return Download(run.name, name, f"{run.name}-{name}", data_uri(media_type, data), note)


def _without_largest(data: bytes) -> bytes:
    values: dict[str, Any] = json.loads(data)
    for part in ("held_out", "training"):
        if values.get(part):
            del values[part][LARGEST_PART]
    return json.dumps(values).encode()
