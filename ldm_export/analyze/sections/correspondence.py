"""Correspondence: which pixels belong to a latent cell, by gradients, by changing cells and by shifting images.

A cell's own square are the f x f pixels at its place, f the pixels of a cell along a side.
"""

from collections.abc import Sequence
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import torch

from ldm_export.analyze.cell_edits import EDITS, Edit, edited, followed, measure_edits
from ldm_export.analyze.coding import decoded
from ldm_export.analyze.derivative_cost import Work, count_work, lacking_memory
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.jacobian import Jacobian
from ldm_export.analyze.receptive_field import Place, energy_map, outlined, pick_cells, square, window
from ldm_export.analyze.sections.derivatives import said_of_work, says_what_cannot_be_differentiated
from ldm_export.analyze.shift_test import FEWEST_CELLS, ShiftTest, shift_test
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, image_grid, to_png

OWN = "Share of the energy in the own square"
INERT = "The derivatives are zero at all cells that were looked at: nothing there depends on anything."
REACH = 3  # cells around a cell
CELLS = 2  # of each image
FIELDS = {
    "encoder": "what a latent cell reads of the image",
    "decoder": "what a latent cell changes in the image",
    "pixel": "which cells a pixel in the centre of a square is made of",
    "corner": "which cells a pixel in the corner of a square is made of",
}
SHOWN_EDITS = 3  # images
SHIFT_FIGURES = (
    ("shift_whole", "Latents of an image shifted by a whole cell, grid moved alike", "of the latents' deviation"),
    ("shift_between", "The same at the worst shift by less than a cell", "of the latents' deviation"),
    ("shift_whole_image", "Reconstructions of an image shifted by a whole cell, moved back", "levels"),
    ("shift_between_image", "The same at the worst shift by less than a cell", "levels"),
)
ONE_PIXEL = "A cell is one pixel (f = 1): no shift is less than a cell."
MOST = 0.9  # of an energy, to speak of all
SHOWN_PIXELS = 168  # of a receptive field, about
DARKEST = 1e-4  # of the largest energy, in pictures


@says_what_cannot_be_differentiated
def measure(study: Study) -> Findings:
    """Measure receptive fields, edits of single cells, and shifts."""
    findings = Findings()
    codec = study.subject.codec
    works = (
        count_work(codec.decode, (1, *study.latents.shape[1:])),
        count_work(lambda pixels: codec.encode(pixels)[0], (1, *study.pixels.shape[1:])),
    )
    lacking = lacking_memory(Work(works[0].operations, works[0].kept + works[1].kept))
    if lacking:
        findings.figures += [_field_figure(name, lacking) for name in FIELDS]
        findings.sentences.append(f"Receptive fields were not measured. {lacking}")
    else:
        findings.sentences += said_of_work(works[0], "receptive fields are of fewer images")
        _add_fields(study, findings, works[0])
    _add_edits(study, findings)
    _add_shifts(study, findings)
    return findings


# --- Receptive fields ---


def _field_figure(name: str, note: str) -> Figure:
    """Return the figure of a field that has none."""
    return Figure(f"{name}_own", f"{OWN}: {FIELDS[name]}", None, "", "squared derivatives by gradients", "", note=note)


def _add_fields(study: Study, findings: Findings, work: Work) -> None:
    wanted = min(len(study.pictures), study.scaled(16, 3))
    count = work.affordable(wanted, least=min(wanted, 3))
    side = study.subject.codec.downsample
    maps = study.in_blocks("correspondence fields", list(range(count)), 1, lambda part: _maps(study, part[0])[None])
    # (images, REACH + 1) for each field: energy in the own square, and with more cells around it
    shares = {
        name: np.stack([_within(maps[:, place], side, reach) for reach in range(REACH + 1)], axis=1)
        for place, name in enumerate(FIELDS)
    }
    random = study.random("correspondence fields")
    for name in FIELDS:
        each = shares[name] = shares[name][~np.isnan(shares[name][:, 0])]  # images whose cells do anything at all
        if not len(each):
            findings.figures.append(_field_figure(name, INERT))
            del shares[name]
            continue
        interval, over = over_images(each[:, 0], random)
        findings.figures.append(
            Figure(
                f"{name}_own",
                f"{OWN}: {FIELDS[name]}",
                interval.value,
                "",
                f"squared derivatives by gradients, {CELLS} cells of each of {len(each)} images",
                "Of small changes. Cells are chosen among those that are not plain.",
                interval.low,
                interval.high,
                over,
            )
        )
    if len(shares) < len(FIELDS):
        inert = [FIELDS[name] for name in FIELDS if name not in shares]
        findings.sentences.append(f"Derivatives are zero in all that was looked at of: {'; '.join(inert)}.")
        return
    cells = study.latents[0, 0].size
    rows = [
        (
            f"{2 * reach + 1} x {2 * reach + 1}",
            *(float(each[:, reach].mean()) for each in shares.values()),
            min(1.0, (2 * reach + 1) ** 2 / cells),
        )
        for reach in range(REACH + 1)
    ]
    findings.tables.append(
        Table(
            "fields",
            "Share of the energy within squares of cells around the own one",
            ("cells", *FIELDS, "if spread evenly"),
            tuple(rows),
            "; ".join(f"{name}: {meaning}" for name, meaning in FIELDS.items()) + ".",
        )
    )
    findings.sentences.append(_field_sentence({name: each.mean(axis=0) for name, each in shares.items()}))
    findings.pictures.append(_field_picture(np.nanmean(maps, axis=0), side))


def _maps(study: Study, number: int) -> np.ndarray:
    """Return the energies of one image around its cells, as shares of the whole: (fields, rows, columns).

    NaN in a field whose derivatives are zero at all cells.
    """
    codec = study.subject.codec
    side = codec.downsample
    pixels, latents = study.pixels[number], study.latents[number]
    cells = pick_cells(pixels, side, CELLS, study.random(f"cells of image {number}"))
    encoder = Jacobian(lambda at: codec.encode(at)[0], torch.from_numpy(pixels[None]))
    decoder = Jacobian(codec.decode, torch.from_numpy(latents[None]))
    found = []
    for row, column in cells:
        centre = (row * side + side // 2, column * side + side // 2)
        corner = (row * side, column * side)
        for energy in (
            energy_map(encoder.transposed_times, (row, column), latents.shape, pixels.shape),
            energy_map(decoder.times, (row, column), latents.shape, pixels.shape),
            *(
                np.kron(energy_map(decoder.transposed_times, each, pixels.shape, latents.shape), np.ones((side, side)))
                for each in (centre, corner)
            ),
        ):
            found.append(_share(energy, (row, column), side))
    maps = np.reshape(found, (len(cells), len(FIELDS), *found[0].shape))
    return np.stack([_mean_of_known(maps[:, place]) for place in range(len(FIELDS))])


def _share(energy: np.ndarray, cell: Place, side: int) -> np.ndarray:
    """Return the energy around a cell as a share of the whole; NaN where there is none."""
    total = float(energy.sum())
    if not np.isfinite(total):
        raise AnalysisError("the derivatives of the autoencoder have NaN or infinity")
    around = window(energy, cell, side, REACH)
    return around / total if total > 0 else np.full_like(around, np.nan)


def _mean_of_known(maps: np.ndarray) -> np.ndarray:
    known = maps[~np.isnan(maps[:, 0, 0])]
    return np.asarray(known.mean(axis=0)) if len(known) else maps[0]


def _within(maps: np.ndarray, side: int, reach: int) -> np.ndarray:
    """Return the energy within `reach` cells of the one in the middle of each map: (images,)."""
    return np.asarray(maps[(slice(None), *square((REACH, REACH), side, reach))].sum(axis=(1, 2)))


def _field_sentence(shares: dict[str, np.ndarray]) -> str:
    def cells_for(name: str) -> str:
        enough = np.flatnonzero(shares[name] >= MOST)
        most = 2 * REACH + 1
        return f"{2 * enough[0] + 1} x {2 * enough[0] + 1} cells" if len(enough) else f"more than {most} x {most} cells"

    own = {name: float(each[0]) for name, each in shares.items()}
    holds = "holds" if min(own["encoder"], own["decoder"]) >= MOST else "does not hold"
    return (
        f"That a latent cell stands for its own square {holds} here: of what a cell reads {own['encoder']:.0%} lies in "
        f"its square, of what it changes {own['decoder']:.0%}; {MOST:.0%} of the energy take {cells_for('encoder')} to "
        f"read and {cells_for('decoder')} to change. A pixel in the centre of a square depends on its own cell by "
        f"{own['pixel']:.0%}, one in the corner by {own['corner']:.0%}."
    )


def _field_picture(maps: np.ndarray, side: int) -> Picture:
    largest = np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    shades = np.log10(np.maximum(maps / largest, DARKEST)) / -np.log10(DARKEST) * 2 + 1
    tiles = [outlined(np.repeat(each[None], 3, axis=0), (REACH, REACH), side) for each in shades]
    scale = max(1, SHOWN_PIXELS // tiles[0].shape[1])
    grid = image_grid(np.kron(np.stack(tiles), np.ones((1, 1, scale, scale))), len(tiles), list(FIELDS))
    meanings = "; ".join(FIELDS.values())
    return Picture(
        "fields",
        f"Energy of receptive fields around a cell, {2 * REACH + 1} cells wide, on a logarithmic scale: white is the "
        f"largest, black {DARKEST:g} of it and less. Red: the cell's own square. From the left: {meanings}.",
        to_png(grid),
    )


# --- Edits of single cells ---


def _add_edits(study: Study, findings: Findings) -> None:
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
    part = np.stack([window(channel, cell, side, REACH) for channel in outlined(image, cell, side)])
    scale = max(1, SHOWN_PIXELS // part.shape[1])
    return np.kron(part, np.ones((1, scale, scale)))


def _report_edits(
    findings: Findings, found: dict[str, list[list[Edit]]], moved: np.ndarray, random: np.random.Generator
) -> None:
    rows: list[tuple[Cell, ...]] = []
    shares: dict[str, Interval | None] = {}
    for name, images in found.items():
        means = {
            key: np.array([_mean(edits, key) for edits in images]) for key in ("inside", "outside", "share", "near")
        }
        inside, outside = (over_images(means[key], random)[0].value for key in ("inside", "outside"))
        known = ~np.isnan(means["share"])
        title = f"Share of the squared change of pixels in the cell's own square, one cell {name}"
        how = f"{CELLS} cells of each of {int(known.sum())} images, decoded before and after"
        limits = "Of large changes, unlike the derivatives."
        if not known.any():
            note = "Nothing changed: the cells hold nothing else, or the decoder does not react to them."
            findings.figures.append(Figure(f"{name}_share", title, None, "", how, limits, note=note))
            shares[name] = None
            rows.append((name, inside, outside, None, None))
            continue
        share, over = over_images(means["share"][known], random)
        near, _ = over_images(means["near"][known], random)
        findings.figures.append(Figure.measured(f"{name}_share", title, share, "", how, limits, over))
        shares[name] = share
        rows.append((name, inside, outside, share.value, near.value))
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


def _mean(edits: Sequence[Edit], key: str) -> float:
    """Return the mean of what is known of a few edits; NaN where nothing is."""
    return _mean_known([getattr(edit, key) for edit in edits])


def _mean_known(values: Sequence[float]) -> float:
    known = np.array(values)[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _follow(findings: Findings, moved: np.ndarray, random: np.random.Generator) -> Interval | None:
    """Report how far pixels follow cells that are exchanged, of images where they differ."""
    title = "How far the pixels of two cells change places with them"
    how = "1 - what is left of the difference of the two squares, after their cells were exchanged"
    limits = "1 is all the way, 0 is no nearer than before; below 0 farther."
    if not len(moved):
        note = "The squares of the cells are the same: there is nothing to exchange."
        findings.figures.append(Figure("exchange_follows", title, None, "", how, limits, note=note))
        return None
    found, over = over_images(moved, random)
    findings.figures.append(Figure.measured("exchange_follows", title, found, "", how, limits, over))
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


# --- Shifts ---


def _add_shifts(study: Study, findings: Findings) -> None:
    """Shift images by every number of pixels of a cell."""
    codec, side = study.subject.codec, study.subject.codec.downsample
    if min(study.latents.shape[2:]) < FEWEST_CELLS:
        _no_shifts(findings, f"It takes {FEWEST_CELLS} latent cells along each side; the model's images have fewer.")
        return
    variance = float(study.latents.var(axis=(0, 2, 3), dtype=np.float64).mean())
    if variance == 0:
        _no_shifts(findings, "The latents do not vary: they have no deviation to compare a change with.")
        return
    count = min(len(study.pictures), study.scaled_by_size(24, 3, least=min(3, len(study.pictures))))
    numbers = list(range(count))
    test = lambda part: np.stack(astuple(shift_test(codec, study.pixels[part[0]])))[None]  # noqa: E731
    squares = study.in_blocks("correspondence shifts", numbers, 1, test).transpose(1, 2, 0)
    tests = ShiftTest(*squares)  # (offsets, images) each
    shares = {"still": tests.still / variance, "moved": tests.moved / variance}
    to_levels = 127.5**2
    latents, image = (int(np.argmax(each[:-1].mean(axis=1))) for each in (tests.moved, tests.decoded))
    values = (
        *(shares["moved"][place] for place in (-1, latents)),
        *(to_levels * tests.decoded[place] for place in (-1, image)),
    )
    findings.figures += _shift_figures(values, side, count, study.random("correspondence shifts"))
    columns = (shares["still"], shares["moved"], to_levels * tests.decoded, to_levels * tests.error)
    rows = [(offset, *(_root(each[offset]) for each in columns)) for offset in range(side + 1)]
    findings.tables.append(
        Table(
            "shifts",
            "An image shifted by each number of pixels of a cell",
            ("pixels", "latents", "latents, grid moved", "reconstructions, levels", "error, levels"),
            tuple(rows),
            "Latents: how much they change, over their deviation; grid moved: what is left once it is moved alike. "
            "Reconstructions: of the shifted image against the shifted reconstruction; error: against the image."
            " Root mean squares.",
        )
    )
    findings.sentences.append(_shift_sentence(rows, latents, side))
    lines = {
        name: [(float(row[0]), float(row[place])) for row in rows]
        for place, name in ((1, "latents against unshifted ones"), (2, "latents, grid moved alike"))
    }
    plot = draw_lines(lines, "shift of the image in pixels", "change, over the latents' deviation")
    caption = f"Latents of shifted images: {side} pixels are a whole cell."
    findings.pictures.append(Picture("shifts", caption, to_png(plot)))


def _shift_figures(values: Sequence[np.ndarray], side: int, count: int, random: np.random.Generator) -> list[Figure]:
    """Return the figures of mean squares of each image, in the order of SHIFT_FIGURES."""
    estimator = f"windows of {count} images, {side} pixels smaller, along rows and columns; root mean square"
    limits = "A cell at the borders is left out. Between whole cells the grid is moved by linear interpolation."
    figures = []
    for (name, title, unit), value in zip(SHIFT_FIGURES, values, strict=True):
        if side == 1 and "between" in name:
            figures.append(Figure(name, title, None, unit, estimator, limits, note=ONE_PIXEL))
            continue
        found, over = over_images(value, random, _root)
        figures.append(Figure.measured(name, title, found, unit, estimator, limits, over))
    return figures


def _no_shifts(findings: Findings, note: str) -> None:
    findings.figures += [
        Figure(name, title, None, unit, "shift test", "", note=note) for name, title, unit in SHIFT_FIGURES
    ]


def _shift_sentence(rows: Sequence[tuple[float, ...]], worst: int, side: int) -> str:
    whole, between, error = rows[-1][2], rows[worst][2], rows[0][4]
    largest = max(row[3] for row in (rows[1:-1] if side > 1 else rows[-1:]))
    against = "less than" if largest < error else "no less than"
    said = (
        f"reconstructions of shifted images differ by up to {largest:.1f} levels, {against} the error of "
        f"reconstruction itself ({error:.1f})."
    )
    moves = f"A shift by a whole cell moves the grid of latents, but for {whole:.2f} of their deviation"
    if side == 1:
        return f"{ONE_PIXEL} {moves}; {said}"
    pixels = "1 pixel" if worst == 1 else f"{worst} pixels"
    nature = "Parts of a cell are coded anew at every offset" if between > 2 * whole else "Offsets matter little"
    return f"{moves}; one by {pixels} leaves {between:.2f}. {nature}: {said}"


def _root(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean()))
