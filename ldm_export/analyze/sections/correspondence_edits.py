"""What the section on correspondence says of edits: cells that are zeroed, replaced or exchanged, and what changes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ldm_export.analyze.cell_edits import EDITS, Edit, edited, followed, measure_edits
from ldm_export.analyze.coding import decoded
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.receptive_field import REACH, Place, enlarged, outlined, pick_cells, window
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.wording import counted
from ldm_export.plots import image_grid, to_png

CELLS = 2  # of each image, that are edited
SHOWN_EDITS = 3  # images
SHARE = "Share of the squared change of pixels in the cell's own square, one cell {}"
FOLLOWS = "How far the pixels of two cells change places with them"
LARGE = "Of large changes, unlike the derivatives."


def no_edits(note: str) -> list[Figure]:
    """Return the figures of edits that were not made, and why."""
    how = "cells decoded before and after"
    return [
        *(Figure(f"{name}_share", SHARE.format(name), None, "", how, LARGE, note=note) for name in EDITS),
        Figure("exchange_follows", FOLLOWS, None, "", how, LARGE, note=note),
    ]


def add_edits(study: Study, findings: Findings) -> None:
    """Zero, replace and exchange cells, and see where the image changes."""
    count = min(len(study.pictures), study.scaled_by_size(32, 6, least=min(6, len(study.pictures))))
    side, random = study.subject.codec.downsample, study.random("correspondence edits")
    found: dict[str, list[list[Edit]]] = {name: [] for name in EDITS}  # of each image, of each cell
    follow, shown = [], []
    progress = study.progress("correspondence: cells edited", count)
    for number in range(count):
        before, other = study.reconstructions[number], another(study.latents, number)
        cells = pick_cells(study.pixels[number], side, CELLS + 1, random)
        pairs = list(pairwise(cells))
        changed = np.concatenate([edited(study.latents[number], *pair, other) for pair in pairs])
        after = study.kept(f"correspondence edits {number}", lambda: decoded(study.subject.pipe, changed))  # noqa: B023
        after = after.reshape(len(pairs), len(EDITS), *before.shape)
        edits = [measure_edits(before, each, *pair, side) for each, pair in zip(after, pairs, strict=True)]
        for place, name in enumerate(EDITS):
            found[name].append([each[place] for each in edits])
        follow.append(
            _mean_known([followed(before, each[2], *pair, side) for each, pair in zip(after, pairs, strict=True)])
        )
        if number < SHOWN_EDITS:
            shown += [_close_up(each, cells[0], side) for each in (before, *after[0])]
        progress.advance()
    _report_edits(findings, found, np.array(follow), random)
    grid = image_grid(np.stack(shown), len(EDITS) + 1, ["decoded", *EDITS] * min(count, SHOWN_EDITS))
    findings.pictures.append(
        Picture("edits", "Parts of images with one cell of their latents changed; red: its own square.", to_png(grid))
    )


def another(latents: np.ndarray, number: int) -> np.ndarray:
    """Return the next latents of (N, C, h, w) that differ from those of a number; the same where none do."""
    following = np.roll(latents, -number - 1, axis=0)
    differs = np.any(following != latents[number], axis=(1, 2, 3))
    return np.asarray(following[int(differs.argmax())])


def _close_up(image: np.ndarray, cell: Place, side: int) -> np.ndarray:
    """Return what lies around a cell, enlarged."""
    return enlarged(np.stack([window(channel, cell, side, REACH) for channel in outlined(image, cell, side)]))


def _report_edits(
    findings: Findings, found: dict[str, list[list[Edit]]], moved: np.ndarray, random: np.random.Generator
) -> None:
    """found: of each kind of edit, of each image, of each cell. moved: how far pixels follow, of each image."""
    rows: list[tuple[Cell, ...]] = []
    shares: dict[str, Interval | None] = {}
    for name, images in found.items():
        shares[name], row = _report_kind(findings, name, images, random)
        rows.append(row)
    follow = _follow(findings, moved[~np.isnan(moved)], random)
    findings.tables.append(
        Table(
            "edits",
            "One cell of the latents changed: what it does to the pixels",
            ("cell", "inside, levels", "outside, levels", "share inside", "share within one cell more"),
            tuple(rows),
            "Levels: root mean square of the change, of 8-bit values, in the cell's own square and everywhere else. "
            "Zeroed: set to 0, the mean of the noise that drawing starts from. Replaced: by the same place of another "
            "image. Exchanged: with another cell of the image, whose square counts as inside too.",
        )
    )
    findings.sentences.append(_edit_sentence(shares, follow))


def _report_kind(
    findings: Findings, name: str, images: list[list[Edit]], random: np.random.Generator
) -> tuple[Interval | None, tuple[Cell, ...]]:
    """Add the figure of one kind of edit; return its share, None where nothing changed, and its row of the table."""
    means = {key: np.array([_mean(edits, key) for edits in images]) for key in ("inside", "outside", "share", "near")}
    inside, outside = (over_images(means[key], random)[0].value for key in ("inside", "outside"))
    levels = (name, inside, None if np.isnan(outside) and not np.isnan(inside) else outside)  # two cells are all
    known = ~np.isnan(means["share"])
    title, cells = SHARE.format(name), counted(len(images[0]), "cell")
    how = f"{cells} of each of {int(known.sum())} images, decoded before and after"
    if not known.any():
        note = "Nothing changed: the cells hold nothing else, or the decoder does not react to them."
        findings.figures.append(Figure(f"{name}_share", title, None, "", how, LARGE, note=note))
        return None, (*levels, None, None)
    share, over = over_images(means["share"][known], random)
    near, _ = over_images(means["near"][known], random)
    findings.figures.append(Figure.measured(f"{name}_share", title, share, "", how, LARGE, over))
    return share, (*levels, share.value, near.value)


def _mean(edits: Sequence[Edit], key: str) -> float:
    """Return the mean of what is known of a few edits; NaN where nothing is."""
    return _mean_known([getattr(edit, key) for edit in edits])


def _mean_known(values: Sequence[float]) -> float:
    known = np.array(values)[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _follow(findings: Findings, moved: np.ndarray, random: np.random.Generator) -> Interval | None:
    """Report how far pixels follow cells that are exchanged, of images where they differ."""
    how = "1 - what is left of the difference of the two squares, after their cells were exchanged"
    limits = "1 is all the way, 0 is no nearer than before; below 0 farther."
    if not len(moved):
        note = "The squares of the cells are the same: there is nothing to exchange."
        findings.figures.append(Figure("exchange_follows", FOLLOWS, None, "", how, limits, note=note))
        return None
    found, over = over_images(moved, random)
    findings.figures.append(Figure.measured("exchange_follows", FOLLOWS, found, "", how, limits, over))
    return found


def _edit_sentence(shares: dict[str, Interval | None], follow: Interval | None) -> str:
    zeroed, replaced = (shares[name] for name in ("zeroed", "replaced"))
    said = []
    if zeroed is not None:
        said.append(f"Of what changes when a cell is zeroed, {zeroed.value:.0%} lies in its own square.")
    if replaced is not None:
        said.append(f"Of what changes when it is replaced by another image's, {replaced.value:.0%} does.")
    if follow is not None:
        nature = "follow" if follow.low > 0.5 else "follow in part" if follow.low > 0 else "do not follow"
        said.append(f"When two cells change places their pixels {nature} ({follow.value:.2f} of the way).")
    return " ".join(said) or "Changing a cell changes nothing in the image."
