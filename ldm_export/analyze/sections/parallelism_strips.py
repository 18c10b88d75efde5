"""Parallelism in space: one image decoded in strips, what that changes in it and how much faster it is."""

import statistics
from collections.abc import Callable
from functools import partial

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import over_images
from ldm_export.analyze.strips import Strip, beside_seams, cut, decode_strips, join
from ldm_export.analyze.study import Study
from ldm_export.analyze.timing import time_in_turns
from ldm_export.analyze.workers import Bench, Speed
from ldm_export.plots import draw_lines, image_grid, to_png

OVERLAPS = (0, 1, 2, 4, 8, 16)  # rows of latents
STRIP_ROUNDS = 3  # of short work, for each round of a whole image
INVISIBLE = 1.0  # levels of 255, RMS beside a seam


def add_strips(findings: Findings, study: Study, bench: Bench, budget: WorkBudget) -> list[Speed]:
    """Compare images that are decoded in strips with whole ones, and time both."""
    overlaps = _possible(study, study.latents.shape[2], bench.workers)
    each = (1 + 1.5 * len(overlaps)) * budget.decoder
    latents = study.latents[: budget.runs("images in strips", study.scaled(16, 4), each, 0.1, 2)]
    if not overlaps:
        findings.sentences.append(
            f"Images are not decoded in strips: {latents.shape[2]} rows of latents are too few, or the decoder takes "
            "none so low."
        )
        return []
    strips = {overlap: cut(latents.shape[2], bench.workers, overlap) for overlap in overlaps}
    squares = _squares(study, bench, latents, strips)  # (overlaps, N, H)
    beside = beside_seams(strips[overlaps[0]], study.subject.contract.latent.downsample)
    found = {
        overlap: (_rms(squares[place][:, beside]), _rms(squares[place][:, ~beside]))
        for place, overlap in enumerate(overlaps)
    }
    enough = next((overlap for overlap, (near, _) in found.items() if near <= INVISIBLE), overlaps[-1])
    _add_difference(findings, study, bench, squares, overlaps, enough)
    findings.tables.append(_table(found, strips, latents.shape[2], len(latents)))
    findings.sentences.append(_sentence(found, enough, bench.workers, latents.shape[2]))
    _add_pictures(findings, bench, latents, squares, strips, enough)
    return [_speed(study, bench, latents[:1], strips[overlap], overlap) for overlap in sorted({overlaps[0], enough})]


def _possible(study: Study, rows: int, workers: int) -> tuple[int, ...]:
    """Return the overlaps that leave strips which the model takes and which are smaller than the image."""
    contract = study.subject.contract
    least, _ = contract.range_of(contract.sample.dims[2])
    if rows < 2 * workers:
        return ()
    heights = {overlap: [each.high - each.low for each in cut(rows, workers, overlap)] for overlap in OVERLAPS}
    return tuple(overlap for overlap, each in heights.items() if least <= min(each) and max(each) < rows)


def _squares(study: Study, bench: Bench, latents: np.ndarray, strips: dict[int, tuple[Strip, ...]]) -> np.ndarray:
    """Return the mean square of the difference from the whole image in each row of pixels, (overlaps, N, H), levels."""

    def compare() -> np.ndarray:
        progress = study.progress("images in strips", len(latents))
        squares = []
        for one in latents:
            whole = bench.pipe.decode_array(one[None])
            parts = [
                decode_strips(bench.pipe.decode_array, one[None], each, bench.pool.map) for each in strips.values()
            ]
            squares.append([np.square((part - whole) * 127.5, dtype=np.float64).mean(axis=(0, 1, 3)) for part in parts])
            progress.advance()
        return np.array(squares).swapaxes(0, 1)

    return study.kept(f"strips on {bench.workers}", compare)


def _rms(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean()))


def _speed(study: Study, bench: Bench, latents: np.ndarray, strips: tuple[Strip, ...], overlap: int) -> Speed:
    decode, rows = bench.pipe.decode_array, latents.shape[2]
    parts = [decode(np.ascontiguousarray(latents[:, :, each.low : each.high])) for each in strips]
    ways: dict[str, Callable[[], object]] = {
        "alone": partial(decode, latents),
        "together": partial(decode_strips, decode, latents, strips, bench.pool.map),
        "copies": lambda: join([part.copy() for part in parts], strips),
    }
    seconds = time_in_turns(ways, STRIP_ROUNDS * bench.rounds)
    compute, copies = statistics.median(seconds["alone"]), statistics.median(seconds["copies"])
    tallest = max(each.high - each.low for each in strips) / rows
    slowdown = bench.slowdown[study.subject.contract.codec.decoder.component].value
    name = f"decoding in {len(strips)} strips, overlap {overlap}"
    expected = compute * tallest * slowdown + copies
    return Speed(name, len(strips), compute, copies, expected, seconds["alone"], seconds["together"])


# --- What it says ---


def _add_difference(
    findings: Findings, study: Study, bench: Bench, squares: np.ndarray, overlaps: tuple[int, ...], enough: int
) -> None:
    for name, overlap in {"seams": overlaps[0], "overlapped": enough}.items():
        random = study.random(f"parallelism {name}")
        each = squares[overlaps.index(overlap)].mean(axis=1)
        found, interval = over_images(each, random, lambda part: float(np.sqrt(part.mean())))
        findings.figures.append(
            Figure.measured(
                name,
                f"Difference of images decoded in {bench.workers} strips, overlap {overlap}",
                found,
                "levels",
                "RMS over all pixels, of 255 levels, beside the same latents decoded whole",
                "It does not say whether the seam is seen: see the rows beside it.",
                interval,
            )
        )


def _table(found: dict[int, tuple[float, float]], strips: dict[int, tuple[Strip, ...]], rows: int, count: int) -> Table:
    lines: tuple[tuple[Cell, ...], ...] = tuple(
        (overlap, near, far, sum(each.high - each.low for each in strips[overlap]) / rows)
        for overlap, (near, far) in found.items()
    )
    return Table(
        "strips",
        "Images decoded in strips",
        ("overlap, rows of latents", "RMS beside a seam, levels", "RMS elsewhere, levels", "work, times the whole"),
        lines,
        f"{count} images in {len(strips[min(strips)])} strips beside the whole ones. Beside a seam: within one row of "
        "latents of it. Work: rows that are decoded over rows of the image.",
    )


def _sentence(found: dict[int, tuple[float, float]], enough: int, count: int, rows: int) -> str:
    first, last = min(found), max(found)
    near, far = found[first]
    text = (
        f"An image decoded in {count} strips differs from the whole by {near:.2g} levels (RMS, of 255) beside a seam "
        f"and by {far:.2g} elsewhere when strips do not overlap"
    )
    if enough > first and found[enough][0] <= INVISIBLE < near:
        text += (
            f"; with an overlap of {_rows(enough)} of latents by {found[enough][0]:.2g} beside it, less than a grey "
            f"level, for {1 + 2 * enough * (count - 1) / rows:.3g} times the work"
        )
    elif near > INVISIBLE and last > first:
        text += f"; no overlap up to {_rows(last)} of latents brings it below a grey level there"
    text += "."
    near, far = found[last]
    if far > INVISIBLE / 10 and far > found[first][1] / 10:
        text += (
            f" Overlap does not end the difference: with {_rows(last)} it is {far:.2g} levels away from the seam. What "
            "the decoder computes of the whole image, as normalisation and attention do, is another for a strip."
        )
    elif max(near, far) < 1e-3:
        text += f" With {_rows(last)} of overlap there is no difference: no pixel depends on latents further away."
    return text


def _rows(count: int) -> str:
    return "one row" if count == 1 else f"{count} rows"


def _add_pictures(
    findings: Findings,
    bench: Bench,
    latents: np.ndarray,
    squares: np.ndarray,
    strips: dict[int, tuple[Strip, ...]],
    enough: int,
) -> None:
    lines = {
        f"overlap {overlap}": [(row, float(value)) for row, value in enumerate(np.sqrt(squares[place].mean(axis=0)))]
        for place, overlap in enumerate(strips)
    }
    plot = draw_lines(lines, "row of pixels", "RMS difference, levels")
    caption = "Where strips differ from the whole image, by row of pixels and overlap in rows of latents."
    findings.pictures.append(Picture("seams", caption, to_png(plot)))
    shown = latents[int(np.argmax(squares[0].mean(axis=1)))][None]
    whole = bench.pipe.decode_array(shown)
    overlaps = sorted({min(strips), enough})
    parts = [decode_strips(bench.pipe.decode_array, shown, strips[each]) for each in overlaps]
    grid = np.concatenate([whole, *parts, *(4 * (part - whole) for part in parts)])
    captions = [
        "whole",
        *(f"overlap {each}" for each in overlaps),
        *(f"overlap {each}: difference" for each in overlaps),
    ]
    caption = (
        "The image that strips change most: whole, decoded in strips by their overlap in rows of latents, and four "
        "times the difference (grey: none)."
    )
    findings.pictures.append(Picture("strips", caption, to_png(image_grid(np.clip(grid, -1, 1), len(grid), captions))))
