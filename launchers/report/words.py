"""Numbers as people read them, the same all over the page."""

from __future__ import annotations

import math

UNDEFINED = "undefined"  # a number that cannot be
UNKNOWN = "unknown"  # what nobody has written down
MINUS = "−"


def number(value: float, digits: int = 2) -> str:
    """With a real minus sign; a digit less from 100 on."""
    if not math.isfinite(value):
        return UNDEFINED
    text = f"{value:.{digits - (abs(value) >= 100 and digits > 1)}f}"
    return text.replace("-", MINUS if float(text) else "")


def interval(low: float, high: float) -> str:
    """From one number to the other; undefined where either is."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDEFINED
    return f"{number(low)} to {number(high)}"


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    if not math.isfinite(seconds):
        return UNKNOWN
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {left:02d} s"
