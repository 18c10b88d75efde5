"""The study that all sections share: the measured package, the real images, and seeded choices of captions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.features import FeatureCache
from benchmarks.quality.image_cache import Drawn, ImageCache, Progress, Say, Setting
from benchmarks.quality.measures import concept_ranks, unit, wilson_interval
from ldm_export.recipes.train import Background, DataRecipe
from ldm_export.train.image_folder import compose, load_images
from ldm_runtime.errors import InputError
from ldm_runtime.pipeline import Pipeline

COMPOSED_AT_ONCE = 256

Facts = dict[str, Any]  # what results.json holds


@dataclass(frozen=True)
class RealImages:
    """All images of the recipe: the first `trained` ones were trained on, the others are held out.

    rgba: uint8 (N, size, size, 4). captions, names and styles (N,): "red apple, 3d style" has the name "red apple".
    """

    rgba: np.ndarray
    captions: np.ndarray
    names: np.ndarray
    styles: np.ndarray
    trained: int

    def __len__(self) -> int:
        return len(self.captions)

    def composed(self, chosen: np.ndarray, background: Background) -> np.ndarray:
        """Compose the chosen images on a background: uint8 (n, size, size, 3)."""
        parts = [chosen[start : start + COMPOSED_AT_ONCE] for start in range(0, len(chosen), COMPOSED_AT_ONCE)]
        return np.concatenate([compose(self.rgba[part], np.array(background.colour)) for part in parts])


def load_real_images(data: DataRecipe) -> RealImages:
    """Load the images of a recipe. Raises InputError for a caption that is not of the form "name, style"."""
    trained, held_out = load_images(data)[0]
    captions = (*trained.captions, *held_out.captions)
    split = [caption.rpartition(", ") for caption in captions]
    for caption, (name, _, _) in zip(captions, split, strict=True):
        if name == "":
            raise InputError(f'the caption {caption!r} has no style: expected "name, style" in {data.folder}')
    return RealImages(
        rgba=trained.pixels[np.concatenate([trained.places, held_out.places])],
        captions=np.array(captions),
        names=np.array([name for name, _, _ in split]),
        styles=np.array([style for _, _, style in split]),
        trained=len(trained),
    )


@dataclass(frozen=True)
class Study:
    """The package, the real images and the caches that all sections measure with.

    share: scales every count: 1, or less for trying out. backgrounds: the plain one first.
    """

    pipe: Pipeline
    images: ImageCache
    features: FeatureCache
    real: RealImages
    backgrounds: tuple[Background, ...]
    share: float
    folder: Path
    say: Say

    def scaled(self, count: int) -> int:
        return max(2, round(count * self.share))

    def trained(self, count: int, seed: int) -> np.ndarray:
        """Choose `count` images that were trained on, equally many of each style while they last: their indices."""
        return self._choose(np.arange(self.real.trained), count, seed)

    def held_out(self, count: int, seed: int) -> np.ndarray:
        """Choose `count` held-out images likewise: their indices."""
        return self._choose(np.arange(self.real.trained, len(self.real)), count, seed)

    def setting(self, prompts: Iterable[str], seeds: Iterable[int], **changes: Any) -> Setting:
        """Return a setting of the package's defaults, which a variant may have its own of, but for the changes."""
        defaults = self.pipe.contract.defaults
        facts: dict[str, Any] = {"sampler": defaults.sampler, "steps": defaults.steps, "guidance": defaults.guidance}
        if self.pipe.variant is not None:
            own = {"sampler": self.pipe.variant.run.sampler, "steps": self.pipe.variant.run.steps}
            facts |= {name: value for name, value in own.items() if value is not None}
        facts |= changes
        return Setting(tuple(map(str, prompts)), tuple(seeds), **facts)

    def features_of(self, images: np.ndarray, what: str) -> np.ndarray:
        """Return raw features of uint8 images (N, H, W, 3): (N, D)."""
        progress = Progress(f"features of {what}", self.features.missing(images), self.say)
        return self.features.of(images, progress.advance)

    def reconstructed(self, chosen: np.ndarray) -> np.ndarray:
        """Reconstruct real images on the plain background by the package's autoencoder: uint8 (n, size, size, 3)."""
        progress = Progress("reconstructions", len(chosen), self.say)
        return self.images.reconstruct(self.real.composed(chosen, self.backgrounds[0]), progress.advance)

    @cached_property
    def real_features(self) -> np.ndarray:
        """Return raw features of all real images on the plain background: (N, D)."""
        return self.features_of(self.real.composed(np.arange(len(self.real)), self.backgrounds[0]), "the real images")

    def ranks(self, features: np.ndarray, styles: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Rank (0: nearest) of the concept `names` (Q,) for raw features (Q, D), among the real ones of its style."""
        ranks = np.empty(len(features), dtype=np.int64)
        gallery = unit(self.real_features)
        for style in np.unique(styles):
            asked, there = styles == style, self.real.styles == style
            right = names[asked][:, None] == self.real.names[there]
            ranks[asked] = concept_ranks(unit(features[asked]), gallery[there], right)
        return ranks

    def accuracy(self, features: np.ndarray, chosen: np.ndarray, names: np.ndarray | None = None) -> Facts:
        """Return how often the nearest real image has the concept of the chosen ones, or `names`."""
        asked = self.real.names[chosen] if names is None else names
        ranks = self.ranks(features, self.real.styles[chosen], asked)
        styles = self.real.styles[chosen]
        return {
            "count": len(ranks),
            "top1": share_of(ranks < 1),
            "top5": share_of(ranks < 5),
            "top1_by_style": {str(style): share_of(ranks[styles == style] < 1) for style in np.unique(styles)},
        }

    def _choose(self, among: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Choose a random order in which the styles take turns, cut after `count`."""
        random = np.random.default_rng(seed)
        styles = self.real.styles[among]
        turn = np.empty(len(among), dtype=np.int64)
        for style in np.unique(styles):
            turn[styles == style] = random.permutation(int((styles == style).sum()))
        return among[np.lexsort((styles, turn))][: self.scaled(count)]


def share_of(hits: np.ndarray) -> Facts:
    """Return the share of true values, with its 95 % interval."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return {"share": float(hits.mean()), "low": low, "high": high}


@dataclass(frozen=True)
class Section:
    """A part of the results.

    settings: says what to draw. measure: looks at it. render: writes Markdown of that.
    """

    title: str
    settings: Callable[[Study], dict[str, Setting]]
    measure: Callable[[Study, dict[str, Drawn]], Facts]
    render: Callable[[Facts], str]


def percent(fact: Facts) -> str:
    """Format a share with its interval, for a table."""
    return f"{fact['share']:.1%} ({fact['low']:.1%} – {fact['high']:.1%})"
