"""Regularity: spectrum and marginals of the latents, dependence of their numbers, and the decoder's reaction."""

import math

import numpy as np
from scipy import stats

from ldm_export.analyze.dependence import (
    cell_covariance,
    cell_moments,
    neighbour_information,
    neighbour_moments,
    total_correlation,
)
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.marginals import distance_to_normal, distribution_samples, thresholds
from ldm_export.analyze.posterior import drawn_latents, require_variation
from ldm_export.analyze.sections.derivatives import says_what_cannot_be_differentiated
from ldm_export.analyze.sections.regularity_decoder import add_reaction
from ldm_export.analyze.spectrum import covariance_spectrum, effective_rank, participation_ratio
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_export.analyze.wording import counted
from ldm_export.plots import draw_lines, to_png

CONVERGED = 0.1  # by which a figure may rise from half of the images to all, to be given
HALVES = 40  # random halves of the images
SHOWN = 8  # channels
SINGULAR = 1e-10  # ratio of eigenvalues
NEAR_NORMAL, FAR_FROM_NORMAL = (
    0.05,
    0.1,
)  # distance of Kolmogorov and Smirnov; 0.06 of a uniform, 0.16 of an exponential
BINS = np.linspace(-5, 5, 51)

SHARED = "Total correlation of a cell's channels"
GAUSSIAN = "of a Gaussian with the covariance of the channels' means, all cells together"
LINEAR = "Dependence that is not linear is not seen."


@says_what_cannot_be_differentiated
def measure(study: Study) -> Findings:
    """Measure the latents' distribution, and the decoder's reaction to small changes."""
    require_variation(study)
    findings = Findings()
    means = study.latents.astype(np.float64)
    _add_spectrum(findings, study, means)
    _add_dependence(findings, study, means)
    _add_marginals(findings, study, drawn_latents(study, study.random("regularity draw")))
    add_reaction(findings, study, means)
    return findings


# --- Spectrum ---


def _add_spectrum(findings: Findings, study: Study, latents: np.ndarray) -> None:
    count, channels = latents.shape[:2]
    flat = latents.reshape(count, -1)
    random = study.random("regularity spectrum")
    halves = [flat[random.permutation(count)[: count // 2]] for _ in range(HALVES)]
    spectrum = covariance_spectrum(flat)
    rank = effective_rank(spectrum)
    at_half = float(np.mean([effective_rank(covariance_spectrum(half)) for half in halves[:4]]))
    converged = rank <= (1 + CONVERGED) * at_half
    findings.figures.append(
        Figure(
            "effective_rank",
            "Effective rank of the latents",
            rank if converged else None,
            f"of {flat.shape[1]} dimensions",
            "exp of the entropy of the normalised eigenvalues of the means' covariance (Roy and Vetterli 2007)",
            "Too low with few images: small eigenvalues are the last to be seen.",
            note=f"{count // 2} images give {at_half:.4g}, {count} give {rank:.4g}"
            + ("." if converged else ": it still grows with the images, so it is more than that."),
        )
    )
    ratio = Interval(participation_ratio(flat), *_range([participation_ratio(half) for half in halves]))
    findings.figures.append(
        Figure.measured(
            "participation_ratio",
            "Participation ratio: equal dimensions with the same concentration of variance",
            ratio,
            f"of {flat.shape[1]} dimensions",
            "(tr S)² / tr(S²) of the means' covariance S, both estimated without bias (Himeno and Yamada 2014)",
            "It counts the few large eigenvalues; the effective rank counts small ones too.",
            f"range of {HALVES} random halves of {count} images: wider than that of all",
        )
    )
    moments = cell_moments(latents)
    of_cells, over = over_images(
        moments, random, lambda part: effective_rank(np.linalg.eigvalsh(cell_covariance(part)))
    )
    findings.figures.append(
        Figure.measured(
            "cell_rank",
            f"Effective rank of a cell's {counted(channels, 'channel')}",
            of_cells,
            f"of {channels}",
            "exp of the entropy of the normalised eigenvalues of the channels' covariance, all cells together",
            "Linear dependence alone.",
            over,
        )
    )
    share = np.cumsum(spectrum) / spectrum.sum()
    most = int(np.searchsorted(share, 0.9)) + 1
    findings.sentences.append(
        f"The variance of the latents is spread as over {ratio.value:.3g} equal dimensions of {flat.shape[1]}; "
        f"{components_sentence(most, count)}{'' if converged else ' Of more images it would be more of them.'}"
        f"{cell_sentence(of_cells.value, channels)}"
    )
    findings.pictures.append(_spectrum_picture(spectrum, flat.shape, random))


def components_sentence(most: int, images: int) -> str:
    """Say how many principal components hold nine tenths of the variance."""
    if most == 1:
        return f"the first principal component of {images} images holds 90 % of it."
    return f"the first {most} principal components of {images} images hold 90 % of it."


def cell_sentence(rank: float, channels: int) -> str:
    """Say how many of a cell's channels are in use; "" of one channel, which is what it is."""
    if channels == 1:
        return ""
    use = "all are in use" if rank > 0.8 * channels else "some repeat others, or hardly vary"
    return f" A cell's {channels} channels count as {rank:.3g}: {use}."


def _spectrum_picture(spectrum: np.ndarray, shape: tuple[int, ...], random: np.random.Generator) -> Picture:
    """Show the variances of latents, of a shape (N, D), beside those of as many draws without structure."""
    count, size = shape
    noise = random.standard_normal(shape) * math.sqrt(spectrum.sum() / size)
    places = np.unique(np.geomspace(1, count - 1, 40).astype(int))
    lines = {
        "latents": [(float(place), float(spectrum[place - 1])) for place in places],
        "as many draws of a Gaussian with equal dimensions": [
            (float(place), float(value))
            for place, value in zip(places, covariance_spectrum(noise)[places - 1], strict=True)
        ],
    }
    image = draw_lines(lines, "principal component", "variance", log=True, log_x=True)
    caption = (
        f"Variance of the latents' principal components, {count} images. The second line falls only because the "
        "images are few: what lies above it is structure."
    )
    return Picture("spectrum", caption, to_png(image))


def _range(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


# --- Dependence ---


def _add_dependence(findings: Findings, study: Study, latents: np.ndarray) -> None:
    """Measure how far from independent channels and neighbouring cells are, as far as covariances tell."""
    count, channels = latents.shape[:2]
    numbers = latents[0].size
    random = study.random("regularity dependence")
    moments, beside = cell_moments(latents), neighbour_moments(latents)
    near, over = over_images(beside, random, lambda part: float(neighbour_information(part).mean()) / BIT)
    findings.figures.append(
        Figure.measured(
            "neighbours",
            "Information between a number and the same channel of the cell beside it",
            near,
            "bits",
            "-1/2 log2(1 - correlation²), right and lower neighbours, mean over channels",
            LINEAR,
            over,
        )
    )
    eigenvalues = np.linalg.eigvalsh(cell_covariance(moments))
    if eigenvalues[0] < SINGULAR * eigenvalues[-1]:
        note = "A channel follows from others, or does not vary: there is no finite value."
        findings.figures.append(Figure("total_correlation", SHARED, None, "bits per cell", GAUSSIAN, LINEAR, note=note))
        shared = None
    else:
        shared, over = over_images(moments, random, lambda part: total_correlation(cell_covariance(part)) / BIT)
        limits = LINEAR
        if numbers >= count:
            limits += f" Nor is that between all {numbers} numbers of the latents, too many for {count} images."
        findings.figures.append(
            Figure.measured("total_correlation", SHARED, shared, "bits per cell", GAUSSIAN, limits, over)
        )
    findings.sentences.append(dependence_sentence(None if shared is None else shared.value, near.value, channels))


def dependence_sentence(shared: float | None, near: float, channels: int) -> str:
    """Say what channels and neighbours have in common, in bits. shared: by a cell's channels; None: not finite."""
    text = ""
    if shared is not None and channels > 1:
        each = shared / channels
        text = f"A cell's channels share {shared:.2g} bits, {each:.2g} for each: they are " + (
            "almost uncorrelated. " if each < 0.05 else "correlated, so that moving one alone leaves what images have. "
        )
    text += f"Neighbouring cells share {near:.2g} bits in each channel"
    return text + (", which a coder or a denoiser that sees them together can use." if near > 0.1 else ".")


# --- Marginals ---


def _add_marginals(findings: Findings, study: Study, latents: np.ndarray) -> None:
    """latents: a draw of each image."""
    count, channels, height, width = latents.shape
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
    rows: list[tuple[Cell, ...]] = []
    distances: dict[int, Interval] = {}  # by channel
    for channel, values in enumerate(latents.swapaxes(0, 1).reshape(channels, count, -1)):
        if np.ptp(values) == 0:  # neither skewness nor a normal to compare with
            rows.append((channel + 1, float(values.flat[0]), 0.0, None, None, None, None, None, None))
            continue
        at = thresholds(values)
        samples = distribution_samples(values, at)
        own, _ = over_images(samples, random, lambda part, at=at: distance_to_normal(part, at))  # type: ignore[misc]
        skewness, kurtosis = (float(moment(values.ravel())) for moment in (stats.skew, stats.kurtosis))
        to_standard = distance_to_normal(samples, at, standard=True)
        facts = (float(values.mean()), float(values.std()), skewness, kurtosis)
        rows.append((channel + 1, *facts, own.value, own.low, own.high, to_standard))
        distances[channel + 1] = own
    findings.tables.append(
        Table(
            "marginals",
            "Marginals of the latents, by channel",
            (
                "channel",
                "mean",
                "standard deviation",
                "skewness",
                "excess kurtosis",
                "distance to its normal",
                "low",
                "high",
                "distance to N(0, 1)",
            ),
            tuple(rows),
            f"Of a draw of each of {count} images, {height * width} cells each. Distances are those of Kolmogorov and "
            f"Smirnov, the largest difference of two distribution functions; low and high: {over}. Cells of an "
            "image are alike, so the number of samples is between the images and the cells, and no test of "
            "significance is made. A channel that is the same everywhere has no distance.",
        )
    )
    furthest = max(distances, key=lambda channel: distances[channel].value)
    mean_of = float(np.abs(latents.mean(axis=(0, 2, 3))).max())
    findings.sentences.append(
        f"In the denoiser's scale the latents have a standard deviation of {overall.value:.3g}. The channel that is "
        f"furthest from a normal distribution of its mean and width is {furthest}: "
        + normality_sentence(distances[furthest])
    )
    if not 0.5 < overall.value < 2:
        findings.warnings.append(
            f"The latents have a standard deviation of {overall.value:.3g}, not about 1: each noise level of the "
            "schedule acts as another one. The scale in the model's configuration does not fit these images."
        )
    if mean_of > overall.value:
        findings.warnings.append(
            f"A channel's mean is {mean_of:.3g} from 0, more than the standard deviation of {overall.value:.3g}: most "
            "of its power is the same in every image. A shift in the model's configuration would take it away."
        )
    findings.pictures.append(_histograms(latents))


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
