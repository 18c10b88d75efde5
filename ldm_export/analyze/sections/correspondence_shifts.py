"""What the section on correspondence says of shifts: how far latents and reconstructions follow a shifted image."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np

from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.shift_test import FEWEST_CELLS, ShiftTest, shift_test
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.wording import counted
from ldm_export.plots import draw_lines, to_png

SHIFT_FIGURES = (
    ("shift_whole", "Latents of an image shifted by a whole cell, grid moved alike", "of the latents' deviation"),
    ("shift_between", "The same at the worst shift by less than a cell", "of the latents' deviation"),
    ("shift_whole_image", "Reconstructions of an image shifted by a whole cell, moved back", "levels"),
    ("shift_between_image", "The same at the worst shift by less than a cell", "levels"),
)
ONE_PIXEL = "A cell is one pixel (f = 1): no shift is less than a cell."
TWICE = 2  # times what is left after a whole cell, from which on offsets matter


def add_shifts(study: Study, findings: Findings) -> None:
    """Shift images by every number of pixels of a cell."""
    side = study.subject.codec.downsample
    if min(study.latents.shape[2:]) < FEWEST_CELLS:
        fewer = f"It takes {FEWEST_CELLS} latent cells along each side; the model's images have fewer."
        findings.figures += no_shifts(fewer)
        return
    variance = float(study.latents.var(axis=(0, 2, 3), dtype=np.float64).mean())
    if variance == 0:
        findings.figures += no_shifts("The latents do not vary: they have no deviation to compare a change with.")
        return
    tests = _tests(study, variance)
    latents, image = (int(np.argmax(each[:-1].mean(axis=1))) for each in (tests.moved, tests.decoded))
    values = (tests.moved[-1], tests.moved[latents], tests.decoded[-1], tests.decoded[image])
    findings.figures += _shift_figures(values, side, study.random("correspondence shifts"))
    columns = (tests.still, tests.moved, tests.decoded, tests.error)
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
    findings.sentences.append(_shift_sentence(tests, latents, side, study.random("correspondence shifts, sentence")))
    lines = {
        name: [(float(row[0]), float(row[place])) for row in rows]
        for place, name in ((1, "latents against unshifted ones"), (2, "latents, grid moved alike"))
    }
    plot = draw_lines(lines, "shift of the image in pixels", "change, over the latents' deviation")
    caption = f"Latents of shifted images: {side} pixels are a whole cell."
    findings.pictures.append(Picture("shifts", caption, to_png(plot)))


def _tests(study: Study, variance: float) -> ShiftTest:
    """Return the mean squares of each image, (offsets, images), of latents over their variance, of images in levels."""
    count = min(len(study.pictures), study.scaled_by_size(24, 3, least=min(3, len(study.pictures))))

    def test(part: Sequence[int]) -> np.ndarray:
        return np.stack(astuple(shift_test(study.subject.codec, study.pixels[part[0]])))[None]

    squares = study.in_blocks("correspondence shifts", list(range(count)), 1, test).transpose(1, 2, 0)
    still, moved, decoded, error = squares
    return ShiftTest(still / variance, moved / variance, 127.5**2 * decoded, 127.5**2 * error)


def _shift_figures(values: Sequence[np.ndarray], side: int, random: np.random.Generator) -> list[Figure]:
    """Return the figures of mean squares of each image, in the order of SHIFT_FIGURES."""
    estimator = f"windows of {len(values[0])} images, {side} pixels smaller, along rows and columns; root mean square"
    limits = "A cell at the borders is left out. Between whole cells the grid is moved by linear interpolation."
    figures = []
    for (name, title, unit), value in zip(SHIFT_FIGURES, values, strict=True):
        if side == 1 and "between" in name:
            figures.append(Figure(name, title, None, unit, estimator, limits, note=ONE_PIXEL))
            continue
        found, over = over_images(value, random, _root)
        figures.append(Figure.measured(name, title, found, unit, estimator, limits, over))
    return figures


def no_shifts(note: str) -> list[Figure]:
    """Return the figures of shifts that were not measured, and why."""
    return [Figure(name, title, None, unit, "shift test", "", note=note) for name, title, unit in SHIFT_FIGURES]


def _shift_sentence(tests: ShiftTest, worst: int, side: int, random: np.random.Generator) -> str:
    """tests: in deviations of the latents, and in levels. worst: the offset at which most is left of a moved grid."""
    whole, between, error = _root(tests.moved[-1]), _root(tests.moved[worst]), _root(tests.error[0])
    offsets = range(1, side) if side > 1 else [side]
    farthest = max(offsets, key=lambda offset: float(tests.decoded[offset].mean()))
    beside, _ = over_images(tests.decoded[farthest] - tests.error[0], random)
    said = (
        f"reconstructions of shifted images differ by up to {_root(tests.decoded[farthest]):.1f} levels, "
        f"{beside_error(beside)} the error of reconstruction itself ({error:.1f})."
    )
    moves = f"A shift by a whole cell moves the grid of latents, but for {whole:.2f} of their deviation"
    if side == 1:
        return f"{ONE_PIXEL} {moves}; {said}"
    more, _ = over_images(tests.moved[worst] - TWICE**2 * tests.moved[-1], random)
    return f"{moves}; one by {counted(worst, 'pixel')} leaves {between:.2f}. {offsets_matter(more)}: {said}"


def beside_error(difference: Interval) -> str:
    """Say what a difference of squares, what a shift changes less an error, tells."""
    return "less than" if difference.high < 0 else "more than" if difference.low > 0 else "not told from"


def offsets_matter(more: Interval) -> str:
    """Say whether it matters by how much an image is shifted. more: what is left is over TWICE that of a whole cell."""
    if more.low > 0:
        return "Parts of a cell are coded anew at every offset"
    if more.high <= 0:
        return "Offsets matter little"
    return "Whether offsets matter these images do not tell"


def _root(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean()))
