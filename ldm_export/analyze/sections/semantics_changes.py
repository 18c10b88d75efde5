"""What changes of images do to their latents, and operations on latents to their images.

All is told as shares of the typical distance between two different images in the same space, so that latents, pixels
and features can be compared.
"""

from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.coding import decoded, encoded
from ldm_export.analyze.distances import next_different, pair_distances
from ldm_export.analyze.study import Study, levels
from ldm_export.analyze.transforms import Transform

SHOWN = 3  # images that are kept to be shown
SAME = 1e-3  # of the typical distance, below which two images are the same


@dataclass(frozen=True)
class Change:
    """What a transform does to each image, as shares of the typical distance, (N,) each.

    commuted: the latents of the transformed image against the transformed latents; None where there is no such.
    """

    transform: Transform
    pixels: np.ndarray
    features: np.ndarray
    latents: np.ndarray
    commuted: np.ndarray | None


@dataclass(frozen=True)
class Consistency:
    """An operation on latents, decoded, against the same on what the latents decode to, (N,) each.

    error: in 8-bit levels, root mean square. share: of what the operation changes, NaN for an image that it leaves as
    it is. features: of the typical distance.
    """

    name: str
    error: np.ndarray
    share: np.ndarray
    features: np.ndarray
    image: np.ndarray  # of the first ones: decoded latents, (n, 3, H, W)
    wanted: np.ndarray


@dataclass(frozen=True)
class Scales:
    """The typical distance between two different images, in each space."""

    latents: float
    pixels: float
    features: float


def measure_change(study: Study, transform: Transform, count: int, scales: Scales) -> Change:
    images, before = study.pixels[:count], study.latents[:count]
    changed = np.ascontiguousarray(transform.on_images(images), np.float32)
    name = f"semantics {transform.name}"
    after = study.kept(f"{name}, latents", lambda: encoded(study.subject.pipe, study.subject.contract.latent, changed))
    features = study.features_of(f"{name}, image", levels(changed))
    twin = None if transform.on_latents is None else transform.on_latents(before)
    return Change(
        transform,
        _norms(changed - images) / scales.pixels,
        _norms(features - study.features[:count]) / scales.features,
        _norms(after - before) / scales.latents,
        None if twin is None else _norms(after - twin) / scales.latents,
    )


def _norms(arrays: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(arrays.reshape(len(arrays), -1).astype(np.float64), axis=1))


def measure_operation(study: Study, transform: Transform, count: int, scales: Scales) -> Consistency:
    assert transform.on_latents is not None
    before, changed = study.reconstructions[:count], transform.on_latents(study.latents[:count])
    image = study.kept(f"semantics latents {transform.name}", lambda: decoded(study.subject.pipe, changed))
    return _compared(study, transform.name, image, transform.on_images(before), before, scales)


def measure_mean(study: Study, count: int, scales: Scales) -> Consistency:
    """Average the latents of each image with those of the next one that differs."""
    latents, before = study.latents[:count], study.reconstructions[:count]
    others = next_different(pair_distances(latents), SAME * scales.latents)
    image = study.kept(
        "semantics latents averaged", lambda: decoded(study.subject.pipe, 0.5 * (latents + latents[others]))
    )
    return _compared(study, "mean with another", image, 0.5 * (before + before[others]), before, scales)


def _compared(
    study: Study, name: str, image: np.ndarray, wanted: np.ndarray, before: np.ndarray, scales: Scales
) -> Consistency:
    to_levels = 127.5 / np.sqrt(before[0].size)
    features = [
        study.features_of(f"semantics {name}, {kind}", levels(each)) for kind, each in (("a", image), ("b", wanted))
    ]
    error, change = _norms(image - wanted), _norms(wanted - before)
    moves = change > SAME * scales.pixels
    return Consistency(
        name,
        to_levels * error,
        np.divide(error, change, out=np.full_like(error, np.nan), where=moves | np.isnan(change)),
        _norms(features[0] - features[1]) / scales.features,
        image[:SHOWN],
        wanted[:SHOWN],
    )
