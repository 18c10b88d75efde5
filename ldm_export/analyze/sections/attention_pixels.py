"""The control in pixels for the maps of attention: where the same words change the image that the denoiser expects.

It is no UNet on pixels: that would have to be trained, and be another model. It is this model, asked at every pixel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldm_export.analyze.attention_maps import Size
from ldm_export.analyze.caption_tokens import CONCEPT, without_first_part
from ldm_export.analyze.denoiser import Denoiser
from ldm_export.analyze.findings import Figure, Findings, Table
from ldm_export.analyze.overlap import by_chance, intersection_over_union, pooled, ranking
from ldm_export.analyze.sections.attention_images import FEWEST, GROUPS, ImageMaps, shown
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.word_effect import effect_maps

SHARE = 0.3  # of the budget
METHOD = (
    f"RMS over colours of the expected image with the caption less that without its {CONCEPT}, both decoded from the "
    "predicted clean latents"
)
PIXELS_TITLE = f"Overlap with the object's mask of what the {CONCEPT} of the caption changes, at every pixel"
FLOOR = "The floor of all overlaps."
WHY = "No UNet on pixels: with random weights its attention points nowhere, and a trained one is another model."


@dataclass(frozen=True)
class Effects:
    """Maps in pixels of N images at some of the levels, (N, L, H, W). rows, levels: their places in `ImageMaps`."""

    rows: list[int]
    levels: list[int]
    maps: np.ndarray


def measure_effects(study: Study, measured: ImageMaps, known: Sequence[int], budget: WorkBudget) -> Effects:
    """Map what the first part of captions changes, on some of the images whose rows are `known`."""
    levels = _levels(len(measured.levels), budget)
    each = len(levels) * _work(budget)
    wanted = min(len(known), study.scaled(48, 8))
    images = budget.runs("images of the control in pixels", wanted, each, SHARE, FEWEST)
    rows = [known[place * len(known) // images] for place in range(images)]
    denoiser, captions = Denoiser(study.subject), study.pictures.captions
    kind, decode = study.subject.contract.schedule.prediction_type, study.subject.pipe.decode_array
    chosen = [measured.levels[level] for level in levels]

    def make(part: Sequence[int]) -> np.ndarray:
        (number,) = part
        latents = study.latents[number]
        noise = study.random(f"attention noise {number}").standard_normal(latents.shape, np.float32)
        text = captions[number]
        conditions = (denoiser.condition([text]), denoiser.condition([without_first_part(text)]))
        return effect_maps(denoiser, decode, kind, latents, noise, chosen, conditions)[None]

    numbers = [measured.numbers[row] for row in rows]
    return Effects(rows, levels, study.in_blocks("attention in pixels", numbers, 1, make))


def _work(budget: WorkBudget) -> float:
    """Return the work of one image at one noise level."""
    return 2 * (budget.denoiser + budget.decoder)


def _levels(count: int, budget: WorkBudget) -> list[int]:
    """Return all noise levels, or the middle one where the fewest images at all of them are too much."""
    if FEWEST * count * _work(budget) <= SHARE * budget.most:
        return list(range(count))
    budget.cuts.append(f"noise levels of the control in pixels: 1 of {count}")
    return [count // 2]


def add_pixels(
    study: Study, findings: Findings, measured: ImageMaps, effects: Effects, masks: Mapping[int, np.ndarray]
) -> None:
    """Hold the maps of attention against those in pixels, of the same words, images and noise. masks: by row."""
    sizes, random = list(measured.maps), study.random("attention in pixels")
    own = [masks[row] for row in effects.rows]
    found = control_overlaps(effects.maps, own, sizes)
    values = {name: each.mean(axis=1) for name, each in found.items()}
    values["chance"] = np.array([by_chance(mask) for mask in own])
    for size in sizes:
        concept = measured.maps[size][effects.rows][:, effects.levels, GROUPS.index(CONCEPT)]
        values[f"less_{shown(size)}"] = _each(intersection_over_union, concept, own).mean(axis=1) - values["pixels"]
    intervals: dict[str, Interval] = {}
    for name, key, title, estimator, limits in _figures(sizes, len(effects.levels)):
        intervals[name], over = over_images(values[key], random)
        findings.figures.append(Figure.measured(name, title, intervals[name], "", estimator, limits, over))
    findings.tables.append(_table(measured, effects, found))
    findings.sentences.append(_sentence(intervals, [shown(size) for size in sizes]))


def _each(measure: Callable[[Any, Any], float], maps: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Measure every map (N, L, h, w) with its image's mask: (N, L)."""
    return np.array([[measure(one, mask) for one in image] for image, mask in zip(maps, masks, strict=True)])


def control_overlaps(maps: np.ndarray, masks: Sequence[np.ndarray], sizes: Sequence[Size]) -> dict[str, np.ndarray]:
    """Return overlaps of maps (N, L, H, W), (N, L) each: at every pixel, averaged to each size, with another's mask.

    The last is how pixels of the object rank.
    """
    found = {"pixels": _each(intersection_over_union, maps, masks)}
    for size in sizes:
        found[shown(size)] = _each(lambda one, mask: intersection_over_union(pooled(one, size), mask), maps, masks)  # noqa: B023
    found["another"] = _each(intersection_over_union, maps, [*masks[1:], masks[0]])
    return found | {"ranking": _each(ranking, maps, masks)}


def _figures(sizes: Sequence[Size], levels: int) -> list[tuple[str, str, str, str, str]]:
    """Return name, key of its values, title, estimator and limits of each figure."""
    over = "mean over noise levels" if levels > 1 else "at the middle noise level"
    overlap = f"intersection over union of the mask and as many pixels, where the map is largest; {over}"
    figures = [
        (
            "overlap_pixels",
            "pixels",
            PIXELS_TITLE,
            f"{overlap}; {METHOD}",
            f"The control for attention. It has the decoder's resolution, which latents bound too. {WHY}",
        ),
        (
            "overlap_pixels_another",
            "another",
            "The same with another image's mask",
            overlap,
            "The control for objects being in the middle of all images.",
        ),
        ("overlap_chance", "chance", "The same of a map that knows nothing", "a / (2 − a) of a mask of area a", FLOOR),
    ]
    for name in map(shown, sizes):
        figures += [
            (
                f"overlap_pixels_{name}",
                name,
                f"Overlap of the control in pixels, averaged over the cells of {name}",
                f"{overlap}, enlarged linearly",
                "Beside the control at every pixel: what the grid alone costs.",
            ),
            (
                f"precision_{name}",
                f"less_{name}",
                f"Overlap of the map of attention, {name}, less that of the control in pixels",
                f"difference of the two for each image; {over}",
                "Below 0 where attention points less exactly than the model draws. Where words are read is one thing, "
                "what they change another.",
            ),
        ]
    return figures


def _table(measured: ImageMaps, effects: Effects, found: Mapping[str, np.ndarray]) -> Table:
    rows = tuple(
        (measured.levels[level].ratio, *(float(values[:, place].mean()) for values in found.values()))
        for place, level in enumerate(effects.levels)
    )
    grids = [name for name in found if name not in ("pixels", "another", "ranking")]
    return Table(
        "pixels",
        f"The control in pixels: what the {CONCEPT} of the caption changes, by noise level",
        ("noise over signal", "at every pixel", *(f"averaged to {name}" for name in grids), "another", "ranking"),
        rows,
        f"Overlap with the object's mask, of {len(effects.rows)} images. Another, ranking: as above.",
    )


def _sentence(found: Mapping[str, Interval], sizes: list[str]) -> str:
    pixels, chance = found["overlap_pixels"], found["overlap_chance"]
    text = (
        f"In pixels: what the {CONCEPT} of the caption changes in the image that the denoiser expects overlaps the "
        f"object by {pixels.value:.2f} ({pixels.low:.2f} to {pixels.high:.2f}); a map that knows nothing would by "
        f"{chance.value:.2f}. "
    )
    if pixels.low <= chance.value:
        return text + "So little is no control: what attention loses by the grid cannot be told with this model."
    averaged = " and ".join(f"{found[f'overlap_pixels_{size}'].value:.2f} at {size}" for size in sizes)
    text += f"Averaged over the cells of the feature maps it is {averaged}: that is what the grid alone costs. "
    said = []
    for size in sizes:
        less = found[f"precision_{size}"]
        how = "less exact" if less.high < 0 else "more exact" if less.low > 0 else "about as exact"
        said.append(f"{how} at {size} ({less.value:+.2f})")
    return text + f"Beside the control, attention is {' and '.join(said)}."
