"""PNG files for both runtimes: texts of each kind, and what each runtime reads."""

import ctypes
import zlib
from pathlib import Path

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.image import open_image
from tests.golden_images import array, chunk
from tests.runtime.cpp.context import Context


def plain(key: bytes, value: bytes) -> bytes:
    return chunk(b"tEXt", key + b"\0" + value)


def packed(key: bytes, value: bytes) -> bytes:
    return chunk(b"zTXt", key + b"\0\0" + zlib.compress(value))


def international(key: bytes, value: bytes) -> bytes:
    return chunk(b"iTXt", key + b"\0\0\0\0\0" + value)


def of_python(path: Path) -> np.ndarray | str:
    """Return what Python reads, uint8 (H, W, channels), or the sentence of its refusal."""
    try:
        return array(open_image(path))
    except InputError as error:
        return str(error)


def of_library(context: Context, path: Path) -> np.ndarray | str:
    """Return what the library reads, uint8 (H, W, channels), or the sentence of its refusal."""
    image = context.begun("ldm_image")
    refused = context.refusal("ldm_image_read_png", str(path).encode(), ctypes.byref(image))
    if refused is not None:
        return refused[1]
    shape = image.height, image.width, image.channels
    content = ctypes.string_at(image.pixels, image.height * image.width * image.channels)
    context.calls.ldm_image_free(ctypes.byref(image))
    return np.frombuffer(content, np.uint8).reshape(shape)
