"""Whether the words of a caption attend where the object is, of which the image's transparency tells."""

from collections.abc import Mapping, Sequence

import numpy as np

from ldm_export.analyze.attention_maps import Size
from ldm_export.analyze.caption_tokens import CONCEPT
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.overlap import best_by_grid, intersection_over_union, is_usable, ranking, share_inside
from ldm_export.analyze.sections.attention_drawn import tile
from ldm_export.analyze.sections.attention_images import FEWEST, GROUPS, ImageMaps, shown
from ldm_export.analyze.sections.attention_pixels import PIXELS_TITLE, Effects, add_pixels, measure_effects
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.plots import image_grid, to_png

SHOWN = 5  # images
OVERLAPS = ("map", "grid", "another", "ranking")


def add_overlap(study: Study, findings: Findings, measured: ImageMaps, budget: WorkBudget) -> None:
    """Compare the maps of the first part of captions with masks, beside controls by grid and in pixels."""
    alpha = study.pictures.alpha
    masks = [None if alpha is None else alpha[number] > 127 for number in measured.numbers]
    known = [row for row, mask in enumerate(masks) if mask is not None and is_usable(mask)]
    if len(known) < FEWEST:
        note = f"Images with an object on a transparent ground: {len(known)}; it takes {FEWEST}."
        findings.figures += [
            Figure(f"overlap_{shown(size)}", _overlap_title(size), None, "", "overlap with the mask", "", note=note)
            for size in measured.maps
        ]
        findings.figures.append(
            Figure("overlap_pixels", PIXELS_TITLE, None, "", "overlap with the mask", "", note=note)
        )
        return
    chosen = [np.asarray(masks[row]) for row in known]
    random = study.random("attention overlap")
    rows: list[tuple[Cell, ...]] = []
    said = []
    for size, maps in measured.maps.items():
        concept = maps[known][:, :, GROUPS.index(CONCEPT)]
        pairs = zip(concept, chosen, [*chosen[1:], chosen[0]], strict=True)
        values = np.array([_overlaps(*each) for each in pairs])  # (N, L, overlaps)
        by_level = values.mean(axis=0)
        intervals: dict[str, Interval] = {}
        for place, (name, title, estimator, limits) in enumerate(_overlap_figures(size)):
            intervals[name], over = over_images(values[:, :, place].mean(axis=1), random)
            findings.figures.append(
                Figure.measured(f"{name}_{shown(size)}", title, intervals[name], "", estimator, limits, over)
            )
        beyond, _ = over_images((values[..., 0] - values[..., 2]).mean(axis=1), random)
        inside = _inside(maps[known], chosen)
        for level, overlaps, shares in zip(measured.levels, by_level, inside, strict=True):
            rows.append((shown(size), level.ratio, *map(float, overlaps), *map(_cell, shares)))
        said.append(_overlap_sentence(size, intervals, beyond))
    area = float(np.mean([mask.mean() for mask in chosen]))
    findings.tables.append(
        Table(
            "overlap",
            f"Maps of the {CONCEPT} of the caption beside the object's mask, by noise level",
            ("feature map", "noise over signal", *OVERLAPS, *(f"inside: {group}" for group in GROUPS)),
            tuple(rows),
            "Map: overlap of the mask with as many pixels where the map is largest; grid: the same of the mask itself, "
            "seen through the grid; another: of another image's mask. Ranking: how often a pixel of the object has "
            "more than one of the ground, 0.5 by chance. Inside: share of a group's attention in the mask, beside "
            f"{area:.2f} if even.",
        )
    )
    findings.sentences += said
    effects = measure_effects(study, measured, known, budget)
    add_pixels(study, findings, measured, effects, dict(zip(known, chosen, strict=True)))
    findings.pictures.append(_overlap_picture(study, measured, effects))


def _overlap_title(size: Size) -> str:
    return f"Overlap with the object's mask, {shown(size)}: the map of the {CONCEPT} of the caption"


def _overlap_figures(size: Size) -> list[tuple[str, str, str, str]]:
    overlap = "intersection over union of the mask and as many pixels"
    mean = "mean over noise levels"
    return [
        (
            "overlap",
            _overlap_title(size),
            f"{overlap}, where the map is largest, enlarged linearly; {mean}",
            "The mask is all that is not ground; the words may mean a part of it.",
        ),
        (
            "overlap_grid",
            f"The same of the mask itself, averaged over cells, {shown(size)}: what the grid allows",
            f"{overlap}, where its average over cells is largest, enlarged linearly",
            "About the most that a map of this size could reach; at every pixel it is 1.",
        ),
        (
            "overlap_another",
            f"The same of the map with another image's mask, {shown(size)}",
            f"{overlap}, where the map is largest, enlarged linearly; {mean}",
            "The control for objects being in the middle of all images.",
        ),
        (
            "ranking",
            f"How often a pixel of the object has more of the map than one of the ground, {shown(size)}",
            f"area under the receiver's operating characteristic; {mean}",
            "0.5 is chance; below it the words are attended to around the object.",
        ),
    ]


def _overlaps(maps: np.ndarray, mask: np.ndarray, other: np.ndarray) -> list[tuple[float, ...]]:
    """Return the overlaps of an image's maps (L, h, w), in the order of OVERLAPS."""
    grid = best_by_grid(mask, maps.shape[1:])  # type: ignore[arg-type]
    return [
        (intersection_over_union(each, mask), grid, intersection_over_union(each, other), ranking(each, mask))
        for each in maps
    ]


def _inside(maps: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of each group's attention in the mask, of maps (N, L, groups + 1, h, w): (L, groups)."""
    shares = [
        [[share_inside(one, mask) for one in level[:-1]] for level in each]
        for each, mask in zip(maps, masks, strict=True)
    ]
    known = np.ma.masked_invalid(shares)  # an image's caption may have no token of a group
    return np.asarray(known.mean(axis=0).filled(np.nan))


def _cell(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def _overlap_sentence(size: Size, found: Mapping[str, Interval], beyond: Interval) -> str:
    """Say what the overlaps show. beyond: how much larger it is with the image's own mask than with another's."""
    map_, grid, another = (found[name].value for name in ("overlap", "overlap_grid", "overlap_another"))
    text = (
        f"At {shown(size)}, the map of the {CONCEPT} of the caption overlaps the object of its image by {map_:.2f} and "
        f"another image's object by {another:.2f}; a grid of this size allows {grid:.2f}. "
    )
    return text + _told(beyond, grid - another) + _ranked(found["ranking"])


def _told(beyond: Interval, room: float) -> str:
    if beyond.low > 0 and beyond.value < room:
        return (
            f"So it tells the object from other images', by {beyond.value / room:.0%} of what the grid leaves room for."
        )
    if beyond.low > 0:
        return "So it tells the object from other images', as well as the grid allows."
    if beyond.high < 0:
        return "It overlaps other images' objects more than its own."
    return "So it does not tell the object from other images' for sure."


def _ranked(ranking: Interval) -> str:
    if ranking.high < 0.5:
        return " The words are attended to around the object, rather than in it."
    if ranking.low > 0.5:
        return " Within an image, the object's pixels have more of it than the ground's."
    return ""


def _overlap_picture(study: Study, measured: ImageMaps, effects: Effects) -> Picture:
    middle, concept = len(measured.levels) // 2, GROUPS.index(CONCEPT)
    tiles, names = [], []
    for row, maps in list(zip(effects.rows, effects.maps[:, effects.levels.index(middle)], strict=True))[:SHOWN]:
        number = measured.numbers[row]
        image, alpha = study.pixels[number], study.pictures.alpha
        assert alpha is not None
        tiles += [tile(image, None), tile(image, alpha[number] / 255), tile(image, maps)]
        names += [study.pictures.captions[number], "mask", "in pixels"]
        for size, each in measured.maps.items():
            tiles.append(tile(image, each[row, middle, concept]))
            names.append(shown(size))
    return Picture(
        "overlap",
        f"Images, their objects, where the {CONCEPT} of their captions changes the expected image, and where it is "
        f"attended to, at noise of {measured.levels[middle].ratio:.2g} times the signal: red is most.",
        to_png(image_grid(np.stack(tiles), 3 + len(measured.maps), names)),
    )
