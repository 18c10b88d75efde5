"""What attention to the text costs on grids of latents and of pixels, beside the image's attention to itself."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ldm_export.analyze.attention_maps import Layer
from ldm_export.analyze.findings import Cell, Figure, Findings, Table
from ldm_export.analyze.graph_cost import count_cost
from ldm_export.analyze.statistics import spread
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import input_shape
from ldm_export.models.layers import Attention

ROUNDS = 7  # of each timing
LARGEST_MACS = {False: 20e9, True: 8e9}  # of a layer that is measured; quick: True


def add_cost(study: Study, findings: Findings, layers: Sequence[Layer]) -> None:
    """Time one layer of each resolution at its size, and at that which it would have on pixels."""
    area, most = study.subject.contract.latent.downsample**2, LARGEST_MACS[study.quick]
    rows: list[tuple[Cell, ...]] = []
    ratios: dict[str, list[np.ndarray]] = {"text": [], "self": []}
    by_size = {layer.size: layer for layer in layers}
    finest_first = sorted(by_size.values(), key=lambda layer: -math.prod(layer.size))
    progress = study.progress("attention: layers timed", len(finest_first))
    for layer in finest_first:
        places = layer.size[0] * layer.size[1]
        seconds = {
            (kind, count): _seconds(layer, kind, count, most) for kind in ratios for count in (places, places * area)
        }
        for kind, found in ratios.items():
            latent, pixel = (seconds[kind, count] for count in (places, places * area))
            if latent is not None and pixel is not None:
                found.append(np.array(pixel) / np.array(latent))
        milliseconds = {each: statistics.median(found) * 1e3 if found else None for each, found in seconds.items()}
        row: list[Cell] = [f"{layer.size[0]}x{layer.size[1]}", places, places * area]
        for kind in ratios:
            latent_ms, pixel_ms = milliseconds[kind, places], milliseconds[kind, places * area]
            ratio = None if latent_ms is None or pixel_ms is None else pixel_ms / latent_ms
            row += [latent_ms, pixel_ms, ratio]
        matrix = 4 * layer.module.heads * places * layer.tokens / 1e6
        rows.append((*row, matrix, matrix * area))
        progress.advance()
    findings.tables.append(
        Table(
            "cost",
            "One layer of attention on latents and on pixels",
            (
                "feature map",
                "places",
                "on pixels",
                "text, ms",
                "on pixels, ms",
                "ratio",
                "self, ms",
                "on pixels, ms ",
                "ratio ",
                "matrix to text, MB",
                "on pixels, MB",
            ),
            tuple(rows),
            f"By one thread of torch on this machine, the median of {ROUNDS}, projections included. On pixels: the "
            f"same layer where the feature map has f² = {area:g} times as many places. Empty: more than "
            f"{most / 1e9:g} GMAC. Matrix: "
            "all shares of all heads in float32, which torch does not hold at once.",
        )
    )
    _add_figures(study, findings, layers, ratios, area)


def _seconds(layer: Layer, kind: str, places: int, most: float) -> list[float] | None:
    """Time a layer's attention to the text, or one of its kind to itself, at a number of places; None: too much."""
    module, channels = layer.module, layer.module.to_q.in_features
    keys = layer.tokens if kind == "text" else places
    if text_macs(layer, places) > most or (2 * places * keys + 4 * places * channels) * channels > most:
        return None
    random = torch.Generator().manual_seed(0)
    x = torch.randn((1, places, channels), generator=random)
    if kind == "text":
        context = torch.randn((1, layer.tokens, module.to_k.in_features), generator=random)
        return _timed(lambda: module(x, context))
    twin = Attention(channels, heads=module.heads)
    return _timed(lambda: twin(x))


def _timed(work: Callable[[], object]) -> list[float]:
    """Return seconds of one thread on the processor, several times: others who use it do not count."""
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            work()
            for _ in range(ROUNDS):
                started = time.thread_time()
                work()
                found.append(time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return found


def text_macs(layer: Layer, places: int) -> float:
    """Count the multiply-accumulates of an attention to the text: its projections, and products of every place."""
    query, key = layer.module.to_q, layer.module.to_k
    width = query.out_features
    by_place = query.in_features * width + 2 * layer.tokens * width + width * layer.module.to_out[0].out_features  # type: ignore[operator]
    return float(places * by_place + 2 * layer.tokens * key.in_features * width)


def _add_figures(
    study: Study, findings: Findings, layers: Sequence[Layer], ratios: dict[str, list[np.ndarray]], area: float
) -> None:
    subject = study.subject
    spec = subject.checkpoint.specs[subject.contract.denoiser.component]
    inputs = [torch.zeros(input_shape(subject, each), dtype=getattr(torch, each.dtype)) for each in spec.inputs]
    total = count_cost(spec.wrap(subject.checkpoint.empty(spec.part)), *inputs).total
    share = sum(text_macs(layer, layer.size[0] * layer.size[1]) for layer in layers) / total
    findings.figures.append(
        Figure(
            "cost_share",
            "Share of attention to the text in the work of an evaluation of the denoiser",
            share,
            "",
            "multiply-accumulates of its projections and products, counted from the shapes",
            "In time the share is another one.",
            interval="exact",
        )
    )
    titles = {"text": "attention to the text", "self": "the image's attention to itself"}
    power = {"text": f"f² = {area:g}", "self": f"between f² = {area:g} and f⁴ = {area**2:g}"}
    for kind, found in ratios.items():
        title = f"How much longer {titles[kind]} takes on a grid of pixels"
        estimator = f"ratio of one thread's times of one layer, {ROUNDS} pairs, the finest feature map that fits"
        limits = f"By the counts it is {power[kind]}; overhead makes it less, memory that caches do not hold more."
        if not found:
            note = "On pixels no layer is small enough to be measured."
            findings.figures.append(Figure(f"cost_{kind}", title, None, "times", estimator, limits, note=note))
            continue
        ratio, over = spread(found[0]), f"smallest and largest ratio of {ROUNDS} pairs"
        findings.figures.append(Figure.measured(f"cost_{kind}", title, ratio, "times", estimator, limits, over))
    findings.sentences.append(_sentence(findings, share, area))


def _sentence(findings: Findings, share: float, area: float) -> str:
    text = f"Attention to the text is {share:.1%} of the work of an evaluation. "
    to_text, to_self = findings.value("cost_text"), findings.value("cost_self")
    if to_text is not None:
        text += (
            f"On a grid of pixels it takes {to_text:.0f} times as long: its work grows with the places, f² = {area:g}. "
        )
    if to_self is not None:
        text += f"That of the image to itself grows with their square, and takes {to_self:.0f} times as long. "
    return text + "So attention to the text saves by latents what all layers do; attention to itself saves more."
