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
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.jacobian import Jacobian
from ldm_export.analyze.receptive_field import Place, energy_map, outlined, pick_cells, square, window
from ldm_export.analyze.shift_test import FEWEST_CELLS, ShiftTest, shift_test
from ldm_export.analyze.statistics import over_images
from ldm_export.analyze.study import Study
from ldm_export.plots import draw_lines, image_grid, to_png

REACH = 3  # cells around a cell
CELLS = 2  # of each image
FIELDS = {
    "encoder": "what a latent cell reads of the image",
    "decoder": "what a latent cell changes in the image",
    "pixel": "which cells a pixel in the middle of a square is made of",
    "corner": "which cells a pixel in the corner of a square is made of",
}
SHOWN_EDITS = 3  # images
SHIFT_FIGURES = (
    ("shift_whole", "Latents of an image shifted by a whole cell, grid moved alike", "of the latents' deviation"),
    ("shift_between", "The same at the worst shift by less than a cell", "of the latents' deviation"),
    ("shift_whole_image", "Reconstructions of an image shifted by a whole cell, moved back", "levels"),
    ("shift_between_image", "The same at the worst shift by less than a cell", "levels"),
)
MOST = 0.9  # of an energy, to speak of all
SHOWN_PIXELS = 168  # of a receptive field, about
DARKEST = 1e-4  # of the largest energy, in pictures


def measure(study: Study) -> Findings:
    """Measure receptive fields, edits of single cells, and shifts."""
    findings = Findings()
    _add_fields(study, findings)
    _add_edits(study, findings)
    _add_shifts(study, findings)
    return findings


# --- Receptive fields ---


def _add_fields(study: Study, findings: Findings) -> None:
    count = min(len(study.pictures), study.scaled(16, 3))
    side = study.subject.codec.downsample
    maps = study.in_blocks("correspondence fields", list(range(count)), 1, lambda part: _maps(study, part[0])[None])
    # (images, REACH + 1) for each field: energy in the own square, and with more cells around it
    shares = {
        name: np.stack([_within(maps[:, place], side, reach) for reach in range(REACH + 1)], axis=1)
        for place, name in enumerate(FIELDS)
    }
    random = study.random("correspondence fields")
    for name, each in shares.items():
        interval, over = over_images(each[:, 0], random)
        findings.figures.append(
            Figure(
                f"{name}_own",
                f"Share of the energy in the own square: {FIELDS[name]}",
                interval.value,
                "",
                f"squared derivatives by gradients, {CELLS} cells of each of {count} images",
                "Of small changes. Cells are chosen among those that are not plain.",
                interval.low,
                interval.high,
                over,
            )
        )
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
    findings.pictures.append(_field_picture(maps.mean(axis=0), side))


def _maps(study: Study, number: int) -> np.ndarray:
    """Return the energies of one image around its cells, as shares of the whole: (fields, rows, columns)."""
    codec = study.subject.codec
    side = codec.downsample
    pixels, latents = study.pixels[number], study.latents[number]
    cells = pick_cells(pixels, side, CELLS, study.random(f"cells of image {number}"))
    encoder = Jacobian(lambda at: codec.encode(at)[0], torch.from_numpy(pixels[None]))
    decoder = Jacobian(codec.decode, torch.from_numpy(latents[None]))
    found = []
    for row, column in cells:
        middle = (row * side + side // 2, column * side + side // 2)
        corner = (row * side, column * side)
        for energy in (
            energy_map(encoder.transposed_times, (row, column), latents.shape, pixels.shape),
            energy_map(decoder.times, (row, column), latents.shape, pixels.shape),
            *(
                np.kron(energy_map(decoder.transposed_times, each, pixels.shape, latents.shape), np.ones((side, side)))
                for each in (middle, corner)
            ),
        ):
            found.append(window(energy, (row, column), side, REACH) / energy.sum())
    return np.mean(np.reshape(found, (len(cells), len(FIELDS), *found[0].shape)), axis=0)


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
        f"read and {cells_for('decoder')} to change. A pixel in the middle of a square depends on its own cell by "
        f"{own['pixel']:.0%}, one in the corner by {own['corner']:.0%}."
    )


def _field_picture(maps: np.ndarray, side: int) -> Picture:
    shades = np.log10(np.maximum(maps / maps.max(axis=(1, 2), keepdims=True), DARKEST)) / -np.log10(DARKEST) * 2 + 1
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
    count, side = min(len(study.pictures), study.scaled(32, 6)), study.subject.codec.downsample
    random = study.random("correspondence edits")
    found: dict[str, list[list[Edit]]] = {name: [] for name in EDITS}  # of each image, of each cell
    follow, shown = [], []
    progress = study.progress("correspondence: cells edited", count)
    for number in range(count):
        before, other = study.reconstructions[number], study.latents[(number + 1) % count]
        cells = pick_cells(study.pixels[number], side, CELLS + 1, random)
        pairs = list(pairwise(cells))
        changed = np.concatenate([edited(study.latents[number], *pair, other) for pair in pairs])
        after = study.kept(f"correspondence edits {number}", lambda: decoded(study.subject.pipe, changed))  # noqa: B023
        after = after.reshape(len(pairs), len(EDITS), *before.shape)
        edits = [measure_edits(before, each, *pair, side) for each, pair in zip(after, pairs, strict=True)]
        for place, name in enumerate(EDITS):
            found[name].append([each[place] for each in edits])
        follow.append(
            np.mean([followed(before, each[2], *pair, side) for each, pair in zip(after, pairs, strict=True)])
        )
        if number < SHOWN_EDITS:
            shown += [_close_up(each, cells[0], side) for each in (before, *after[0])]
        progress.advance()
    _report_edits(findings, found, np.array(follow), random)
    grid = image_grid(np.stack(shown), len(EDITS) + 1, ["decoded", *EDITS] * min(count, SHOWN_EDITS))
    findings.pictures.append(
        Picture("edits", "Parts of images with one cell of their latents changed; red: its own square.", to_png(grid))
    )


def _close_up(image: np.ndarray, cell: Place, side: int) -> np.ndarray:
    """Return what lies around a cell, enlarged."""
    part = np.stack([window(channel, cell, side, REACH) for channel in outlined(image, cell, side)])
    scale = max(1, SHOWN_PIXELS // part.shape[1])
    return np.kron(part, np.ones((1, scale, scale)))


def _report_edits(
    findings: Findings, found: dict[str, list[list[Edit]]], moved: np.ndarray, random: np.random.Generator
) -> None:
    count = len(found["zeroed"])
    follow, over = over_images(moved, random)
    rows: list[tuple[str, float, float, float, float]] = []
    for name, images in found.items():
        inside, outside, share, near = (
            over_images(np.array([np.mean([getattr(edit, key) for edit in edits]) for edits in images]), random)[0]
            for key in ("inside", "outside", "share", "near")
        )
        rows.append((name, inside.value, outside.value, share.value, near.value))
        findings.figures.append(
            Figure(
                f"{name}_share",
                f"Share of the squared change of pixels in the cell's own square, one cell {name}",
                share.value,
                "",
                f"{CELLS} cells of each of {count} images, decoded before and after",
                "Of large changes, unlike the derivatives.",
                share.low,
                share.high,
                over,
            )
        )
    findings.figures.append(
        Figure(
            "exchange_follows",
            "How far the pixels of two cells change places with them",
            follow.value,
            "",
            "1 - what is left of the difference of the two squares, after their cells were exchanged",
            "1 is all the way, 0 is no nearer than before; below 0 farther.",
            follow.low,
            follow.high,
            over,
        )
    )
    findings.tables.append(
        Table(
            "edits",
            "One cell of the latents changed: what it does to the pixels",
            ("cell", "inside, levels", "outside, levels", "share inside", "share within one cell more"),
            tuple(rows),
            "Levels: root mean square of the change, of 8-bit values, in the cell's own square and everywhere else. "
            "Zeroed: set to the mean of the prior. Replaced: by the same place of another image. Exchanged: with "
            "another cell of the image, whose square counts as inside too.",
        )
    )
    shares = {row[0]: row[3] for row in rows}
    findings.sentences.append(
        f"Of what changes when a cell is zeroed, {shares['zeroed']:.0%} lies in its own square; replaced by another "
        f"image's {shares['replaced']:.0%}. When two cells change places their pixels "
        + ("follow" if follow.low > 0.5 else "follow in part" if follow.low > 0 else "do not follow")
        + f" ({follow.value:.2f} of the way)."
    )


# --- Shifts ---


def _add_shifts(study: Study, findings: Findings) -> None:
    """Shift images by every number of pixels of a cell."""
    codec, side = study.subject.codec, study.subject.codec.downsample
    if min(study.latents.shape[2:]) < FEWEST_CELLS:
        note = f"It takes {FEWEST_CELLS} latent cells along each side; the model's images have fewer."
        findings.figures += [
            Figure(name, title, None, unit, "shift test", "", note=note) for name, title, unit in SHIFT_FIGURES
        ]
        return
    count = min(len(study.pictures), study.scaled(24, 3))
    numbers = list(range(count))
    test = lambda part: np.stack(astuple(shift_test(codec, study.pixels[part[0]])))[None]  # noqa: E731
    squares = study.in_blocks("correspondence shifts", numbers, 1, test).transpose(1, 2, 0)
    tests = ShiftTest(*squares)  # (offsets, images) each
    variance = float(study.latents.var(axis=(0, 2, 3)).mean())
    shares = {"still": tests.still / variance, "moved": tests.moved / variance}
    to_levels = 127.5**2
    latents, image = (int(np.argmax(each[:-1].mean(axis=1))) for each in (tests.moved, tests.decoded))
    random = study.random("correspondence shifts")
    values = (
        *(shares["moved"][place] for place in (-1, latents)),
        *(to_levels * tests.decoded[place] for place in (-1, image)),
    )
    for (name, title, unit), value in zip(SHIFT_FIGURES, values, strict=True):
        found, over = over_images(value, random, _root)
        findings.figures.append(
            Figure(
                name,
                title,
                found.value,
                unit,
                f"windows of {count} images, {side} pixels smaller, along rows and columns; root mean square",
                "A cell at the borders is left out. Between whole cells the grid is moved by linear interpolation.",
                found.low,
                found.high,
                over,
            )
        )
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


def _shift_sentence(rows: Sequence[tuple[float, ...]], worst: int, side: int) -> str:
    whole, between, error = rows[-1][2], rows[worst][2], rows[0][4]
    largest = max(row[3] for row in rows[1:-1]) if side > 1 else rows[-1][3]
    against = "less than" if largest < error else "more than"
    nature = "Parts of a cell are coded anew at every offset" if between > 2 * whole else "Offsets matter little"
    return (
        f"A shift by a whole cell moves the grid of latents, but for {whole:.2f} of their deviation; one by {worst} "
        f"pixels leaves {between:.2f}. {nature}: reconstructions of shifted images differ by up to {largest:.1f} "
        f"levels, {against} the error of reconstruction itself ({error:.1f})."
    )


def _root(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean()))
