"""What the section on regularity says of marginals: how wide the latents are, and how near to normal each channel."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.marginals import distance_to_normal, distribution_samples, thresholds
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.plots import draw_lines, to_png

SHOWN = 8  # channels
# Distance of Kolmogorov and Smirnov; 0.06 of a uniform, 0.16 of an exponential.
NEAR_NORMAL, FAR_FROM_NORMAL = 0.05, 0.1
BINS = np.linspace(-5, 5, 51)


def add_marginals(findings: Findings, study: Study, latents: np.ndarray) -> None:
    """Add how wide the latents are, and how near to normal each channel. latents: a draw of each image."""
    random = study.random("regularity marginals")
    moments = np.stack([latents.mean(axis=(2, 3)), (latents**2).mean(axis=(2, 3))], axis=2)  # (N, C, 2)
    overall, over = over_images(moments, random, _deviation)
    findings.figures.append(
        Figure.measured(
            "deviation",
            "Standard deviation of the latents as the denoiser has them",
            overall,
            "",
            "of a draw of each image from the posterior, mean over channels",
            "The schedule's noise levels are made for 1.",
            over,
        )
    )
    count, channels, height, width = latents.shape
    numbers = latents.swapaxes(0, 1).reshape(channels, count, -1)
    marginals = {channel: _marginal(values, random) for channel, values in enumerate(numbers, 1)}
    findings.tables.append(_marginals_table(marginals, count, height * width, over))
    distances = {channel: each.distance for channel, each in marginals.items() if each.distance is not None}
    furthest = max(distances, key=lambda channel: distances[channel].value)
    findings.sentences.append(
        f"In the denoiser's scale the latents have a standard deviation of {overall.value:.3g}. The channel that is "
        f"furthest from a normal distribution of its mean and width is {furthest}: "
        + normality_sentence(distances[furthest])
    )
    findings.warnings += scale_warnings(overall.value, float(np.abs(latents.mean(axis=(0, 2, 3))).max()))
    findings.pictures.append(_histograms(latents))


@dataclass(frozen=True)
class _Marginal:
    """A channel's numbers. facts: mean, deviation, skewness, excess kurtosis. distance: to its normal, to_standard: to
    N(0, 1). None where the channel is the same everywhere: it has neither skewness nor a normal to compare with.
    """

    facts: tuple[float | None, ...]
    distance: Interval | None
    to_standard: float | None


def _marginal(values: np.ndarray, random: np.random.Generator) -> _Marginal:
    """Measure the numbers of a channel, (N, h * w)."""
    if np.ptp(values) == 0:
        return _Marginal((float(values.flat[0]), 0.0, None, None), None, None)
    at = thresholds(values)
    samples = distribution_samples(values, at)
    own, _ = over_images(samples, random, lambda part: distance_to_normal(part, at))
    skewness, kurtosis = (float(moment(values.ravel())) for moment in (stats.skew, stats.kurtosis))
    facts = (float(values.mean()), float(values.std()), skewness, kurtosis)
    return _Marginal(facts, own, distance_to_normal(samples, at, standard=True))


def _marginals_table(marginals: dict[int, _Marginal], count: int, cells: int, over: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for channel, each in marginals.items():
        own = each.distance
        ends = (None, None, None) if own is None else (own.value, own.low, own.high)
        rows.append((channel, *each.facts, *ends, each.to_standard))
    head = (
        "channel",
        "mean",
        "standard deviation",
        "skewness",
        "excess kurtosis",
        "distance to its normal",
        "low",
        "high",
        "distance to N(0, 1)",
    )
    return Table(
        "marginals",
        "Marginals of the latents, by channel",
        head,
        tuple(rows),
        f"Of a draw of each of {count} images, {cells} cells each. Distances are those of Kolmogorov and "
        f"Smirnov, the largest difference of two distribution functions; low and high: {over}. Cells of an "
        "image are alike, so the number of samples is between the images and the cells, and no test of "
        "significance is made. A channel that is the same everywhere has no distance.",
    )


def scale_warnings(deviation: float, furthest_mean: float) -> list[str]:
    """Warn of latents that a schedule is not made for. furthest_mean: of the channel whose mean is farthest from 0."""
    found = []
    if not 0.5 < deviation < 2:
        found.append(
            f"The latents have a standard deviation of {deviation:.3g}, not about 1: each noise level of the "
            "schedule acts as another one. The scale in the model's configuration does not fit these images."
        )
    if furthest_mean > deviation:
        found.append(
            f"A channel's mean is {furthest_mean:.3g} from 0, more than the standard deviation of {deviation:.3g}: "
            "most of its power is the same in every image. A shift in the model's configuration would take it away."
        )
    return found


def normality_sentence(distance: Interval) -> str:
    """Say how far a channel is from its normal distribution: by the size of the difference, not by its significance."""
    text = (
        f"at no value does the share of numbers below it differ by more than {distance.value:.1%} "
        f"({distance.low:.1%} to {distance.high:.1%}). "
    )
    if distance.value < NEAR_NORMAL:
        return text + f"Below {NEAR_NORMAL:.0%} this counts as near one."
    if distance.low < FAR_FROM_NORMAL:
        return text + f"That is seen, and small: a Gaussian counts as a poor model from {FAR_FROM_NORMAL:.0%} on."
    return (
        text
        + f"From {FAR_FROM_NORMAL:.0%} on a Gaussian would model these poorly. Diffusion does not need normal latents, "
        "it needs their scale."
    )


def _deviation(moments: np.ndarray) -> float:
    """Return the standard deviation, mean over channels, of moments (N, C, 2): mean and mean square."""
    mean, square = moments.mean(axis=0).T
    return float(np.sqrt(np.maximum(square - mean**2, 0)).mean())


def _density(values: np.ndarray) -> np.ndarray:
    """Return the density of values in BINS, of all of them, also those that lie outside."""
    return np.histogram(values, BINS)[0] / (values.size * np.diff(BINS))


def _histograms(latents: np.ndarray) -> Picture:
    centres = (BINS[1:] + BINS[:-1]) / 2
    lines = {
        f"channel {place + 1}": list(zip(centres, _density(channel), strict=True))
        for place, channel in enumerate(latents.swapaxes(0, 1)[:SHOWN])
    }
    lines["N(0, 1)"] = list(zip(centres, stats.norm.pdf(centres), strict=True))
    image = draw_lines(lines, "value, as the denoiser has it", "density")
    return Picture(
        "marginals", "How often each value comes up in the latents, by channel, beside N(0, 1).", to_png(image)
    )
