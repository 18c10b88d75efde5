"""What the section on preservation says of labels: what a probe reads of them from latents, pixels and features."""

from collections import Counter

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
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
from ldm_export.plots import draw_bars, shortened, to_png

LONGEST_NAME = 60  # characters of a label's name that are shown: it may be any field of captions.jsonl


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


def add_labels(findings: Findings, study: Study) -> None:
    """Add what can be read of the images' labels, or say what it needs."""
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
    spans: dict[str, tuple[float, float]] = {}
    for name, places in readable.items():
        names, index = np.unique(np.array(levels[name])[places], return_inverse=True)
        random = study.random(f"labels {name}")
        values = {}
        for representation, gram in zip(REPRESENTATIONS, grams, strict=True):
            reading = read_labels(gram[np.ix_(places, places)], index, study.random(f"folds {name}"))
            samples = np.stack([index, reading.cross_entropy], axis=1)
            found = bootstrap(samples, random, information, 400)
            interval = (found.value, found.low, found.high)
            rows.append((shortened(name, LONGEST_NAME), len(names), representation, *interval, reading.correct.mean()))
            values[representation] = found
        bars |= {
            f"{name}: {representation}": {"share of the label's entropy that is read, at least": max(0.0, each.value)}
            for representation, each in values.items()
        }
        spans |= {
            f"{name}: {representation}": (max(0.0, each.low), max(0.0, each.high))
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
    caption = "Share of a label's entropy that a linear probe reads, at least, with 95 % by bootstrap."
    findings.pictures.append(Picture("labels", caption, to_png(draw_bars(bars, "", spans))))


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
