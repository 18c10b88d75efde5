"""Attention to the text: what each place of the UNet's feature maps attends to, whether that is where the object is.

Maps are of images of the folder, with noise of three levels, under their captions: there the object is known.
"""

import math
from itertools import pairwise

import numpy as np

from ldm_export.analyze.caption_tokens import CONCEPT
from ldm_export.analyze.findings import Figure, Findings, Table
from ldm_export.analyze.overlap import agreement
from ldm_export.analyze.sections.attention_cost import add_cost
from ldm_export.analyze.sections.attention_drawn import add_drawn
from ldm_export.analyze.sections.attention_images import (
    FEWEST,
    GROUPS,
    LEVELS,
    ImageMaps,
    measure_maps,
    record_layers,
    shown,
)
from ldm_export.analyze.sections.attention_overlap import add_overlap
from ldm_export.analyze.sections.work_budget import budget_of
from ldm_export.analyze.statistics import over_images
from ldm_export.analyze.study import Study

SHARE = 0.4  # of the budget, for the maps


def measure(study: Study) -> Findings:
    """Measure maps on images, draw some, and measure what it costs."""
    findings = Findings()
    layers = record_layers(study)
    sizes = sorted({layer.size for layer in layers}, key=math.prod, reverse=True)
    budget = budget_of(study)
    wanted = study.scaled(128, 16)
    count = budget.runs("images of the maps", wanted, LEVELS * budget.denoiser, SHARE, FEWEST)
    measured = measure_maps(study, sizes, count)
    _add_tokens(study, findings, measured)
    _add_agreement(study, findings, measured)
    add_overlap(study, findings, measured, budget)
    add_drawn(study, findings, measured.numbers, budget)
    add_cost(study, findings, layers, budget.denoiser)
    budget.add_cuts(findings)
    return findings


def _add_tokens(study: Study, findings: Findings, measured: ImageMaps) -> None:
    random, window = study.random("attention tokens"), study.subject.contract.window
    effective: dict[str, float] = {}
    shares: dict[str, np.ndarray] = {}
    for size, maps in measured.maps.items():
        means = maps.mean(axis=(1, 3, 4))  # (N, groups + 1)
        entropy, over = over_images(means[:, -1], random)
        words, _ = over_images(means[:, 1:3].sum(axis=1), random)
        levels = f"mean over heads, layers, places and {len(measured.levels)} noise levels"
        findings.figures += [
            Figure.measured(
                f"entropy_{shown(size)}",
                f"Entropy of the attention over tokens, {shown(size)}",
                entropy,
                "nats",
                f"softmax of queries and keys recomputed by torch, {levels}",
                f"If even it is {np.log(window):.2f}, ln {window}; 0 is one token alone. Of single heads.",
                over,
            ),
            Figure.measured(
                f"words_{shown(size)}",
                f"Share of the attention that the caption's own tokens get, {shown(size)}",
                words,
                "",
                f"the same shares, summed over the tokens of the caption, {levels}",
                "A token holds what the text encoder made of all before it: the end may stand for the whole caption.",
                over,
            ),
        ]
        effective[shown(size)], shares[shown(size)] = float(np.exp(entropy.value)), means[:, :-1].mean(axis=0)
    findings.tables.append(
        Table(
            "tokens",
            "What places attend to",
            ("feature map", "tokens, in effect", *GROUPS),
            tuple((name, effective[name], *map(float, shares[name])) for name in shares),
            f"Tokens in effect: e to the entropy. The other columns are shares of all attention; a window has {window} "
            "tokens.",
        )
    )
    finest, *others = shares
    said = f"A place of the {finest} feature map attends to {effective[finest]:.1f} of {window} tokens in effect"
    said += "".join(f", one of the {name} map to {effective[name]:.1f}" for name in others)
    begin, concept, rest, end = map(float, shares[finest])
    text = f"{said}. {concept + rest:.0%} of the finest map's attention goes to the caption's own tokens"
    most, where = max((begin, "the begin of the text"), (end, "the end and its padding"))
    if most > concept + rest:
        text += f", more ({most:.0%}) to {where}, which every caption has"
    findings.sentences.append(text + ".")


def _add_agreement(study: Study, findings: Findings, measured: ImageMaps) -> None:
    random, sizes = study.random("attention agreement"), list(measured.maps)
    concept = GROUPS.index(CONCEPT)
    found = []
    for fine, coarse in pairwise(sizes):
        pairs = zip(measured.maps[fine][:, :, concept], measured.maps[coarse][:, :, concept], strict=True)
        values = np.array([[agreement(*each) for each in zip(*pair, strict=True)] for pair in pairs]).mean(axis=1)
        values = values[np.isfinite(values)]
        title = f"Agreement of scales: maps of the {CONCEPT} of the caption, {shown(fine)} with {shown(coarse)}"
        estimator = "Pearson's correlation over places, the finer one averaged over the coarser one's cells"
        limits = "Of means over heads and layers. Detail that only the finer map has is left out."
        name = f"agreement_{shown(fine)}_{shown(coarse)}"
        if len(values) == 0:
            note = "One of the maps is even for all images."
            findings.figures.append(Figure(name, title, None, "", estimator, limits, note=note))
            continue
        interval, over = over_images(values, random)
        findings.figures.append(Figure.measured(name, title, interval, "", estimator, limits, over))
        said = "agree" if interval.low > 0.5 else "agree in part" if interval.low > 0 else "do not agree"
        found.append(f"{shown(fine)} and {shown(coarse)} {said} ({interval.value:.2f})")
    if found:
        findings.sentences.append(f"On where the {CONCEPT} of the caption belongs, feature maps of {'; '.join(found)}.")
