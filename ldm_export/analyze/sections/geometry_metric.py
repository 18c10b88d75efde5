"""What the section on geometry says of the metric that the decoder and the encoder pull back, in every direction.

Singular values compare Euclidean norms: of all pixel values, in [-1, 1], and of all numbers of the latents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ldm_export.analyze.derivative_cost import Work, count_work, lacking_memory
from ldm_export.analyze.findings import Figure, Findings, Picture
from ldm_export.analyze.jacobian import Jacobian, SingularValues, all_singular_values, singular_values
from ldm_export.analyze.sections.work_budget import affordable
from ldm_export.analyze.statistics import over_images
from ldm_export.analyze.study import Study
from ldm_export.plots import draw_lines, to_png

MOST_WHOLE = 1024  # numbers of the latents up to which the whole Jacobian is computed
EVEN = 1.5  # of the 95 % quantile over the median, below which directions are alike
WHOLE_IMAGES = {"decoder": 8, "encoder": 4}  # at which it is; with 8 the decoder's can be correlated


@dataclass(frozen=True)
class Half:
    """The decoder or the encoder: its function, where it is looked at, what its singular values are in, its work."""

    name: str
    function: Callable[[Tensor], Tensor]
    points: np.ndarray
    unit: str
    work: Work


def halves_of(study: Study) -> dict[str, Half]:
    """Return the decoder and the encoder of a study's model."""
    codec = study.subject.codec

    def encode(pixels: Tensor) -> Tensor:
        return codec.encode(pixels)[0]

    halves = (
        ("decoder", codec.decode, study.latents, "pixel values per latent unit"),
        ("encoder", encode, study.pixels, "latent units per pixel value"),
    )
    return {
        name: Half(name, function, points, unit, count_work(function, (1, *points.shape[1:])))
        for name, function, points, unit in halves
    }


def add_metric(study: Study, findings: Findings, halves: dict[str, Half]) -> list[SingularValues]:
    """Measure the singular values of both halves; return the decoder's, () where they do not fit into the memory.

    All of them where the latents are small, else what Lanczos has after some steps.
    """
    found: dict[str, list[SingularValues]] = {}
    for name, half in halves.items():
        lacking = lacking_memory(half.work)
        if lacking:
            findings.figures += _missing(half, lacking)
            findings.sentences.append(f"The metric of the {name} was not measured. {lacking}")
            continue
        found[name] = _spectra(study, half)
        findings.figures += _spectrum_figures(study, half, found[name])
    if "decoder" in found:
        findings.sentences.append(_spectrum_sentence(found["decoder"]))
    if found:
        findings.pictures.append(_spectrum_picture(found))
    return found.get("decoder", [])


def _spectra(study: Study, half: Half) -> list[SingularValues]:
    rank = min(study.latents[0].size, study.pixels[0].size)
    is_whole = not study.quick and rank <= MOST_WHOLE
    wanted = min(len(study.pictures), WHOLE_IMAGES[half.name] if is_whole else study.scaled(8, 2))
    count = affordable(half.work, wanted, least=min(wanted, 2))
    steps = rank if is_whole else min(rank, affordable(half.work, study.scaled(48, 12), least=12))
    packed = study.in_blocks(
        f"geometry {half.name} spectrum",
        list(range(count)),
        1,
        lambda part: _packed(study, half.function, half.points[part[0]], steps, is_whole),
    )
    return [_unpacked(each, rank, is_whole) for each in packed]


def _spectrum_picture(found: dict[str, list[SingularValues]]) -> Picture:
    is_resolved = all(each.resolved == 0 for spectra in found.values() for each in spectra)
    lines = {
        name: [
            (100 * float(at), float(np.mean([each.quantile(at) for each in spectra])))
            for at in np.linspace(0.02, 0.98, 49)
            if at >= max(each.resolved for each in spectra)
        ]
        for name, spectra in found.items()
    }
    plot = draw_lines(lines, "directions, from the weakest, %", "singular value", log=True)
    missing = " What is missing on the left was not resolved: those values are smaller than the rest."
    counts = " and ".join(f"{len(spectra)} of the {name}" for name, spectra in found.items())
    caption = f"Singular values by quantiles, mean over images: {counts}.{'' if is_resolved else missing}"
    return Picture("spectrum", caption, to_png(plot))


def _packed(
    study: Study, function: Callable[[Tensor], Tensor], point: np.ndarray, steps: int, is_whole: bool
) -> np.ndarray:
    """Return values, errors and weights, (1, 3, steps), with NaN where Lanczos ended early."""
    jacobian = Jacobian(function, torch.from_numpy(point[None]))
    products = jacobian.times, jacobian.transposed_times, jacobian.shape
    found = (
        all_singular_values(*products)
        if is_whole
        else singular_values(*products, steps, study.random("geometry spectrum"))
    )
    packed = np.full((1, 3, steps), np.nan)
    packed[0, :, : len(found.values)] = found.values, found.errors, found.weights
    return packed


def has_median(spectra: Sequence[SingularValues]) -> bool:
    """Tell whether the median of the singular values is resolved, at every image."""
    return all(each.resolved < 0.5 for each in spectra)


def _unpacked(packed: np.ndarray, rank: int, is_whole: bool) -> SingularValues:
    values, errors, weights = packed[:, ~np.isnan(packed[0])]
    products = rank + 4 if is_whole else 2 * len(values)
    return SingularValues(values, errors, weights, rank, products, is_whole)


def _missing(half: Half, note: str) -> list[Figure]:
    how = "products with the Jacobian"
    return [
        Figure(f"{half.name}_{key}", f"{title} of the {half.name}'s Jacobian", None, unit, how, "", note=note)
        for key, (title, unit) in _titles(half.unit).items()
    ]


def _titles(unit: str) -> dict[str, tuple[str, str]]:
    """Return what each figure is called, and its unit."""
    return {
        "top": ("Largest singular value", unit),
        "median": ("Median singular value", unit),
        "spread": ("Anisotropy, the 95 % quantile over the median of the singular values,", "times"),
        "bottom": ("Smallest singular value", unit),
        "condition": ("Condition number", "times"),
    }


def _residual(spectra: Sequence[SingularValues], place: int) -> str:
    """Say how well the value at a place (0: the largest, -1: the smallest) is known, at the worst image."""
    worst = max(float(each.errors[place]) for each in spectra)
    return f"By its residual, a singular value lies within {worst:.1g} of it at each image."


def _spectrum_figures(study: Study, half: Half, spectra: Sequence[SingularValues]) -> list[Figure]:
    name, unit = half.name, half.unit
    random, count = study.random(f"geometry {name}"), len(spectra)
    is_whole = spectra[0].is_whole
    whole = f"all {spectra[0].rank} singular values of the whole Jacobian, from its columns, at {count} images"
    some = f"Lanczos bidiagonalisation by products with the Jacobian, {spectra[0].products} of each of {count} images"
    how, density = (whole, whole) if is_whole else (some, f"{some}; quantiles by stochastic Lanczos quadrature")
    unseen = max(0, study.pixels[0].size - spectra[0].rank) if name == "encoder" else 0
    unresolved = "" if all(each.converged(0) for each in spectra) else "Not converged: it is larger still."
    rows = (
        ("top", [each.values[0] for each in spectra], how, f"{_residual(spectra, 0)} {unresolved}".rstrip()),
        ("median", [each.quantile(0.5) for each in spectra], density, ""),
        (
            "spread",
            [each.anisotropy for each in spectra],
            density,
            f"Besides, {unseen} of the directions of an image have no effect: it has more numbers than its latents."
            if unseen
            else "",
        ),
    )
    figures = []
    is_known = has_median(spectra)
    for key, values, estimator, note in rows:
        title, each_unit = _titles(unit)[key]
        limits = "At the images measured, of small steps. Norms are of all pixel values, from -1 to 1, and all latents."
        if not np.isfinite(values).all():
            note = "Infinite: half of the directions have no effect at all at some of the images."
            full = f"{title} of the {name}'s Jacobian"
            figures.append(Figure(f"{name}_{key}", full, None, each_unit, estimator, limits, note=note))
            continue
        found, over = over_images(np.array(values), random)
        if not is_whole:
            limits += " The median is rough where many directions have next to no effect."
        if key != "top" and not is_known:
            bound = "At most" if key == "median" else "At least"
            note = f"{bound} {found.value:.3g}: more than half of the directions are too weak to be told apart. {note}"
            title = f"{title} of the {name}'s Jacobian"
            figures.append(Figure(f"{name}_{key}", title, None, each_unit, estimator, limits, note=note.rstrip()))
            continue
        figures.append(
            Figure(
                f"{name}_{key}",
                f"{title} of the {name}'s Jacobian",
                found.value,
                each_unit,
                estimator,
                limits,
                found.low,
                found.high,
                over,
                note,
            )
        )
    return figures + _ends(name, unit, how, spectra, random)


def _ends(
    name: str, unit: str, how: str, spectra: Sequence[SingularValues], random: np.random.Generator
) -> list[Figure]:
    """Return the smallest singular value and the condition number, or how far they are known."""
    bottom, over = over_images(np.array([each.values[-1] for each in spectra]), random)
    conditions = np.array([each.condition for each in spectra])
    limits = ("Of as many directions as the latents have numbers.", "Largest over smallest singular value of those.")
    is_known = all(each.converged(-1) for each in spectra)
    smallest = _end("bottom", name, unit, how, limits[0])
    ratio = _end("condition", name, unit, how, limits[1])
    if is_known:
        smallest = replace(
            smallest, value=bottom.value, low=bottom.low, high=bottom.high, interval=over, note=_residual(spectra, -1)
        )
    else:
        why = "the smallest estimate has not converged, and is above the smallest singular value in any case"
        smallest = replace(smallest, note=f"At most {bottom.value:.3g}: {why}.")
    if not np.isfinite(conditions).all():
        return [smallest, replace(ratio, note="Infinite: a direction has no effect at all at some of the images.")]
    condition, over = over_images(conditions, random)
    if is_known:
        ratio = replace(ratio, value=condition.value, low=condition.low, high=condition.high, interval=over)
    else:
        ratio = replace(ratio, note=f"At least {condition.value:.3g}: {why}.")
    return [smallest, ratio]


def _end(key: str, name: str, unit: str, how: str, limits: str) -> Figure:
    title, each_unit = _titles(unit)[key]
    return Figure(f"{name}_{key}", f"{title} of the {name}'s Jacobian", None, each_unit, how, limits)


def _spectrum_sentence(spectra: Sequence[SingularValues]) -> str:
    strong, median = (float(np.mean([each.quantile(share) for each in spectra])) for share in (0.95, 0.5))
    largest = float(np.mean([each.values[0] for each in spectra]))
    if largest == 0:
        return "A small step of the latents changes no pixel, whatever its direction: the decoder is constant there."
    said = (
        f"On its way to pixels, a small step of the latents is stretched less than {median:.2g} times in half of the "
        f"directions, more than {strong:.2g} times in one of twenty, and {largest:.2g} times in the strongest."
    )
    if strong < EVEN * median and has_median(spectra):
        return (
            f"{said} The metric is nearly alike in most of them: distances between latents are near distances "
            "between images."
        )
    return (
        f"{said} The metric is far from alike in all of them: equal distances between latents are unequal ones "
        "between images."
    )
