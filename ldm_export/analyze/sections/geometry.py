"""Geometry: how the decoder and the encoder stretch small steps, the shortest paths between images, and curvature.

Distances between images are root mean squares of the difference of all values, in 8-bit levels.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ldm_export.analyze.coding import decoded
from ldm_export.analyze.curvature import gaussian_curvature
from ldm_export.analyze.distances import pair_distances, typical_distance
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.jacobian import SingularValues
from ldm_export.analyze.sections.derivatives import says_what_cannot_be_differentiated
from ldm_export.analyze.sections.geometry_metric import add_metric, halves_of, has_median
from ldm_export.analyze.sections.geometry_paths import SAME, add_paths, to_levels
from ldm_export.analyze.sections.work_budget import affordable, said_of_work
from ldm_export.analyze.statistics import FEWEST_TO_RESAMPLE, bootstrap, over_images, over_resampled, spearman
from ldm_export.analyze.study import Study, levels
from ldm_export.plots import draw_lines, to_png

STEP = 0.1  # deviations of the latents, over which features are compared
NEGATIVE = "Share of slices with negative curvature"
TURN = "Curvature times area of a square of latents whose sides are one deviation"
BY_GAUSS = "Gauss's equation with exact first and second derivatives"
SLICES = ("random slices", "slices towards two other images")
FLAT = 1e-6  # radians: a curvature that is rounding
CHANGE = f"Change of features per step of latents of {STEP:g} of their deviation"
CHANGE_UNIT = "of the distance between two images"
SCALE_IMAGES = 96  # whose distances are the scale of features
TURNS = 0.1  # radians over one deviation, from which on slices are far from flat


@says_what_cannot_be_differentiated
def measure(study: Study) -> Findings:
    """Measure the metric, paths and curvature, and what goes along with them."""
    findings = Findings()
    halves = halves_of(study)
    work = halves["decoder"].work
    findings.sentences += said_of_work(work, "fewer images and steps are taken")
    spectra = add_metric(study, findings, halves)
    add_paths(study, findings, work)
    wanted = min(len(study.pictures), study.scaled(12, 2))
    angles = _add_curvature(study, findings, affordable(work, wanted, least=min(wanted, 2)))
    _add_correlations(study, findings, spectra, angles)
    return findings


def latent_deviation(latents: np.ndarray) -> float:
    """Return the standard deviation of latents (N, C, h, w): root mean square over channels."""
    return float(np.sqrt(latents.var(axis=(0, 2, 3), dtype=np.float64).mean()))


# --- Curvature ---


def _add_curvature(study: Study, findings: Findings, count: int) -> np.ndarray:
    """Measure the curvature of slices; return the angles of the random ones, (images,), NaN where there is none."""
    packed = study.in_blocks(
        "geometry curvature", list(range(count)), 1, lambda part: _curvatures(study, part[0])[None]
    )  # (images, kinds, 2)
    random = study.random("geometry curvature")
    rows, lines = [], {}
    for place, kind in enumerate(SLICES):
        known = packed[packed[:, place, 1] != 0, place]  # a slice without area has no curvature
        if not len(known):
            findings.figures += _no_curvature(place, kind)
            continue
        row, figures = _curvature_of(place, kind, known, random)
        rows.append(row)
        findings.figures += figures
        turns = np.sort(known.prod(axis=1))
        lines[kind] = [(float(turn), 100 * (each + 0.5) / len(turns)) for each, turn in enumerate(turns)]
    if rows:
        findings.tables.append(
            Table(
                "curvature",
                "Gaussian curvature of two-dimensional slices of the latents, as the decoder bends them",
                ("slice", "slices", "negative", "flat", "positive", "turn, radians", "K, 1 / levels²"),
                tuple(rows),
                "Turn and K: medians. K is of the surface of images with distances in levels, root mean square.",
            )
        )
        plot = draw_lines(lines, "curvature times area, radians", "slices below, %")
        caption = "Distribution of the curvature of slices: below 0 are saddles, above 0 caps."
        findings.pictures.append(Picture("curvature", caption, to_png(plot)))
    findings.sentences.append(_curvature_sentence(rows))
    return np.where(packed[:, 0, 1] != 0, packed[:, 0].prod(axis=1), np.nan)


def _no_curvature(place: int, kind: str) -> list[Figure]:
    note = "No slice has an area: its two directions have no effect on the image, or the images there are the same."
    return [
        Figure(f"negative_{place}", f"{NEGATIVE}, {kind}", None, "", BY_GAUSS, "", note=note),
        Figure(f"turn_{place}", f"{TURN}, {kind}", None, "radians", BY_GAUSS, "", note=note),
    ]


def _curvature_of(
    place: int, kind: str, known: np.ndarray, random: np.random.Generator
) -> tuple[tuple[Cell, ...], list[Figure]]:
    """Return the row of the table and the figures of slices of one kind. known: curvature and area, (slices, 2)."""
    angle = known.prod(axis=1)
    negative, positive = angle < -FLAT, angle > FLAT
    share, over = over_images(negative.astype(float), random)
    turn, _ = over_images(angle, random, lambda values: float(np.median(values)))
    row = (
        kind,
        len(known),
        float(negative.mean()),
        float(1 - negative.mean() - positive.mean()),
        float(positive.mean()),
        turn.value,
        float(np.median(known[:, 0])),
    )
    how = f"{BY_GAUSS}, a slice at each of {len(known)} images"
    flat = f"A turn of less than {FLAT:g} radians counts as flat."
    carried = (
        "What a direction turns by when carried around that square, if the curvature were the same in all of it; the "
        "deviation is that of the latents of the images."
    )
    return row, [
        Figure.measured(f"negative_{place}", f"{NEGATIVE}, {kind}", share, "", how, flat, over),
        Figure.measured(f"turn_{place}", f"{TURN}, {kind}", turn, "radians", f"{how}; median", carried, over),
    ]


def _curvatures(study: Study, number: int) -> np.ndarray:
    """Return curvature and area of a slice of each kind at an image, (kinds, 2); zeros where it has no area."""
    decode, scale = study.subject.codec.decode, to_levels(study)
    point, deviation = study.latents[number], latent_deviation(study.latents)
    random = study.random(f"geometry slice {number}")
    found = []
    for directions in (random.standard_normal((2, *point.shape)), towards_others(study.latents, number)):
        units = [_of_deviation(each, deviation) for each in directions]
        bent = gaussian_curvature(lambda at: scale * decode(at), torch.from_numpy(point[None]), *units)
        found.append((bent.gaussian, bent.area) if bent.area != 0 else (0.0, 0.0))
    return np.array(found)


def towards_others(points: np.ndarray, number: int) -> np.ndarray:
    """Return the directions from a point to the next two others, (2, …); zero where there are none that differ."""
    ways = np.roll(points, -number, axis=0)[1:] - points[number]
    lengths = np.linalg.norm(ways.reshape(len(ways), -1), axis=1)
    first, second = np.zeros_like(points[:2])
    for way in ways[lengths > SAME * max(float(lengths.max(initial=0)), np.finfo(float).tiny)]:
        if not first.any():
            first = way
        elif np.linalg.norm(way - first) > SAME * np.linalg.norm(first):
            second = way
            break
    return np.stack([first, second])


def _of_deviation(direction: np.ndarray, deviation: float) -> torch.Tensor:
    """Return a direction of that root mean square, (1, …)."""
    size = max(float(np.sqrt(np.mean(np.square(direction)))), 1e-12)
    return torch.from_numpy(np.asarray(direction * (deviation / size), np.float32)[None])


def _curvature_sentence(rows: Sequence[tuple[Cell, ...]]) -> str:
    if not rows:
        return "Slices of latents have no curvature here: none has an area once decoded."
    parts, turns = [], []
    for kind, _, negative, flat, positive, turn, _ in rows:
        flats = f", {flat:.0%} flat" if flat else ""
        parts.append(
            f"{kind} are saddles in {negative:.0%} and caps in {positive:.0%}{flats}, with a turn of {turn:+.2g} "
            "radians in the median"
        )
        turns.append(abs(float(turn or 0)))
    return f"Slices of latents, as the decoder bends them: {'; '.join(parts)}. " + (
        "That is far from flat over one deviation of the latents."
        if max(turns) > TURNS
        else "Over one deviation of the latents that is next to flat."
    )


# --- What goes along with it ---


def _add_correlations(study: Study, findings: Findings, spectra: Sequence[SingularValues], angles: np.ndarray) -> None:
    """Correlate the anisotropy of the metric, and curvature, with the change of features per latent step."""
    whole = typical_distance(pair_distances(study.features[:SCALE_IMAGES]))
    if whole == 0:
        note = "The features of all images are the same: there is no distance to measure by."
        findings.figures.append(Figure("feature_change", CHANGE, None, CHANGE_UNIT, "random steps", "", note=note))
        findings.sentences.append(note)
        return
    count, step = len(angles), study.scaled(6, 2)
    change = study.in_blocks(
        "geometry features", list(range(count)), 1, lambda part: _feature_changes(study, part[0], step)[None] / whole
    ).mean(axis=1)
    random = study.random("geometry correlations")
    moved, over = over_images(change, random)
    findings.figures.append(
        Figure(
            "feature_change",
            CHANGE,
            moved.value,
            CHANGE_UNIT,
            f"{step} random steps at each of {count} images, features of {study.extractor.name}",
            "Images are rounded to 8 bits before features are computed.",
            moved.low,
            moved.high,
            over,
        )
    )
    is_whole = bool(spectra) and all(each.converged(-1) for each in spectra)
    uneven = np.array(
        [each.condition if is_whole else each.anisotropy if has_median([each]) else np.nan for each in spectra]
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
    if count < FEWEST_TO_RESAMPLE:
        note = f"It takes {FEWEST_TO_RESAMPLE} images at least, and {count} were measured."
    elif not np.isfinite(values).all():
        note = "It was not resolved at all images."
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
    over = over_resampled(count)
    return Figure(f"correlation_{name}", title, found.value, "", how, limits, found.low, found.high, over)


def _feature_changes(study: Study, number: int, steps: int) -> np.ndarray:
    """Return by how much features change over random steps from an image, (steps,)."""
    point = study.latents[number]
    directions = study.random(f"geometry steps {number}").standard_normal((steps, *point.shape))
    steps_taken = STEP * latent_deviation(study.latents) * directions
    images = decoded(study.subject.pipe, np.concatenate([point[None], point + steps_taken]))
    features = study.extractor.compute(levels(images))
    return np.asarray(np.linalg.norm(features[1:] - features[0], axis=1))
