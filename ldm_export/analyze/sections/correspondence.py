"""Correspondence: which pixels belong to a latent cell, by gradients, by changing cells and by shifting images.

A cell's own square are the f x f pixels at its place, f the pixels of a cell along a side.
"""

import numpy as np
import torch

from ldm_export.analyze.derivative_cost import Work, count_work, lacking_memory
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.jacobian import Jacobian
from ldm_export.analyze.receptive_field import (
    REACH,
    Place,
    energy_map,
    enlarged,
    outlined,
    pick_cells,
    square,
    window,
)
from ldm_export.analyze.sections.correspondence_edits import add_edits, no_edits
from ldm_export.analyze.sections.correspondence_shifts import add_shifts, no_shifts
from ldm_export.analyze.sections.derivatives import says_what_cannot_be_differentiated
from ldm_export.analyze.sections.work_budget import affordable, said_of_work
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.wording import counted
from ldm_export.errors import AnalysisError
from ldm_export.plots import image_grid, to_png

OWN = "Share of the energy in the own square"
INERT = "The derivatives are zero at all cells that were looked at: nothing there depends on anything."
ONE_CELL = "The latents are one cell, whose square is the whole image: nothing lies outside of it."
CELLS = 2  # of each image
FIELDS = {
    "encoder": "what a latent cell reads of the image",
    "decoder": "what a latent cell changes in the image",
    "pixel": "which cells a pixel in the centre of a square is made of",
    "corner": "which cells a pixel in the corner of a square is made of",
}
MOST = 0.9  # of an energy, to speak of all
DARKEST = 1e-4  # of the largest energy, in pictures


@says_what_cannot_be_differentiated
def measure(study: Study) -> Findings:
    """Measure receptive fields, edits of single cells, and shifts."""
    findings = Findings()
    if study.latents[0, 0].size == 1:
        findings.figures += [*(_field_figure(name, ONE_CELL) for name in FIELDS), *no_edits(ONE_CELL)]
        findings.figures += no_shifts(ONE_CELL)
        findings.sentences.append(ONE_CELL)
        return findings
    codec = study.subject.codec
    works = (
        count_work(codec.decode, (1, *study.latents.shape[1:])),
        count_work(lambda pixels: codec.encode(pixels)[0], (1, *study.pixels.shape[1:])),
    )
    lacking = lacking_memory(Work(works[0].macs, works[0].kept + works[1].kept))
    if lacking:
        findings.figures += [_field_figure(name, lacking) for name in FIELDS]
        findings.sentences.append(f"Receptive fields were not measured. {lacking}")
    else:
        findings.sentences += said_of_work(works[0], "receptive fields are of fewer images")
        _add_fields(study, findings, works[0])
    add_edits(study, findings)
    add_shifts(study, findings)
    return findings


# --- Receptive fields ---


def _field_figure(name: str, note: str) -> Figure:
    """Return the figure of a field that has none."""
    return Figure(f"{name}_own", f"{OWN}: {FIELDS[name]}", None, "", "squared derivatives by gradients", "", note=note)


def _add_fields(study: Study, findings: Findings, work: Work) -> None:
    wanted = min(len(study.pictures), study.scaled(16, 3))
    count = affordable(work, wanted, least=min(wanted, 3))
    side = study.subject.codec.downsample
    maps = study.in_blocks("correspondence fields", list(range(count)), 1, lambda part: _maps(study, part[0])[None])
    random = study.random("correspondence fields")
    shares: dict[str, np.ndarray] = {}  # (images, REACH + 1): energy in the own square, and with more cells around it
    own: dict[str, Interval] = {}
    for place, name in enumerate(FIELDS):
        each = np.stack([_within(maps[:, place], side, reach) for reach in range(REACH + 1)], axis=1)
        each = each[~np.isnan(each[:, 0])]  # images whose cells do anything at all
        if not len(each):
            findings.figures.append(_field_figure(name, INERT))
            continue
        shares[name] = each
        own[name], over = over_images(each[:, 0], random)
        title, cells = f"{OWN}: {FIELDS[name]}", counted(min(CELLS, study.latents[0, 0].size), "cell")
        how = f"squared derivatives by gradients, {cells} of each of {len(each)} images"
        limits = "Of small changes. Cells are chosen among those that are not plain."
        findings.figures.append(Figure.measured(f"{name}_own", title, own[name], "", how, limits, over))
    if len(shares) < len(FIELDS):
        inert = [FIELDS[name] for name in FIELDS if name not in shares]
        findings.sentences.append(f"Derivatives are zero in all that was looked at of: {'; '.join(inert)}.")
        return
    means = {name: each.mean(axis=0) for name, each in shares.items()}
    findings.tables.append(_field_table(means, study.latents[0, 0].size))
    findings.sentences.append(_field_sentence(means, own))
    findings.pictures.append(_field_picture(np.nanmean(maps, axis=0), side))


def _field_table(means: dict[str, np.ndarray], cells: int) -> Table:
    """means: of each field, the energy within squares of cells, (REACH + 1,). cells: of the latents."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            f"{2 * reach + 1} x {2 * reach + 1}",
            *(float(each[reach]) for each in means.values()),
            min(1.0, (2 * reach + 1) ** 2 / cells),
        )
        for reach in range(REACH + 1)
    )
    return Table(
        "fields",
        "Share of the energy within squares of cells around the own one",
        ("cells", *FIELDS, "if spread evenly"),
        rows,
        "; ".join(f"{name}: {meaning}" for name, meaning in FIELDS.items()) + ".",
    )


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


def _field_sentence(shares: dict[str, np.ndarray], intervals: dict[str, Interval]) -> str:
    """shares: the energy within squares of cells. intervals: of that in the own square."""

    def cells_for(name: str) -> str:
        enough = np.flatnonzero(shares[name] >= MOST)
        most = 2 * REACH + 1
        return f"{2 * enough[0] + 1} x {2 * enough[0] + 1} cells" if len(enough) else f"more than {most} x {most} cells"

    own = {name: float(each[0]) for name, each in shares.items()}
    return (
        f"{owns(intervals['encoder'], intervals['decoder'])}: of what a cell reads {own['encoder']:.0%} lies in "
        f"its square, of what it changes {own['decoder']:.0%}; {MOST:.0%} of the energy take {cells_for('encoder')} to "
        f"read and {cells_for('decoder')} to change. A pixel in the centre of a square depends on its own cell by "
        f"{own['pixel']:.0%}, one in the corner by {own['corner']:.0%}."
    )


def owns(*shares: Interval) -> str:
    """Say whether cells stand for their own squares, by shares of energies in those."""
    claim = "a latent cell stands for its own square"
    if all(each.low >= MOST for each in shares):
        return f"That {claim} holds here"
    if any(each.high < MOST for each in shares):
        return f"That {claim} does not hold here"
    return f"Whether {claim} these images do not tell"


def _field_picture(maps: np.ndarray, side: int) -> Picture:
    largest = np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    shades = np.log10(np.maximum(maps / largest, DARKEST)) / -np.log10(DARKEST) * 2 + 1
    tiles = [outlined(np.repeat(each[None], 3, axis=0), (REACH, REACH), side) for each in shades]
    grid = image_grid(np.stack([enlarged(each) for each in tiles]), len(tiles), list(FIELDS))
    meanings = "; ".join(FIELDS.values())
    return Picture(
        "fields",
        f"Energy of receptive fields around a cell, {2 * REACH + 1} cells wide, on a logarithmic scale: white is the "
        f"largest, black {DARKEST:g} of it and less. Red: the cell's own square. From the left: {meanings}.",
        to_png(grid),
    )
