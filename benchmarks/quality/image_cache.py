"""Draws the images of a setting through the runtime, once: they stay in a folder as .npy, half drawn ones too."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.pipeline import Pipeline

BATCH = 8  # images at once
DECODER_WORK = 2  # passes through the UNet that take about as long as the decoder; only for the time left
SAY_EVERY_SECONDS = 5.0

Advance = Callable[[int], None]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One image for each prompt, with the seed of the same place; nothing is left to a default."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sampler: str
    steps: int
    guidance: float

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def work(self) -> int:
        """Return the work of one image, in passes through the UNet."""
        return self.steps * (2 if self.guidance > 1 else 1) + DECODER_WORK

    def identity(self, source: str) -> str:
        facts = json.dumps([source, dataclasses.asdict(self)], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:24]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Images with the time that they took.

    images: uint8 (N, H, W, 3). seconds: (N,), those of an image's batch, divided by its images.
    """

    images: np.ndarray
    seconds: np.ndarray


class Progress:
    """A log of how far work of `total` units is and how long the rest will take, every few seconds."""

    def __init__(self, what: str, total: int, say: Say) -> None:
        self._what, self._total, self._say = what, total, say
        self._done, self._busy = 0, 0.0
        self._last = self._said = time.monotonic()

    def resume(self) -> None:
        """Resume the clock: the time since the last advance was spent on something else."""
        self._last = time.monotonic()

    def advance(self, units: int) -> None:
        now = time.monotonic()
        self._done += units
        self._busy += now - self._last
        self._last = now
        if now - self._said >= SAY_EVERY_SECONDS:
            left = self._busy / self._done * (self._total - self._done)
            self._say(f"{self._what}: {self._done / self._total:.1%}, {duration(left)} left")
            self._said = now


def duration(seconds: float) -> str:
    """Format a time for people: 42 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def batches(seeds: Sequence[int], most: int) -> list[slice]:
    """Yield runs of at most `most` places whose seeds count up by one, as the images of a batch do."""
    starts: list[int] = []
    for place, seed in enumerate(seeds):
        if not starts or seed != seeds[place - 1] + 1 or place - starts[-1] == most:
            starts.append(place)
    return [slice(start, end) for start, end in pairwise([*starts, len(seeds)])]


class ImageCache:
    """Images by `pipe`, each setting in a .npy file of `folder` with a .json file that says how it was drawn."""

    def __init__(self, pipe: Pipeline, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pipe = pipe
        self.folder = folder
        sample = pipe.contract.sample
        self.batch = min(BATCH, pipe.contract.range_of(sample.dims[0])[1] // 2)
        self.notices: dict[str, None] = {}  # what the runtime had to say, in order
        variant = "" if pipe.variant is None else f" {pipe.variant.name}"
        self.source = f"{pipe.package.identity}{variant}"  # what draws

    def remaining(self, setting: Setting) -> int:
        """Count the images of a setting that are not drawn yet."""
        return len(setting) - len(self._log(setting)["seconds"])

    def draw(self, setting: Setting, advance: Advance) -> Drawn:
        """Return the images of a setting.

        advance: is called with the work of those that were drawn just now.
        """
        log = self._log(setting)
        images = self._open(setting, new=not log["seconds"])
        done = len(log["seconds"])
        for run in batches(setting.seeds[done:], self.batch):
            place = slice(done + run.start, done + run.stop)
            started = time.perf_counter()
            drawing = self.pipe.sample(
                list(setting.prompts[place]),
                seed=setting.seeds[place.start],
                sampler=setting.sampler,
                steps=setting.steps,
                guidance=setting.guidance,
            )
            *_, last = drawing
            batch = last.images()
            seconds = (time.perf_counter() - started) / len(batch)
            images[place] = np.stack([np.asarray(one) for one in batch])
            images.flush()
            log["seconds"] += [round(seconds, 4)] * len(batch)
            log["notices"] = list(dict.fromkeys([*log["notices"], *map(str, drawing.notices)]))
            with atomic_file(self._path(setting).with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps(log))
            advance(len(batch) * setting.work)
        self.notices |= dict.fromkeys(log["notices"])
        return Drawn(np.array(images), np.array(log["seconds"]))

    def reconstruct(self, images: np.ndarray, advance: Advance) -> np.ndarray:
        """Reconstruct uint8 images (N, H, W, 3) by the package's encoder (its mean) and decoder."""
        digest = hashlib.sha256(f"reconstructed {self.source} {images.shape}".encode())
        digest.update(np.ascontiguousarray(images).data)
        path = self.folder / f"{digest.hexdigest()[:24]}.npy"
        if path.is_file():
            return np.asarray(np.load(path))
        space = self.pipe.contract.latent
        made = np.empty_like(images)
        for index, image in enumerate(images):
            mean = self.pipe.encode(Image.fromarray(image))[:, : space.channels]
            made[index] = np.asarray(self.pipe.decode(space.scaled(mean))[0])
            advance(1)
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.save(file, made)
        return made

    def _path(self, setting: Setting) -> Path:
        return self.folder / f"{setting.identity(self.source)}.npy"

    def _log(self, setting: Setting) -> dict[str, Any]:
        """Read the log of a setting: how it is drawn, and the seconds of every image that is drawn already."""
        path = self._path(setting)
        if path.is_file() and path.with_suffix(".json").is_file():
            log: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
            return log
        return {"package": self.source, **dataclasses.asdict(setting), "notices": [], "seconds": []}

    def _open(self, setting: Setting, *, new: bool) -> np.memmap:
        if not new:
            return np.lib.format.open_memmap(self._path(setting), mode="r+")
        image = self.pipe.contract.image
        shape = (len(setting), image.height, image.width, 3)
        return np.lib.format.open_memmap(self._path(setting), mode="w+", dtype=np.uint8, shape=shape)
