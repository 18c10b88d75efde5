"""How large an image may be, and its file."""

from typing import Any

from PIL import Image

from ldm_runtime.errors import InputError
from ldm_runtime.package.values import MAX_PIXELS, MAX_SIDE

MAX_FILE_BYTES = 2**30  # twice MAX_PIXELS of four 16-bit numbers; some decoders read the whole file first


def size_of(image: Any) -> tuple[int, int]:
    """Return (width, height) of a PIL image; raise InputError for anything else."""
    if not isinstance(image, Image.Image):
        raise InputError(f"got {type(image).__name__}; expected a PIL image", code="request.image")
    return image.size


def check_size(width: int, height: int, what: str) -> None:
    """Raise InputError for an image without pixels, or with more than MAX_PIXELS or MAX_SIDE."""
    if min(width, height) < 1:
        raise InputError(f"{what} is {width}x{height}; expected at least one pixel", code="request.image")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{what} has {width}x{height} pixels, more than {MAX_PIXELS}; scale it down", code="request.image"
        )
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{what} has {width}x{height} pixels; expected sides of at most {MAX_SIDE}; scale it down",
            code="request.image",
        )
