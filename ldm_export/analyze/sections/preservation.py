"""Preservation: which sizes of detail survive the way through the latents, and which labels can still be read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.frequency import Bands, band_powers, edge_correlation, share_kept
from ldm_export.analyze.sections.preservation_labels import add_labels
from ldm_export.analyze.statistics import Interval, bootstrap, over_resampled
from ldm_export.analyze.study import Study
from ldm_export.analyze.wording import counted
from ldm_export.plots import draw_lines, image_grid, to_png

WHOLE = 0.9  # share kept, from which on a band counts as kept
MARGIN = 0.1  # by which power may be above what is kept
NONE_SUCH = {"layout": "long", "texture": "short"}
FAINTEST = 1e-7  # mean square of detail in pixel units, far below a grey level
SHOWN = 6  # images
BLOCK = 16  # images at once


def measure(study: Study) -> Findings:
    """Compare images with their reconstructions band by band, and read labels from both and from the latents."""
    findings = Findings()
    _add_bands(findings, study)
    add_labels(findings, study)
    return findings


# --- Detail ---


@dataclass(frozen=True)
class Detail:
    """Detail in bands. powers: of the images, of their reconstructions and across, sums over images, (3, bands). kept:
    share of the images' power that the reconstructions explain. seen: the bands in which the images have any.
    """

    powers: np.ndarray
    kept: list[Interval]
    seen: np.ndarray

    @property
    def image(self) -> np.ndarray:
        """The power of the images, (bands,)."""
        return self.powers[0]

    @property
    def error(self) -> np.ndarray:
        """The power of the difference, (bands,)."""
        image, other, cross = self.powers
        return image + other - 2 * cross

    @property
    def gain(self) -> np.ndarray:
        """The power of the reconstructions over the images', (bands,)."""
        return self.powers[1] / np.maximum(self.image, 1e-30)


def _add_bands(findings: Findings, study: Study) -> None:
    bands = Bands.of(*study.pixels.shape[2:])
    powers = study.kept("band powers", lambda: _band_powers(study, bands))  # (N, 3, bands)
    detail = _detail(study, bands, powers)
    findings.tables.append(_bands_table(bands, detail, len(powers)))
    _add_levels(findings, study, powers, bands, detail.seen)
    if len(detail.seen) == 0:
        findings.sentences.append("The images have no detail: each is of one colour.")
        return
    cell = study.subject.contract.latent.downsample
    findings.sentences.append(bands_sentence(bands.names, detail, cell))
    findings.pictures += [_bands_plot(bands, detail, cell), _difference(study)]


def _detail(study: Study, bands: Bands, powers: np.ndarray) -> Detail:
    """powers: of an image, of its reconstruction, and across, (N, 3, bands)."""
    random = study.random("preservation bands")
    kept = [bootstrap(powers[..., band], random, share_kept, 400) for band in range(bands.count)]
    total = powers.sum(axis=0)
    seen = np.flatnonzero(total[0] > FAINTEST * study.pixels.size * study.pixels[0, 0].size)
    return Detail(total, kept, seen)


def _bands_table(bands: Bands, detail: Detail, count: int) -> Table:
    """count: of the images."""
    image, error, kept = detail.image, detail.error, detail.kept
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            float(image[band] / image.sum()),
            kept[band].value,
            kept[band].low,
            kept[band].high,
            float(detail.gain[band]),
            10 * math.log10(image[band] / max(error[band], 1e-9 * image[band])),
        )
        if band in detail.seen
        else (name, *[None] * 6)
        for band, name in enumerate(bands.names)
    )
    head = ("detail, pixels a cycle", "share of power", "kept", "low", "high", "power of the reconstruction", "SNR, dB")
    return Table(
        "bands",
        "Detail by its size",
        head,
        rows,
        "kept: share of the image's power in that band that the reconstruction explains (squared correlation after "
        f"a band-pass filter), {over_resampled(count)}. power of the reconstruction: over that of the "
        "image; below 1 it is smoothed. SNR: the image's power over that of the difference. Empty: "
        "images without such detail.",
    )


def _bands_plot(bands: Bands, detail: Detail, cell: int) -> Picture:
    lengths = 1 / np.sqrt(np.maximum(bands.edges[:-1], bands.edges[1] / 2) * bands.edges[1:])
    lines = {
        "kept": [(float(lengths[band]), detail.kept[band].value) for band in detail.seen],
        "power of the reconstruction": [(float(lengths[band]), float(detail.gain[band])) for band in detail.seen],
    }
    plot = draw_lines(lines, "size of detail, pixels a cycle", "share", log_x=True)
    caption = f"What is kept of detail, by its size. A latent cell is {counted(cell, 'pixel')} wide."
    return Picture("bands", caption, to_png(plot))


def _difference(study: Study) -> Picture:
    places = np.linspace(0, len(study.pixels) - 1, min(SHOWN, len(study.pixels))).astype(int)
    before, after = study.pixels[places], np.clip(study.reconstructions[places], -1, 1)
    shown = np.concatenate([before, after, np.clip(after - before, -1, 1)])
    caption = "Images, their reconstructions, and the difference, not enlarged (grey: none)."
    return Picture("difference", caption, to_png(image_grid(shown, len(places))))


def _band_powers(study: Study, bands: Bands) -> np.ndarray:
    """Return `band_powers` of all images and their reconstructions, of which few at once are cut to [-1, 1]."""
    parts = [slice(start, start + BLOCK) for start in range(0, len(study.pixels), BLOCK)]
    return np.concatenate(
        [band_powers(study.pixels[part], np.clip(study.reconstructions[part], -1, 1), bands) for part in parts]
    )


def _add_levels(findings: Findings, study: Study, powers: np.ndarray, bands: Bands, seen: np.ndarray) -> None:
    """Add what is kept of layout, shapes and texture."""
    random = study.random("preservation levels")
    cell, count = study.subject.contract.latent.downsample, len(powers)
    for name, (title, chosen) in detail_levels(bands, cell).items():
        estimator = "squared correlation of image and reconstruction after a filter for that detail"
        limits = "The outlines of objects are in it too." if name == "texture" else "The mean colour is left out."
        if not chosen[seen].any():
            note = "The images have no such detail." if chosen.any() else f"No octave is so {NONE_SUCH[name]}."
            findings.figures.append(Figure(name, title, None, "", estimator, limits, note=note))
            continue
        found = bootstrap(powers[..., chosen], random, share_kept, 400)
        findings.figures.append(Figure.measured(name, title, found, "", estimator, limits, over_resampled(count)))
    pairs = zip(study.pixels, study.reconstructions, strict=True)
    edges = study.kept(
        "edge correlations",
        lambda: np.array([edge_correlation(image, np.clip(other, -1, 1)) for image, other in pairs]),
    )
    with_edges = edges[np.isfinite(edges)]
    estimator = (
        "mean squared correlation of how strong edges are, image and reconstruction (Gaussian gradient, 1 pixel)"
    )
    limits = "Edges that are as strong and in the same place; direction and colour are left out."
    title = "Shape kept: edges"
    if len(with_edges) == 0:
        note = "No image has an edge, or no reconstruction has."
        findings.figures.append(Figure("shape", title, None, "", estimator, limits, note=note))
        return
    found = bootstrap(with_edges**2 * (with_edges > 0), random)
    findings.figures.append(
        Figure.measured("shape", title, found, "", estimator, limits, over_resampled(len(with_edges))),
    )


def detail_levels(bands: Bands, cell: int) -> dict[str, tuple[str, np.ndarray]]:
    """Return what layout and texture are called, and their octaves, bool (bands,), of cells of so many pixels.

    Layout is all detail of two cells a cycle and longer, texture that of a cell and shorter; where a cell is no power
    of two in pixels, they begin at the next octave, which the title names.
    """
    coarse, fine = bands.edges[1:] <= 1 / (2 * cell) + 1e-9, bands.edges[:-1] >= 1 / cell - 1e-9
    longest = 1 / bands.edges[1:][coarse].max() if coarse.any() else 2 * cell
    shortest = 1 / bands.edges[:-1][fine].min() if fine.any() else cell
    return {
        "layout": (f"Layout kept: detail longer than {counted(round(longest), 'pixel')} a cycle", coarse),
        "texture": (f"Texture kept: detail shorter than {counted(round(shortest), 'pixel')} a cycle", fine),
    }


def bands_sentence(names: Sequence[str], detail: Detail, cell: int) -> str:
    """Say which sizes of detail are not kept for sure, and whether they are smoothed or replaced.

    names: of the bands. cell: pixels of a latent cell.
    """
    kept = np.array([each.value for each in detail.kept])
    partly = [band for band in detail.seen if detail.kept[band].high < WHOLE]
    if not partly:
        least = float(kept[detail.seen].min())
        if all(detail.kept[band].low >= WHOLE for band in detail.seen):
            return f"Detail of every size is kept: {least:.0%} at least."
        return f"That detail of any size is lost these images do not tell: {least:.0%} at least is kept."
    *first, last = (names[band] for band in partly)
    listed = f"{', '.join(first)} and {last}" if first else last
    image, other, _ = detail.powers[:, partly].sum(axis=1)
    share, power = share_kept(detail.powers[None, :, partly]), float(other / image)  # weighted by the bands' power
    text = (
        f"Of detail of {listed} pixels a cycle {share:.0%} is kept (a latent cell is {counted(cell, 'pixel')} wide). "
        f"The reconstruction has {power:.0%} of the power there, "
    )
    if power <= share + MARGIN:
        return text + "about what it gets right: what it does not know it leaves out, which is blur."
    if power < 1 - MARGIN:
        return text + "less than the image, which is blur, and more than it gets right: some of what it has is made up."
    if power <= 1 + MARGIN:
        return text + "more than it gets right: some of its detail is made up."
    return text + "more than the image: it adds detail that is not there."
