"""Regularity: spectrum and marginals of the latents, dependence of their numbers, and the decoder's reaction."""

import math

import numpy as np

from ldm_export.analyze.dependence import (
    cell_covariance,
    cell_moments,
    neighbour_information,
    neighbour_moments,
    total_correlation,
)
from ldm_export.analyze.findings import Figure, Findings, Picture
from ldm_export.analyze.posterior import drawn_latents, require_variation
from ldm_export.analyze.sections.derivatives import says_what_cannot_be_differentiated
from ldm_export.analyze.sections.regularity_decoder import add_reaction
from ldm_export.analyze.sections.regularity_marginals import add_marginals
from ldm_export.analyze.spectrum import covariance_spectrum, effective_rank, participation_ratio
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_export.analyze.wording import counted
from ldm_export.plots import draw_lines, to_png

CONVERGED = 0.1  # by which a figure may rise from half of the images to all, to be given
HALVES = 40  # random halves of the images
SINGULAR = 1e-10  # ratio of eigenvalues

SHARED = "Total correlation of a cell's channels"
GAUSSIAN = "of a Gaussian with the covariance of the channels' means, all cells together"
ONE_CELL = "The latents are one cell, which has no other beside it."
LINEAR = "Dependence that is not linear is not seen."


@says_what_cannot_be_differentiated
def measure(study: Study) -> Findings:
    """Measure the latents' distribution, and the decoder's reaction to small changes."""
    require_variation(study.latents)
    findings = Findings()
    means = study.latents.astype(np.float64)
    _add_spectrum(findings, study, means)
    _add_dependence(findings, study, means)
    space, random = study.subject.contract.latent, study.random("regularity draw")
    add_marginals(findings, study, drawn_latents(study.moments, space, random))
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
    places = np.unique(np.geomspace(1, min(count - 1, size), 40).astype(int))
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
    moments = cell_moments(latents)
    near = _neighbours(latents, random)
    findings.figures.append(near)
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


def _neighbours(latents: np.ndarray, random: np.random.Generator) -> Figure:
    """Return what neighbouring cells share; latents that are one cell have none."""
    name, title = "neighbours", "Information between a number and the same channel of the cell beside it"
    estimator = "-1/2 log2(1 - correlation²), right and lower neighbours, mean over channels"
    if latents[0, 0].size == 1:
        return Figure(name, title, None, "bits", estimator, LINEAR, note=ONE_CELL)
    near, over = over_images(
        neighbour_moments(latents), random, lambda part: float(neighbour_information(part).mean()) / BIT
    )
    return Figure.measured(name, title, near, "bits", estimator, LINEAR, over)


def dependence_sentence(shared: float | None, near: float | None, channels: int) -> str:
    """Say what channels and neighbours have in common, in bits.

    shared: by a cell's channels; None: not finite. near: by neighbours; None: there are none.
    """
    text = ""
    if shared is not None and channels > 1:
        each = shared / channels
        text = f"A cell's channels share {shared:.2g} bits, {each:.2g} for each: they are " + (
            "almost uncorrelated. " if each < 0.05 else "correlated, so that moving one alone leaves what images have. "
        )
    if near is None:
        return text + ONE_CELL
    text += f"Neighbouring cells share {near:.2g} bits in each channel"
    return text + (", which a coder or a denoiser that sees them together can use." if near > 0.1 else ".")
