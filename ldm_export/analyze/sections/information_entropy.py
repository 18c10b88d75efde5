"""What the section on information says of entropy: the density of single cells and of principal components."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.entropy import (
    MOST_DIMENSIONS,
    gaussian_entropy,
    neighbour_entropy,
    neighbour_error,
)
from ldm_export.analyze.findings import Figure, Findings
from ldm_export.analyze.frechet import main_directions
from ldm_export.analyze.posterior import drawn_latents
from ldm_export.analyze.statistics import (
    NORMAL_95,
    Interval,
    groups_of,
    jackknife,
    over_left_out,
)
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_export.analyze.wording import counted

DRAWS = 16  # of one cell of each image
SCALE = "Differential entropy moves with the latents' scale by log2 of it, and may be negative."
NEIGHBOURS = "fourth nearest neighbour (Kozachenko and Leonenko 1987), without its bias on a Gaussian like the points"
MOST_ERROR = 0.15  # bits for each dimension by which the estimate by neighbours may be off on a Gaussian


def add_entropies(findings: Findings, study: Study) -> None:
    """Measure the density of single cells and of the first principal components, as the denoiser has them."""
    random = study.random("information entropy")
    latents = drawn_latents(study.moments, study.subject.contract.latent, random)
    count, channels, height, width = latents.shape
    used = min(channels, MOST_DIMENSIONS)
    cells = latents.transpose(0, 2, 3, 1).reshape(count, height * width, channels)
    if used < channels:
        cells = cells @ main_directions(cells.reshape(-1, channels), used)
    everything = np.arange(count)
    draws = [(everything, cells[everything, random.integers(0, height * width, count)]) for _ in range(DRAWS)]
    what = counted(channels, "channel")
    if used < channels:
        what = f"{used} principal components of {what}"
    _add_entropy(findings, "cell", f"a latent cell ({what})", draws, study)
    parts = min(MOST_DIMENSIONS, count // 16, latents[0].size)
    flat, order = latents.reshape(count, -1), random.permutation(count)
    halves = (order[: count // 2], order[count // 2 :])
    # Components of the very images that are measured would have too much variance: they are those of the other half.
    held_out = [(one, flat[one] @ main_directions(flat[other], parts)) for one, other in (halves, halves[::-1])]
    _add_entropy(
        findings, "components", f"the first {parts} principal components of the whole latents", held_out, study
    )


@dataclass(frozen=True)
class _Draws:
    """Draws of points of the same density. draws: of each, the numbers of some images, and a point of each of them.

    what: the points are of, in words. groups: (N,), in which images are left out together.
    """

    name: str
    what: str
    draws: list[tuple[np.ndarray, np.ndarray]]
    groups: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many points a draw has, and their dimensions."""
        count, dimensions = self.draws[0][1].shape
        return count, dimensions

    @property
    def over(self) -> str:
        return f"{over_left_out(len(self.groups))} in {self.groups.max() + 1} groups"

    def all_finite(self, estimate: Callable[[np.ndarray], float]) -> bool:
        return all(math.isfinite(estimate(points)) for _, points in self.draws)

    def mean_of(self, estimate: Callable[[np.ndarray], float], kept: np.ndarray) -> float:
        """Return an estimate in bits of the images that are kept, mean over the draws."""
        return float(np.mean([estimate(points[kept[numbers]]) for numbers, points in self.draws])) / BIT


def _add_entropy(
    findings: Findings, name: str, what: str, draws: list[tuple[np.ndarray, np.ndarray]], study: Study
) -> None:
    """draws: of the same density, each the numbers of some images and a point of each of them."""
    images = 1 + max(int(numbers.max()) for numbers, _ in draws)
    points = _Draws(name, what, draws, groups_of(images, study.random(f"entropy {name} groups")))
    bound = _bound(points)
    findings.figures.append(bound)
    if bound.value is None:
        return
    bias, uncertain = 0.0, 0.0
    note = "Some images have exactly the same values there, so there is no density."
    if points.all_finite(neighbour_entropy):
        bias, uncertain = (each / BIT for each in neighbour_error(*points.shape, study.random(f"entropy {name}")))
        note = _too_far_off(bias, *points.shape)
    title = f"Entropy of {what}: estimate"
    if note:
        findings.figures.append(Figure(f"entropy_{name}", title, None, "bits", NEIGHBOURS, SCALE, note=note))
        return
    _add_estimate(findings, title, points, bias, uncertain)


def _bound(points: _Draws) -> Figure:
    """Return the entropy of a Gaussian with the covariance of the points, which is above theirs."""
    key, title = f"entropy_{points.name}_gaussian", f"Entropy of {points.what}: at most"
    estimator = (
        "entropy of a Gaussian with the same covariance, without the bias of its logarithm; mean of "
        f"{len(points.draws)} draws of {points.shape[0]} points"
    )
    limits = f"{SCALE} The bias is that of Gaussian points, others leave some."
    if not points.all_finite(gaussian_entropy):
        note = "Some direction does not vary, so there is no density."
        return Figure(key, title, None, "bits", estimator, limits, note=note)
    ends = jackknife(points.groups, lambda kept: np.array([points.mean_of(gaussian_entropy, kept)]))
    return Figure.measured(key, title, _as_interval(ends, 0), "bits", estimator, limits, points.over)


def _too_far_off(bias: float, count: int, dimensions: int) -> str:
    """Return why there is no estimate by neighbours, "" if there is one. bias: on a Gaussian, in bits."""
    if abs(bias) <= MOST_ERROR * dimensions:
        return ""
    return f"Too few points: on a Gaussian, {count} points in {dimensions} dimensions leave it {bias:+.2g} bits off."


def _add_estimate(findings: Findings, title: str, points: _Draws, bias: float, uncertain: float) -> None:
    """Add the estimate by neighbours, and how far it is below the Gaussian's. bias, with its deviation: taken off."""

    def both(kept: np.ndarray) -> np.ndarray:
        estimate = points.mean_of(neighbour_entropy, kept) - bias
        return np.array([estimate, points.mean_of(gaussian_entropy, kept) - estimate])

    ends = jackknife(points.groups, both)
    found, gap = (_wider(_as_interval(ends, place), NORMAL_95 * uncertain) for place in (0, 1))
    limits = (
        f"{SCALE} The bias that was taken off is {bias:+.2g} bits (± {2 * uncertain:.1g}); on what is no Gaussian it "
        "may be another."
    )
    name, over = points.name, points.over
    findings.figures += [
        Figure.measured(f"entropy_{name}", title, found, "bits", NEIGHBOURS, limits, over),
        Figure.measured(
            f"entropy_{name}_gap",
            f"Entropy of {points.what}: how far below that of a Gaussian",
            gap,
            "bits",
            "difference of the two figures above, by leaving out the same images in both",
            "0 for a Gaussian, on average: below 0 is chance.",
            over,
        ),
    ]
    findings.sentences.append(gap_sentence(points.what, gap, points.shape[1]))


def _as_interval(ends: tuple[np.ndarray, np.ndarray, np.ndarray], place: int) -> Interval:
    return Interval(*(float(each[place]) for each in ends))


def _wider(found: Interval, more: float) -> Interval:
    """Return an interval with a further, independent error."""
    low, high = math.hypot(found.value - found.low, more), math.hypot(found.high - found.value, more)
    return Interval(found.value, found.value - low, found.value + high)


def gap_sentence(what: str, gap: Interval, dimensions: int) -> str:
    """Say how far an entropy is below that of a Gaussian with the same covariance."""
    values = f"({gap.value:.2g} bits, {gap.low:.2g} to {gap.high:.2g})"
    if gap.low <= 0:
        return f"The entropy of {what} is not told from that of a Gaussian with the same covariance {values}."
    text = f"The entropy of {what} is below that of a Gaussian with the same covariance {values}: "
    if gap.value < MOST_ERROR * dimensions:
        return text + "close to one."
    return text + "its values cluster, and a model that knows where would need that many bits less than a Gaussian."
