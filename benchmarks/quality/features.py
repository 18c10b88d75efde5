"""Features of images, computed once and kept in a folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ldm_export.analyze.features import Extractor
from ldm_runtime.files.atomic import atomic_file

BATCH = 8  # images at once; more are slower on a CPU
BLOCK = 256  # images of one file

Advance = Callable[[int], None]


class FeatureCache:
    """Features of images, computed once for the same content and kept in `folder`."""

    def __init__(self, extractor: Extractor, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.extractor = extractor
        self.folder = folder

    def missing(self, images: np.ndarray) -> int:
        """Count the images whose features are still to be computed."""
        return sum(len(block) for block in _blocks(images) if not self._path(block).is_file())

    def of(self, images: np.ndarray, advance: Advance) -> np.ndarray:
        """Return raw features of uint8 images (N, H, W, 3): float32 (N, D).

        advance: is called with the number of those just computed.
        """
        return np.concatenate([self._of_block(block, advance) for block in _blocks(images)])

    def _of_block(self, images: np.ndarray, advance: Advance) -> np.ndarray:
        path = self._path(images)
        if path.is_file():
            return np.asarray(np.load(path))
        parts = []
        for start in range(0, len(images), BATCH):
            parts.append(self.extractor.compute(images[start : start + BATCH]))
            advance(len(parts[-1]))
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(parts))
        return np.concatenate(parts)

    def _path(self, images: np.ndarray) -> Path:
        digest = hashlib.sha256(f"{self.extractor.name} {images.shape}".encode())
        digest.update(np.ascontiguousarray(images).data)
        return self.folder / f"{digest.hexdigest()[:24]}.npy"


def _blocks(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
