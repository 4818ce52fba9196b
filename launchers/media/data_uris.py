"""Pictures and files as addresses that hold them, for pages that ask nothing of anyone."""

from __future__ import annotations

import base64
import io

from metaslac.launchers.media.video import Frames

QUICK = 1  # zlib's least effort


def data_uri(media_type: str, data: bytes) -> str:
    """`data` as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def png(frame: Frames, quick: bool = False) -> str:
    """A picture (H, W, 3) as a data URI, each of its pixels one pixel: as small as can be, or quickly."""
    from PIL import Image

    data = io.BytesIO()
    if quick:
        Image.fromarray(frame).save(data, "PNG", compress_level=QUICK)
    else:
        Image.fromarray(frame).save(data, "PNG", optimize=True)
    return data_uri("image/png", data.getvalue())
