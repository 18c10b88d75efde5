"""What every section works with: the model, the images, seeds, and arrays that are computed once and kept."""

import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch

from ldm_export.analyze.features import Extractor
from ldm_export.analyze.keeping import ends_analysis, make_way, read_array, write_array
from ldm_export.analyze.pictures import Pictures
from ldm_export.analyze.subject import Subject
from ldm_runtime.files.atomic import atomic_file

T = TypeVar("T")
Amount = TypeVar("Amount", int, float)

Say = Callable[[str], None]
SAY_EVERY_SECONDS = 5.0


class Progress:
    """Says how much of a count is done, and the time that is left, every few seconds."""

    def __init__(self, what: str, total: int, say: Say) -> None:
        self._what, self._total, self._say = what, total, say
        self._started = self._said = time.monotonic()
        self._done = 0

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_SECONDS and self._done < self._total:
            left = (now - self._started) / self._done * (self._total - self._done)
            self._say(f"{self._what}: {self._done} of {self._total}, {left:.0f} s left")
            self._said = now


@dataclass
class Study:
    """An analysis that is under way.

    quick: fewer samples everywhere, for trying out. folder: keeps arrays, so
    that an interrupted analysis goes on where it was; what is kept belongs to this model, these images and options.
    """

    subject: Subject
    pictures: Pictures
    extractor: Extractor
    seed: int
    quick: bool
    folder: Path
    say: Say

    def scaled(self, full: Amount, quick: Amount) -> Amount:
        """Return a number of samples, or the seconds that timings may take."""
        return quick if self.quick else full

    def scaled_by_size(self, full: int, quick: int, least: int) -> int:
        """Return a number of images that cost time by their pixels: fewer than of 128x128 where they are larger."""
        width, height = self.pictures.size
        return max(least, self.scaled(full, quick) * 128 * 128 // max(width * height, 128 * 128))

    def at_once(self, images: int) -> int:
        """Return how many images are drawn or differentiated at once, for their memory: fewer where they are large."""
        return self.scaled_by_size(images, images, least=1)

    def random(self, name: str) -> np.random.Generator:
        """Return the random numbers of that name: the same in every run with the same seed."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def torch_random(self, name: str) -> torch.Generator:
        """Return the same for torch, on the CPU."""
        return torch.Generator().manual_seed(int(self.random(name).integers(2**63)))

    def progress(self, what: str, total: int) -> Progress:
        return Progress(what, total, self.say)

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array that `make` computes once; it stays in the folder. A damaged one is made again."""
        path = self.folder / f"{name}.npy"
        found = read_array(path)
        if found is not None:
            return found
        if os.path.lexists(path):
            self.say(f"what was kept in {path} is damaged: it is made again")
        made = make()
        self.keep(path.name, lambda file: write_array(made, file))
        return made

    def keep(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write a file of the folder. Raises KeepError, which ends the analysis, if that cannot be."""
        with ends_analysis(self.folder):
            make_way(self.folder / name)
            with atomic_file(self.folder / name) as temporary, open(temporary, "w+b") as file:
                write(file)

    def in_blocks(
        self, name: str, items: Sequence[T], block: int, make: Callable[[Sequence[T]], np.ndarray]
    ) -> np.ndarray:
        """Return what `make` computes of all items, (N, …), block by block: an interrupted one goes on at a block."""
        progress = self.progress(name, len(items))
        whole = np.empty(0)
        for start in range(0, len(items), block):
            part = items[start : start + block]
            made = self.kept(f"{name}-{start}", lambda part=part: make(part))  # type: ignore[misc]
            if len(made) != len(part):
                raise ValueError(f"{name}: {len(made)} of {len(part)} items were made")
            if start == 0:
                whole = np.empty((len(items), *made.shape[1:]), made.dtype)
            whole[start : start + block] = made
            progress.advance(len(part))
        return whole

    # --- What several sections measure ---

    @cached_property
    def pixels(self) -> np.ndarray:
        """Return the images, float32 (N, 3, H, W) in [-1, 1]."""
        pixels = np.ascontiguousarray(self.pictures.pixels.transpose(0, 3, 1, 2), np.float32)
        pixels /= np.float32(127.5)
        pixels -= np.float32(1)
        return pixels

    @cached_property
    def moments(self) -> np.ndarray:
        """Return mean and log-variance of the unscaled latents (N, 2C, h, w), or latents (N, C, h, w)."""
        from PIL import Image

        def encode(levels: Sequence[np.ndarray]) -> np.ndarray:
            return self.subject.pipe.encode([Image.fromarray(each) for each in levels])

        return self.in_blocks("moments", list(self.pictures.pixels), 16, encode)

    @cached_property
    def latents(self) -> np.ndarray:
        """Return the means of the latents as the denoiser has them, (N, C, h, w)."""
        space = self.subject.contract.latent
        return np.asarray(space.scaled(self.moments[:, : space.channels]), np.float32)

    @cached_property
    def reconstructions(self) -> np.ndarray:
        """Return the images decoded from the means of their latents, float32 (N, 3, H, W) around [-1, 1]."""
        decode = self.subject.pipe.decode_array
        return self.in_blocks("reconstructions", list(self.latents), 16, lambda part: decode(np.stack(part)))

    @cached_property
    def features(self) -> np.ndarray:
        """Return the features of the images, (N, D)."""
        return self.features_of("images", self.pictures.pixels)

    @cached_property
    def reconstructed_features(self) -> np.ndarray:
        """Return the features of the reconstructions, (N, D)."""
        return self.features_of("reconstructions", levels(self.reconstructions))

    def features_of(self, name: str, images: np.ndarray) -> np.ndarray:
        """Return features (N, D) of uint8 images (N, H, W, 3), kept under a name."""
        return self.in_blocks(
            f"features of {name}", list(images), 16, lambda part: self.extractor.compute(np.stack(part))
        )


def levels(pixels: np.ndarray) -> np.ndarray:
    """Convert pixels (N, 3, H, W) in [-1, 1] to uint8 (N, H, W, 3)."""
    found = np.empty((len(pixels), *pixels.shape[2:], 3), np.uint8)
    for place, image in enumerate(pixels):  # one after the other: float copies of all take four times as much
        found[place] = np.rint(np.clip((image + 1) * 127.5, 0, 255)).transpose(1, 2, 0)
    return found
