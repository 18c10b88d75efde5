"""Preservation: which sizes of detail survive the way through the latents, and which labels can still be read."""

import math
from collections import Counter

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.frequency import Bands, band_powers, edge_correlation, share_kept
from ldm_export.analyze.pictures import Pictures
from ldm_export.analyze.probe import (
    FOLDS,
    LEAST_PER_LABEL,
    gram_matrix,
    information,
    read_labels,
    usable,
)
from ldm_export.analyze.statistics import Interval, bootstrap, over_resampled
from ldm_export.analyze.study import Study
from ldm_export.analyze.wording import counted
from ldm_export.plots import draw_bars, draw_lines, image_grid, shortened, to_png

WHOLE = 0.9  # share kept, from which on a band counts as kept
MARGIN = 0.1  # by which power may be above what is kept
NONE_SUCH = {"layout": "long", "texture": "short"}
LONGEST_NAME = 60  # characters of a label's name that are shown: it may be any field of captions.jsonl
FAINTEST = 1e-7  # mean square of detail in pixel units, far below a grey level
SHOWN = 6  # images
BLOCK = 16  # images at once


def measure(study: Study) -> Findings:
    """Compare images with their reconstructions band by band, and read labels from both and from the latents."""
    findings = Findings()
    _add_bands(findings, study)
    _add_labels(findings, study)
    return findings


# --- Detail ---


def _add_bands(findings: Findings, study: Study) -> None:
    images = study.pixels
    bands = Bands.of(*images.shape[2:])
    powers = study.kept("band powers", lambda: _band_powers(study, bands))  # (N, 3, bands)
    random = study.random("preservation bands")
    image, other, cross = powers.sum(axis=0)
    error = image + other - 2 * cross
    kept = [bootstrap(powers[..., band], random, share_kept, 400) for band in range(bands.count)]
    seen = np.flatnonzero(image > FAINTEST * images.size * images[0, 0].size)
    gain = other / np.maximum(image, 1e-30)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            float(image[band] / image.sum()),
            kept[band].value,
            kept[band].low,
            kept[band].high,
            float(gain[band]),
            10 * math.log10(image[band] / max(error[band], 1e-9 * image[band])),
        )
        if band in seen
        else (name, *[None] * 6)
        for band, name in enumerate(bands.names)
    )
    head = ("detail, pixels a cycle", "share of power", "kept", "low", "high", "power of the reconstruction", "SNR, dB")
    findings.tables.append(
        Table(
            "bands",
            "Detail by its size",
            head,
            rows,
            "kept: share of the image's power in that band that the reconstruction explains (squared correlation after "
            f"a band-pass filter), {over_resampled(len(images))}. power of the reconstruction: over that of the "
            "image; below 1 it is smoothed. SNR: the image's power over that of the difference. Empty: "
            "images without such detail.",
        )
    )
    _add_levels(findings, study, powers, bands, seen)
    if len(seen) == 0:
        findings.sentences.append("The images have no detail: each is of one colour.")
        return
    shares = np.array([each.value for each in kept])
    findings.sentences.append(_bands_sentence(study, bands, seen, shares, gain))
    lengths = 1 / np.sqrt(np.maximum(bands.edges[:-1], bands.edges[1] / 2) * bands.edges[1:])
    lines = {
        "kept": [(float(lengths[band]), float(shares[band])) for band in seen],
        "power of the reconstruction": [(float(lengths[band]), float(gain[band])) for band in seen],
    }
    plot = draw_lines(lines, "size of detail, pixels a cycle", "share", log_x=True)
    cell = study.subject.contract.latent.downsample
    caption = f"What is kept of detail, by its size. A latent cell is {counted(cell, 'pixel')} wide."
    findings.pictures.append(Picture("bands", caption, to_png(plot)))
    places = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int)
    before, after = images[places], np.clip(study.reconstructions[places], -1, 1)
    shown = np.concatenate([before, after, np.clip(after - before, -1, 1)])
    caption = "Images, their reconstructions, and the difference (grey: none)."
    findings.pictures.append(Picture("difference", caption, to_png(image_grid(shown, len(places)))))


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


def _bands_sentence(study: Study, bands: Bands, seen: np.ndarray, kept: np.ndarray, gain: np.ndarray) -> str:
    """Say which sizes of detail are not kept, and whether they are smoothed or replaced."""
    partly = seen[kept[seen] < WHOLE]
    if len(partly) == 0:
        return f"Detail of every size is kept: {kept[seen].min():.0%} at least."
    names = " and ".join(bands.names[band] for band in partly)
    share, power = float(kept[partly].mean()), float(gain[partly].mean())
    text = (
        f"Of detail of {names} pixels a cycle {share:.0%} is kept (a latent cell is "
        f"{counted(study.subject.contract.latent.downsample, 'pixel')} wide). The reconstruction has {power:.0%} of "
        "the power there, "
    )
    if power <= share + MARGIN:
        return text + "no more than it gets right: what it does not know it leaves out, which is blur."
    if power <= 1 + MARGIN:
        return text + "more than it gets right: some of its detail is made up."
    return text + "more than the image: it adds detail that is not there."


# --- Labels ---


def label_levels(pictures: Pictures) -> dict[str, tuple[str, ...]]:
    """Return level -> the label of each image; of levels that divide the images in the same way, the first."""
    found: dict[str, tuple[str, ...]] = {}
    seen: set[tuple[int, ...]] = set()
    for name, labels in {**pictures.parts(), **pictures.labels}.items():
        first = {label: place for place, label in reversed(list(enumerate(labels)))}
        division = tuple(first[label] for label in labels)
        if division not in seen:
            seen.add(division)
            found[name] = labels
    return found


def _add_labels(findings: Findings, study: Study) -> None:
    levels = label_levels(study.pictures)
    if not levels:
        findings.sentences.append(
            "What is kept of labels was not measured: it needs captions of several parts, all of as many, such as "
            '"red apple, 3d style", or further fields in captions.jsonl.'
        )
        return
    chosen = {name: usable(labels) for name, labels in levels.items()}
    for name, places in chosen.items():
        if len(places) == 0:
            findings.figures.append(_too_few(name, levels[name]))
    readable = {name: places for name, places in chosen.items() if len(places)}
    if readable:
        _read(findings, study, levels, readable)


def _too_few(name: str, labels: tuple[str, ...]) -> Figure:
    counts = Counter(labels)
    note = (
        f"Too few images: it needs {LEAST_PER_LABEL} of each of at least two labels; of {len(counts)} labels the most "
        f"frequent has {max(counts.values())}."
    )
    return Figure(f"label_{name}", _title(name), None, "", "held-out linear probe", "A lower bound.", note=note)


def _title(name: str) -> str:
    shown = shortened(name, LONGEST_NAME)
    return f"I({shown}; latents) / H({shown}): at least"


REPRESENTATIONS = ("latents", "pixels", "reconstructions", "features of images", "features of reconstructions")


def _read(
    findings: Findings, study: Study, levels: dict[str, tuple[str, ...]], readable: dict[str, np.ndarray]
) -> None:
    """Read every level from every representation, each by the same probe on the same folds."""
    grams = [
        study.kept(f"products of {name}", lambda points=points: gram_matrix(points()))  # type: ignore[misc]
        for name, points in zip(
            REPRESENTATIONS,
            (
                lambda: study.latents,
                lambda: study.pixels,
                lambda: study.reconstructions,
                lambda: study.features,
                lambda: study.reconstructed_features,
            ),
            strict=True,
        )
    ]
    rows: list[tuple[Cell, ...]] = []
    bars: dict[str, dict[str, float]] = {}
    for name, places in readable.items():
        names, index = np.unique(np.array(levels[name])[places], return_inverse=True)
        random = study.random(f"labels {name}")
        values = {}
        for representation, gram in zip(REPRESENTATIONS, grams, strict=True):
            reading = read_labels(gram[np.ix_(places, places)], index, study.random(f"folds {name}"))
            samples = np.stack([index, reading.cross_entropy], axis=1)
            found = bootstrap(samples, random, information, 400)
            rows.append(
                (
                    shortened(name, LONGEST_NAME),
                    len(names),
                    representation,
                    found.value,
                    found.low,
                    found.high,
                    reading.correct.mean(),
                )
            )
            values[representation] = found
        bars |= {
            f"{name}: {representation}": {"read, at least": max(0.0, each.value)}
            for representation, each in values.items()
        }
        findings.figures.append(_label_figure(name, values["latents"], len(places), len(names)))
        findings.sentences.append(
            label_sentence(name, len(names), *(values[REPRESENTATIONS[place]] for place in (0, 3, 4)))
        )
    head = ("level", "labels", "read from", "share of H(label), at least", "low", "high", "right")
    findings.tables.append(
        Table(
            "labels",
            "What can be read of labels",
            head,
            tuple(rows),
            f"{over_resampled(len(study.pictures))}, fewer where labels are rare. Pixels hold all that latents do, so "
            "less read from pixels means that it is harder to read there. Below 0 the probe says less than the labels' "
            "frequencies, and bounds nothing. right: share of images whose label the probe names.",
        )
    )
    if not any(share for parts in bars.values() for share in parts.values()):
        return
    caption = "Share of a label's entropy that a linear probe reads, at least."
    findings.pictures.append(Picture("labels", caption, to_png(draw_bars(bars, ""))))


def _label_figure(name: str, found: Interval, count: int, labels: int) -> Figure:
    estimator = (
        f"(H - cross-entropy) / H of a linear probe on the latents, {FOLDS} folds, {count} images of {labels} labels"
    )
    limits = (
        "What a linear map reads: a larger probe, or more images, may read more. An end below 0 says nothing. The "
        "interval is over held-out images, with the probes as they were fitted."
    )
    if found.value <= 0:
        note = (
            f"Not informative: the bound is {found.value:.2g}, below 0 ({found.low:.2g} to {found.high:.2g}). The "
            "probe reads nothing, which does not say that nothing is there."
        )
        return Figure(f"label_{name}", _title(name), None, "", estimator, limits, note=note)
    return Figure.measured(f"label_{name}", _title(name), found, "", estimator, limits, over_resampled(count))


def label_sentence(name: str, labels: int, latents: Interval, before: Interval, after: Interval) -> str:
    """Say what a probe reads of a label from latents, and from features of images and of reconstructions."""
    shown = shortened(name, LONGEST_NAME)
    text = f"{shown[:1].upper()}{shown[1:]} ({labels} labels): a probe reads {_read_share(latents)} from the latents "
    text += f"themselves. Through a network for features it reads {_read_share(before)} from images"
    if before.low <= 0:
        return f"{text}: with these images it cannot be told what is lost of it."
    text += f" and {_read_share(after)} from reconstructions"
    if after.low <= before.value <= after.high or before.low <= after.value <= before.high:
        return f"{text}: no loss that these images can tell."
    if after.value > before.value:
        return f"{text}: more, for what the autoencoder leaves out was in the way of the probe."
    return f"{text}: {1 - max(after.value, 0.0) / before.value:.0%} of what can be read is lost on the way."


def _read_share(found: Interval) -> str:
    """Write a share that is a lower bound, or that it says nothing."""
    if found.low > 0:
        return f"{found.value:.0%} of it"
    return "nothing" if found.value <= 0 else "nothing for sure"
