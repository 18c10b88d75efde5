"""Geometry: how the decoder and the encoder stretch small steps, the shortest paths between images, and curvature.

Distances between images are root mean squares of the difference of all values, in 8-bit levels.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ldm_export.analyze.changes import decoded
from ldm_export.analyze.curvature import gaussian_curvature
from ldm_export.analyze.distances import pair_distances, typical_distance
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.geodesic import Geodesic
from ldm_export.analyze.jacobian import SingularValues
from ldm_export.analyze.metric import add_metric, has_median
from ldm_export.analyze.paths import (
    FADE,
    KNOTS,
    SHORTEST,
    SPHERICAL,
    STRAIGHT,
    Path,
    compare_paths,
    find_geodesic,
    to_levels,
)
from ldm_export.analyze.statistics import FEWEST_TO_RESAMPLE, bootstrap, over_images, spearman, spread
from ldm_export.analyze.study import Study, levels
from ldm_export.plots import draw_lines, image_grid, to_png

STEP = 0.1  # of latents, root mean square, over which features are compared
SLICES = ("random slices", "slices towards two other images")
FLAT = 1e-6  # radians: a curvature that is rounding
SCALE_IMAGES = 96  # whose distances are the scale of features
COLUMNS = 8  # images of a path in the strip


def measure(study: Study) -> Findings:
    """Measure the metric, paths and curvature, and what goes along with them."""
    findings = Findings()
    count = min(len(study.pictures), study.scaled(12, 2))
    spectra = add_metric(study, findings, min(count, study.scaled(8, 2)))
    _add_paths(study, findings)
    angles = _add_curvature(study, findings, count)
    _add_correlations(study, findings, spectra, angles)
    return findings


# --- Paths ---


def _add_paths(study: Study, findings: Findings) -> None:
    count = min(len(study.pictures) // 2, study.scaled(4, 1))
    progress = study.progress("geometry: paths", count)
    pairs, found = [], []
    for number in range(count):
        path = find_geodesic(study, number)
        found.append(path)
        pairs.append(compare_paths(study, number, path))
        progress.advance()
    findings.figures += _path_figures(pairs, found)
    names = [each.name for each in pairs[0]]
    median = lambda place, key: float(np.median([getattr(pair[place], key) for pair in pairs]))  # noqa: E731
    fade = names.index(FADE)
    rows = []
    for place, name in enumerate(names):
        over = float(np.median([pair[place].pixels / max(pair[fade].pixels, 1e-12) for pair in pairs]))
        rows.append((name, median(place, "pixels"), over, median(place, "features")))
    findings.tables.append(
        Table(
            "paths",
            "Lengths of the ways between two images",
            ("way", "pixels, levels", "over the cross-fade", "features"),
            tuple(rows),
            f"Medians over {count} pairs. Levels: root mean square of 8-bit values, summed along the way. The "
            "cross-fade of the two decoded images is the straight line of pixels: none is shorter in pixels. Features: "
            f"{study.extractor.name}, summed along the same steps.",
        )
    )
    findings.sentences.append(_path_sentence({row[0]: row[2] for row in rows}, findings))
    picked = np.linspace(0, len(pairs[0][0].images) - 1, COLUMNS).round().astype(int)
    strip = np.concatenate([each.images[picked] for each in pairs[0]])
    captions = [name if column == 0 else "" for name in names for column in range(COLUMNS)]
    grid = image_grid(np.clip(strip, -1, 1), COLUMNS, captions)
    findings.pictures.append(Picture("paths", "Ways between two images, from the left to the right.", to_png(grid)))


def _path_figures(pairs: Sequence[Sequence[Path]], found: Sequence[Geodesic]) -> list[Figure]:
    ratios = {
        "straight_length": ("Length in pixels: straight line over cross-fade", 0, 3, "pixels"),
        "spherical_length": ("Length in pixels: spherical interpolation over cross-fade", 1, 3, "pixels"),
        "geodesic_length": ("Length in pixels: shortest path found over cross-fade", 2, 3, "pixels"),
        "geodesic_gain": ("Length in pixels: shortest path found over straight line", 2, 0, "pixels"),
        "geodesic_features": ("Length in features: shortest path found over straight line", 2, 0, "features"),
    }
    stopped = sum(not each.converged for each in found)
    note = f"{stopped} of {len(found)} searches ended at their budget: shorter paths may exist." if stopped else ""
    figures = []
    for name, (title, one, other, key) in ratios.items():
        values = [getattr(pair[one], key) / max(getattr(pair[other], key), 1e-12) for pair in pairs]
        interval = spread(np.array(values))
        figures.append(
            Figure(
                name,
                title,
                interval.value,
                "times",
                f"cubic spline with {KNOTS} free points, energy by L-BFGS from the straight line, up to "
                f"{max(each.evaluations for each in found)} evaluations"
                if "geodesic" in name
                else f"{len(pairs[0][0].images) - 1} steps of each way, decoded",
                "The shortest path found is a local minimum." if "geodesic" in name else "Of a few pairs of images.",
                interval.low,
                interval.high,
                f"median and range of {len(pairs)} pairs",
                note=note if "geodesic" in name else "",
            )
        )
    return figures


def _path_sentence(pixels: dict[str, float], findings: Findings) -> str:
    """Say how the ways compare. pixels: of each, its length over that of the cross-fade."""
    gain, features = (findings.value(name) or 0.0 for name in ("geodesic_gain", "geodesic_features"))
    gain = 1 - gain
    nature = (
        "Straight lines are as good as geodesics here, as far as the search went"
        if gain < 0.05
        else "Straight lines are not geodesics"
    )
    kind = "shorter" if features < 0.95 else "longer" if features > 1.05 else "as long"
    than = "as" if kind == "as long" else "than"
    return (
        f"Between two images the straight line of latents is {pixels[STRAIGHT]:.2f} times as long in pixels as their "
        f"cross-fade, the spherical way {pixels[SPHERICAL]:.2f} times, and the shortest path found "
        f"{pixels[SHORTEST]:.2f} times. {nature}: the search shortens them by {gain:.0%}. In features that path is "
        f"{kind} {than} the straight line ({features:.2f} times): the shortest way in pixels is near a cross-fade "
        "where the decoder allows it, and need not be the most sensible one."
    )


# --- Curvature ---


def _add_curvature(study: Study, findings: Findings, count: int) -> np.ndarray:
    """Measure the curvature of slices; return the angles of the random ones, (images,)."""
    packed = study.in_blocks(
        "geometry curvature", list(range(count)), 1, lambda part: _curvatures(study, part[0], count)[None]
    )  # (images, kinds, 2)
    rows: list[tuple[str, int, float, float, float, float, float]] = []
    random = study.random("geometry curvature")
    for place, kind in enumerate(SLICES):
        curvature, area = packed[:, place, 0], packed[:, place, 1]
        angle = curvature * area
        negative, positive = angle < -FLAT, angle > FLAT
        rows.append(
            (
                kind,
                count,
                float(negative.mean()),
                float(1 - negative.mean() - positive.mean()),
                float(positive.mean()),
                float(np.median(angle)),
                float(np.median(curvature)),
            )
        )
        share, over = over_images(negative.astype(float), random)
        middle, _ = over_images(angle, random, lambda values: float(np.median(values)))
        how = f"Gauss's equation with exact first and second derivatives, a slice at each of {count} images"
        findings.figures += [
            Figure(
                f"negative_{place}",
                f"Share of slices with negative curvature, {kind}",
                share.value,
                "",
                how,
                f"A turn of less than {FLAT:g} radians counts as flat.",
                share.low,
                share.high,
                over,
            ),
            Figure(
                f"turn_{place}",
                f"Curvature times area of the unit square of latents, {kind}",
                middle.value,
                "radians",
                f"{how}; median",
                "What a direction turns by when carried around a square of latents of root mean square 1, if the "
                "curvature were the same in all of it.",
                middle.low,
                middle.high,
                over,
            ),
        ]
    findings.tables.append(
        Table(
            "curvature",
            "Gaussian curvature of two-dimensional slices of the latents, as the decoder bends them",
            ("slice", "slices", "negative", "flat", "positive", "turn, radians", "K, 1 / levels²"),
            tuple(rows),
            "Turn and K: medians. K is of the surface of images with distances in levels, root mean square.",
        )
    )
    findings.sentences.append(_curvature_sentence(rows))
    lines = {
        kind: [
            (float(value), 100 * (each + 0.5) / count) for each, value in enumerate(np.sort(packed[:, place].prod(1)))
        ]
        for place, kind in enumerate(SLICES)
    }
    plot = draw_lines(lines, "curvature times area, radians", "slices below, %")
    findings.pictures.append(
        Picture(
            "curvature", "Distribution of the curvature of slices: below 0 are saddles, above 0 caps.", to_png(plot)
        )
    )
    return np.asarray(packed[:, 0].prod(axis=1))


def _curvatures(study: Study, number: int, count: int) -> np.ndarray:
    """Return curvature and area of a slice of each kind at an image, (kinds, 2)."""
    decode, scale = study.subject.codec.decode, to_levels(study)
    point = study.latents[number]
    random = study.random(f"geometry slice {number}")
    others = [study.latents[(number + step) % len(study.latents)] - point for step in (1, 2)]
    found = []
    for a, b in (random.standard_normal((2, *point.shape)), others):
        directions = [_unit(each) for each in (a, b)]
        bent = gaussian_curvature(lambda at: scale * decode(at), torch.from_numpy(point[None]), *directions)
        found.append((bent.gaussian, bent.area))
    return np.array(found)


def _unit(direction: np.ndarray) -> torch.Tensor:
    """Return a direction of root mean square 1, (1, …)."""
    size = max(float(np.sqrt(np.mean(np.square(direction)))), 1e-12)
    return torch.from_numpy(np.asarray(direction / size, np.float32)[None])


def _curvature_sentence(rows: Sequence[tuple[str, int, float, float, float, float, float]]) -> str:
    parts = []
    for kind, _, negative, flat, positive, turn, _ in rows:
        flats = f", {flat:.0%} flat" if flat else ""
        parts.append(
            f"{kind} are saddles in {negative:.0%} and caps in {positive:.0%}{flats}, with a turn of {turn:+.2g} "
            "radians in the median"
        )
    bent = any(abs(row[5]) > 0.1 for row in rows)
    return f"Slices of latents, as the decoder bends them: {'; '.join(parts)}. " + (
        "That is far from flat over one deviation of the latents."
        if bent
        else "Over one deviation of the latents that is next to flat."
    )


# --- What goes along with it ---


def _add_correlations(study: Study, findings: Findings, spectra: Sequence[SingularValues], angles: np.ndarray) -> None:
    """Correlate the anisotropy of the metric, and curvature, with the change of features per latent step."""
    count, step = len(angles), study.scaled(6, 2)
    change = study.in_blocks(
        "geometry features", list(range(count)), 1, lambda part: _feature_changes(study, part[0], step)[None]
    ).mean(axis=1)
    random = study.random("geometry correlations")
    moved, over = over_images(change, random)
    findings.figures.append(
        Figure(
            "feature_change",
            f"Change of features per step of latents, root mean square {STEP:g}",
            moved.value,
            "of the distance between two images",
            f"{step} random steps at each of {count} images, features of {study.extractor.name}",
            "Images are rounded to 8 bits before features are computed.",
            moved.low,
            moved.high,
            over,
        )
    )
    is_whole = all(each.converged(-1) for each in spectra)
    uneven = np.array(
        [
            each.values[0] / max(each.values[-1], 1e-12)
            if is_whole
            else each.anisotropy
            if has_median([each])
            else np.nan
            for each in spectra
        ]
    )
    kind = "condition number" if is_whole else "anisotropy"
    figures = [
        _correlation(
            "curvature", "size of the curvature, as the turn of random slices,", np.abs(angles), change, random
        ),
        _correlation("condition", f"{kind} of the decoder's metric", uneven, change[: len(uneven)], random),
    ]
    findings.figures += figures
    for name, figure in zip(("is more curved", "is more anisotropic"), figures, strict=True):
        if figure.value is not None and figure.low is not None and figure.high is not None:
            told = (
                "no telling from these images whether features change faster"
                if figure.low <= 0 <= figure.high
                else f"a sign that features change {'faster' if figure.value > 0 else 'more slowly'}"
            )
            findings.sentences.append(
                f"There is {told} where the latent space {name} (correlation {figure.value:+.2f})."
            )


def _correlation(name: str, title: str, values: np.ndarray, change: np.ndarray, random: np.random.Generator) -> Figure:
    how, count = "Spearman's correlation over images", len(values)
    note = ""
    if not np.isfinite(values).all():
        note = "It was not resolved at all images."
    elif count < FEWEST_TO_RESAMPLE:
        note = f"It takes {FEWEST_TO_RESAMPLE} images at least, and {count} were measured."
    elif np.ptp(values) <= FLAT * np.abs(values).max() or np.ptp(change) <= FLAT * change.max():
        note = "One of them is the same at all images."
    title = f"Correlation of the {title} with the change of features per latent step"
    limits = "Of few images."
    if "anisotropy" in title:
        limits += " Anisotropy stands in for the condition number, which takes too many products."
    if note:
        return Figure(f"correlation_{name}", title, None, "", how, limits, note=note)
    pairs = np.stack([values, change], axis=1)
    found = bootstrap(pairs, random, lambda sample: spearman(sample[:, 0], sample[:, 1]))
    over = f"95 % by bootstrap over {count} images"
    return Figure(f"correlation_{name}", title, found.value, "", how, limits, found.low, found.high, over)


def _feature_changes(study: Study, number: int, steps: int) -> np.ndarray:
    """Return by how much features change over random steps from an image, of the distance of images, (steps,)."""
    point = study.latents[number]
    directions = study.random(f"geometry steps {number}").standard_normal((steps, *point.shape))
    images = decoded(study, np.concatenate([point[None], point + STEP * directions]))
    features = study.extractor.compute(levels(images))
    whole = typical_distance(pair_distances(study.features[:SCALE_IMAGES]))
    return np.asarray(np.linalg.norm(features[1:] - features[0], axis=1)) / whole
