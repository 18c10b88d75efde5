"""A small folder of captioned images with transparency, and sections that take no time."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_export.analyze.features import Extractor


def write_images(folder: Path, count: int, size: tuple[int, int] = (128, 128), *, captions: bool = True) -> None:
    """Write images of a disc on nothing, each of another colour, and perhaps their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    rows = []
    y, x = np.mgrid[: size[1], : size[0]]
    for number in range(count):
        rgba = np.zeros((size[1], size[0], 4), np.uint8)
        rgba[..., :3] = random.integers(0, 256, 3)
        centre = random.uniform(0.3, 0.7, 2) * size
        rgba[..., 3] = 255 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (size[0] / 4) ** 2)
        Image.fromarray(rgba).save(folder / f"{number:03}.png")
        rows.append({"file": f"{number:03}.png", "caption": f"disc {number}, {('flat', '3d')[number % 2]} style"})
    if captions:
        (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 8)
    return tmp_path / "images"


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture
def make_extractor() -> Callable[[], Extractor]:
    return lambda: Extractor("mean colour", mean_colour)
