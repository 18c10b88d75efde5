"""The metric that the decoder and the encoder pull back: how much they stretch small steps, in every direction.

Singular values compare Euclidean norms: of all pixel values, in [-1, 1], and of all numbers of the latents.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ldm_export.analyze.findings import Figure, Findings, Picture
from ldm_export.analyze.jacobian import Jacobian, SingularValues, all_singular_values, singular_values
from ldm_export.analyze.statistics import over_images
from ldm_export.analyze.study import Study
from ldm_export.plots import draw_lines, to_png

MOST_WHOLE = 1024  # numbers of the latents up to which the whole Jacobian is computed


def add_metric(study: Study, findings: Findings, count: int) -> list[SingularValues]:
    """Measure the singular values of both halves; return the decoder's.

    All of them where the latents are small, else what Lanczos has after some steps.
    """
    codec, rank = study.subject.codec, min(study.latents[0].size, study.pixels[0].size)
    is_whole = not study.quick and rank <= MOST_WHOLE
    steps = rank if is_whole else study.scaled(48, 12)
    halves: dict[str, tuple[Callable[[Tensor], Tensor], np.ndarray]] = {
        "decoder": (codec.decode, study.latents),
        "encoder": (lambda pixels: codec.encode(pixels)[0], study.pixels),
    }
    found = {}
    for name, (function, points) in halves.items():
        packed = study.in_blocks(
            f"geometry {name} spectrum",
            list(range(count)),
            1,
            lambda part, function=function, points=points: _packed(  # type: ignore[misc]
                study, function, points[part[0]], steps, is_whole
            ),
        )
        found[name] = [_unpacked(each, rank) for each in packed]
    units = {"decoder": "pixel values per latent unit", "encoder": "latent units per pixel value"}
    for name, spectra in found.items():
        findings.figures += _spectrum_figures(study, name, units[name], spectra)
    findings.sentences.append(_spectrum_sentence(found))
    is_resolved = all(each.resolved == 0 for spectra in found.values() for each in spectra)
    shares = np.linspace(0.02, 0.98, 49)
    lines = {
        name: [
            (100 * float(at), float(np.mean([each.quantile(at) for each in spectra])))
            for at in shares
            if at >= max(each.resolved for each in spectra)
        ]
        for name, spectra in found.items()
    }
    plot = draw_lines(lines, "directions, from the weakest, %", "singular value", log=True)
    missing = " What is missing on the left was not resolved: those values are smaller than the rest."
    caption = f"Singular values of both halves, by quantiles, mean over {count} images.{'' if is_resolved else missing}"
    findings.pictures.append(Picture("spectrum", caption, to_png(plot)))
    return found["decoder"]


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


def _unpacked(packed: np.ndarray, rank: int) -> SingularValues:
    values, errors, weights = packed[:, ~np.isnan(packed[0])]
    is_whole = len(values) == rank
    return SingularValues(values, errors, weights, rank, rank if is_whole else 2 * len(values))


def _spectrum_figures(study: Study, name: str, unit: str, spectra: Sequence[SingularValues]) -> list[Figure]:
    random, count = study.random(f"geometry {name}"), len(spectra)
    is_whole = len(spectra[0].values) == spectra[0].rank
    whole = f"all {spectra[0].rank} singular values of the whole Jacobian, at {count} images"
    some = f"Lanczos bidiagonalisation by products with the Jacobian, {spectra[0].products} of each of {count} images"
    how, density = (whole, whole) if is_whole else (some, f"{some}; quantiles by stochastic Lanczos quadrature")
    unseen = max(0, study.pixels[0].size - spectra[0].rank) if name == "encoder" else 0
    unresolved = "" if all(each.converged(0) for each in spectra) else "Not converged: it is larger still."
    rows = (
        ("top", "Largest singular value", [each.values[0] for each in spectra], unit, how, unresolved),
        ("median", "Median singular value", [each.quantile(0.5) for each in spectra], unit, density, ""),
        (
            "spread",
            "Anisotropy, the 95 % quantile over the median of the singular values,",
            [each.anisotropy for each in spectra],
            "times",
            density,
            f"Besides, {unseen} of the directions of an image have no effect: it has more numbers than its latents."
            if unseen
            else "",
        ),
    )
    figures = []
    is_known = has_median(spectra)
    for key, title, values, each_unit, estimator, note in rows:
        found, over = over_images(np.array(values), random)
        limits = "At the images measured."
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
    condition, _ = over_images(np.array([each.values[0] / max(each.values[-1], 1e-12) for each in spectra]), random)
    titles = (f"Smallest singular value of the {name}'s Jacobian", f"Condition number of the {name}'s Jacobian")
    limits = ("Of as many directions as the latents have numbers.", "Largest over smallest singular value of those.")
    if all(each.converged(-1) for each in spectra):
        return [
            Figure(f"{name}_{key}", title, found.value, each, how, limit, found.low, found.high, over)
            for key, title, found, each, limit in zip(
                ("bottom", "condition"), titles, (bottom, condition), (unit, "times"), limits, strict=True
            )
        ]
    why = "the smallest estimate has not converged, and is above the smallest singular value in any case"
    notes = (f"At most {bottom.value:.3g}: {why}.", f"At least {condition.value:.3g}: {why}.")
    return [
        Figure(f"{name}_bottom", titles[0], None, unit, how, limits[0], note=notes[0]),
        Figure(f"{name}_condition", titles[1], None, "times", how, limits[1], note=notes[1]),
    ]


def _spectrum_sentence(found: dict[str, list[SingularValues]]) -> str:
    top, middle = (float(np.mean([each.quantile(share) for each in found["decoder"]])) for share in (0.95, 0.5))
    largest = float(np.mean([each.values[0] for each in found["decoder"]]))
    nature = (
        "nearly alike in all of them: distances between latents are distances between images"
        if top < 1.5 * middle and has_median(found["decoder"])
        else "far from alike in all of them: equal distances between latents are unequal ones between images"
    )
    return (
        f"On its way to pixels, a small step of the latents is stretched less than {middle:.2g} times in half of the "
        f"directions, more than {top:.2g} times in one of twenty, and {largest:.2g} times in the strongest. The metric "
        f"is {nature}."
    )
