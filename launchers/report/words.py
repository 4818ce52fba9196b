"""Numbers as people read them, the same all over the page."""

from __future__ import annotations

import math

NOTHING = "n/a"
MINUS = "−"


def number(value: float, digits: int = 2) -> str:
    """With a real minus sign; a digit less from 100 on."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits - (abs(value) >= 100 and digits > 1)}f}"
    return text.replace("-", MINUS if float(text) else "")


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    if not math.isfinite(seconds):
        return NOTHING
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {left:02d} s"
