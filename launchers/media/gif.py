"""A .gif, drawn picture by picture."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.storage.files import write_atomically

COLOURS = 128
LOOKED_AT = 12  # pictures whose colours the palette has

Moment = TypeVar("Moment")


def write_gif(
    path: Path, moments: Sequence[Moment], draw: Callable[[Moment], NDArray[np.uint8]], milliseconds: int
) -> None:
    """Write a .gif that begins again at its end, whole or not at all.

    All pictures have one palette, so that what does not move takes no room.

    Args:
        path: the file.
        moments: what is shown, one after the other; equal neighbours are one picture that lasts longer.
        draw: makes the picture (H, W, 3) of one.
        milliseconds: that each moment lasts.
    """
    from PIL import Image

    places = np.linspace(0, len(moments) - 1, LOOKED_AT).round().astype(int)
    some = np.concatenate([draw(moments[place]) for place in np.unique(places)])
    palette = Image.fromarray(some).quantize(COLOURS, dither=Image.Dither.NONE)
    shown, lasts = [], []
    for moment, same in itertools.groupby(moments):
        picture = Image.fromarray(draw(moment))
        shown.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
        lasts.append(milliseconds * len(list(same)))
    data = io.BytesIO()
    shown[0].save(data, "GIF", save_all=True, append_images=shown[1:], duration=lasts, loop=0, optimize=False)
    try:
        write_atomically(path, data.getvalue())
    except OSError as error:
        raise MetaslacError(f"cannot write {path}: {error.strerror or error}") from None
