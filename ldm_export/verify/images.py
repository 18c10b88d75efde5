"""The images of a report: torch's, the engine's, and their difference made visible."""

import io

import numpy as np
from PIL import Image

from ldm_export.verify.page import Figure
from ldm_runtime.image import to_images


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) around [-1, 1] to (H, W, 3) as an image file holds it."""
    return np.asarray(to_images(image[None], [{}])[0])


def side_by_side(expected: np.ndarray, measured: np.ndarray, measured_name: str = "this engine") -> list[Figure]:
    """Make the three images of two arrays of bytes (H, W, 3); the difference is scaled up to full range."""
    difference = np.abs(expected.astype(np.int16) - measured)
    gain = max(1, 255 // max(1, int(difference.max())))
    return [
        Figure("torch", _png(expected)),
        Figure(measured_name, _png(measured)),
        Figure(f"difference x {gain}", _png((difference * gain).astype(np.uint8))),
    ]


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
