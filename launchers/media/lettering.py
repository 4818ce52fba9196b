"""Words in pictures, each in its colour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

Words = Sequence[tuple[str, tuple[int, ...]]]  # texts and the colour of each

SPACE = 0.7  # between two texts, of the letters' height


def write(
    image: Image, place: tuple[float, float], words: Words, height: float, shadow: bool = False
) -> None:
    """Write words one after the other, `place` the upper left corner, in letters of so many pixels.

    With `shadow` they have a dark edge, to be read on any picture.
    """
    from PIL import ImageDraw

    draw, font = ImageDraw.Draw(image), _font(round(height))
    left, top = place
    for text, colour in words:
        draw.text((left, top), text, fill=colour, font=font, stroke_width=int(shadow), stroke_fill=(0, 0, 0))
        left += font.getlength(text) + SPACE * height


@cache
def _font(height: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(height)
