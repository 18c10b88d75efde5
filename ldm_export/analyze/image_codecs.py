"""Ordinary image codecs, to compare with: JPEG and WebP by Pillow."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

QUALITIES = (1, 5, 10, 20, 35, 50, 65, 80, 90, 95)
FORMATS = ("JPEG", "WebP")
START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Coded:
    """An image that was written and read again. size, content: bytes of the file, and of it without its headers."""

    size: int
    content: int
    pixels: np.ndarray


def code(pixels: np.ndarray, codec: str, quality: int) -> Coded:
    """Write an image, uint8 (H, W, 3), as `codec` of FORMATS with Pillow's defaults, and read it again."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, codec, quality=quality)
    written = file.getvalue()
    return Coded(len(written), _content(written, codec), np.asarray(Image.open(file).convert("RGB")))


def _content(written: bytes, codec: str) -> int:
    """Return the bytes that tell of this image alone: without JPEG's tables, which are the same for every image."""
    if codec != "JPEG":
        return len(written)
    start = written.rindex(START_OF_SCAN)  # marker, then a header with its length
    return len(written) - start - 2 - int.from_bytes(written[start + 2 : start + 4], "big")
