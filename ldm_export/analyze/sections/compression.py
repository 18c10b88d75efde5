"""Compression: how much smaller latents are than images, what each component costs, and what a UNet on pixels would.

The twin on pixels has the same widths, blocks and levels of attention; only its first and last convolution take three
channels. Its weights are random: time and memory do not depend on them.
"""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.graph_cost import KINDS, Cost, count_cost
from ldm_export.analyze.statistics import spread
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import Subject, input_shape
from ldm_export.plots import draw_lines, to_png
from ldm_export.process.isolate import run_isolated
from ldm_export.process.peak_memory import peak_memory
from ldm_runtime.package.manifest import TensorSpec

ROUNDS = 7  # of each timing
LARGEST_MACS = {False: 60e9, True: 8e9}  # of one evaluation of the twin that is measured; quick: True
LARGEST_PEAK = 2 << 30  # bytes of activations
SIDES = (1, 2, 4, 8, 16, 32, 64)  # latent cells along a side


@dataclass(frozen=True)
class _Pair:
    """One size of image, on both sides: counted and measured."""

    side: int  # pixels
    latent: Cost
    pixel: Cost
    latent_seconds: tuple[float, ...]
    pixel_seconds: tuple[float, ...]
    latent_bytes: int | None  # None: this system does not tell
    pixel_bytes: int | None

    @property
    def speedup(self) -> float:
        return statistics.median(self.pixel_seconds) / statistics.median(self.latent_seconds)


def measure(study: Study) -> Findings:
    """Count every component, and measure the UNet beside its twin on pixels."""
    subject = study.subject
    space, (width, height) = subject.contract.latent, subject.size
    cells = (height // space.downsample) * (width // space.downsample)
    area = space.downsample**2
    ratio = 3 * height * width / (cells * space.channels)
    findings = Findings()
    findings.figures += [
        _exact("ratio", "Compression ratio r: numbers of the image to numbers of its latents", ratio, ""),
        _exact("downsample", "Pixels of a latent cell along a side, f", space.downsample, "pixels"),
        _exact("numbers", "Numbers of the latents, h·w·c", cells * space.channels, ""),
    ]
    costs = component_costs(subject)
    seconds = {name: _engine_seconds(study, name) for name in costs}
    findings.tables.append(_components_table(costs, seconds))
    pairs = _pairs(study)
    findings.tables.append(_pairs_table(pairs, ratio, area))
    _add_speedup(findings, pairs, ratio, area)
    _add_total(findings, subject, costs, seconds, pairs[-1])
    findings.pictures.append(_plot(pairs, area))
    return findings


def component_costs(subject: Subject) -> dict[str, Cost]:
    """Count one evaluation of each component for one image of the model's size, by component."""
    return {
        name: count_cost(
            spec.wrap(subject.checkpoint.empty(spec.part)), *(_input(subject, each) for each in spec.inputs)
        )
        for name, spec in subject.checkpoint.specs.items()
    }


def _input(subject: Subject, spec: TensorSpec) -> torch.Tensor:
    """Make an input of a component for one image of the model's size, with numbers that do not matter."""
    return torch.zeros(input_shape(subject, spec), dtype=getattr(torch, spec.dtype))


def _engine_seconds(study: Study, name: str) -> tuple[float, ...]:
    """Time a component on the engine that draws with it."""
    subject = study.subject
    feeds = {
        each.name: np.zeros(input_shape(subject, each), each.dtype) for each in subject.checkpoint.specs[name].inputs
    }
    engine = subject.pipe.component(name)
    engine.run(feeds)
    return tuple(_seconds(lambda: engine.run(feeds)) for _ in range(ROUNDS))


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- The twin on pixels ---


def _pairs(study: Study) -> list[_Pair]:
    """Measure both networks at sizes that fit, from the smallest."""
    subject = study.subject
    part = subject.checkpoint.specs[subject.contract.denoiser.component].part
    config, cell = subject.checkpoint.configs[part], subject.contract.latent.downsample
    twin = replace(config, in_channels=3, out_channels=3)
    make = subject.checkpoint.family.parts[part].model
    found: list[_Pair] = []
    for side in SIDES:
        with torch.device("meta"):
            networks = [make(config), make(twin)]
        shapes = [_shapes(subject, config, side), _shapes(subject, twin, side * cell)]
        latent, pixel = (count_cost(network, *each) for network, each in zip(networks, shapes, strict=True))
        if found and (pixel.total > LARGEST_MACS[study.quick] or pixel.peak > LARGEST_PEAK):
            break
        study.say(f"compression: {side * cell}x{side * cell} pixels, a UNet on latents and one on pixels")
        measured = [
            run_isolated(time_network, make, each, shape).value
            for each, shape in zip((config, twin), shapes, strict=True)
        ]
        (latent_seconds, latent_bytes), (pixel_seconds, pixel_bytes) = measured
        found.append(_Pair(side * cell, latent, pixel, latent_seconds, pixel_seconds, latent_bytes, pixel_bytes))
    return found


def _shapes(subject: Subject, config: Any, side: int) -> tuple[tuple[int, ...], ...]:
    return ((1, config.in_channels, side, side), (), (1, subject.contract.window, config.cross_attention_dim))


def time_network(
    make: type[nn.Module], config: Any, shapes: tuple[tuple[int, ...], ...]
) -> tuple[tuple[float, ...], int | None]:
    """Time a network with random weights in this process; return seconds, and the bytes that evaluations added."""
    torch.manual_seed(0)
    network = make(config).eval()
    inputs = [torch.rand(shape) for shape in shapes]
    with torch.inference_mode(), peak_memory() as added:
        network(*inputs)
        seconds = tuple(_seconds(lambda: network(*inputs)) for _ in range(ROUNDS))
    return seconds, added()


# --- What it says ---


def _exact(name: str, title: str, value: float, unit: str) -> Figure:
    return Figure(name, title, value, unit, "from the model's configuration, exact", "It says nothing of quality.")


def _components_table(costs: Mapping[str, Cost], seconds: Mapping[str, tuple[float, ...]]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            cost.parameters / 1e6,
            cost.total / 1e9,
            *(cost.macs[kind] / 1e9 for kind in KINDS),
            cost.peak / 1e6,
            statistics.median(seconds[name]) * 1e3,
        )
        for name, cost in costs.items()
    )
    head = ("component", "weights, million", "GMAC", *(f"{kind}, GMAC" for kind in KINDS), "activations, MB", "ms")
    return Table(
        "components",
        "One evaluation of each component, for one image",
        head,
        rows,
        "Counted from the graph: attention is the products of queries, keys and values, which grow with the square of "
        "the cells; the rest grows with the cells. Activations are the most that live at once in float32. ms: the "
        f"median of {ROUNDS} evaluations on the engine that draws.",
    )


def _pairs_table(pairs: list[_Pair], ratio: float, area: float) -> Table:
    rows = tuple(
        (
            f"{pair.side}x{pair.side}",
            pair.latent.total / 1e9,
            pair.pixel.total / 1e9,
            pair.pixel.total / pair.latent.total,
            statistics.median(pair.latent_seconds) * 1e3,
            statistics.median(pair.pixel_seconds) * 1e3,
            pair.speedup,
            None if pair.latent_bytes is None else pair.latent_bytes / 1e6,
            None if pair.pixel_bytes is None else pair.pixel_bytes / 1e6,
        )
        for pair in pairs
    )
    head = (
        "image",
        "latent GMAC",
        "pixel GMAC",
        "ratio of GMAC",
        "latent ms",
        "pixel ms",
        "speed-up",
        "latent MB",
        "pixel MB",
    )
    return Table(
        "twin",
        "The UNet beside its twin on pixels",
        head,
        rows,
        f"Both by torch in a process of its own, the median of {ROUNDS}. MB: what the evaluations added to the largest "
        f"resident set. For comparison: f² is {area:g}, r {ratio:g}, r² {ratio**2:g}.",
    )


def _add_speedup(findings: Findings, pairs: list[_Pair], ratio: float, area: float) -> None:
    last = pairs[-1]
    seconds = [pixel / latent for pixel, latent in zip(last.pixel_seconds, last.latent_seconds, strict=True)]
    interval = spread(np.array(seconds))
    findings.figures.append(
        Figure(
            "speedup",
            f"Speed-up of an evaluation on latents over one on pixels, {last.side}x{last.side}",
            last.speedup,
            "times",
            f"ratio of medians of {ROUNDS} evaluations of either, by torch on this machine",
            "Other machines and engines have another one; its growth with size is that of the counts.",
            interval.low,
            interval.high,
            f"smallest and largest ratio of {ROUNDS} pairs",
        )
    )
    findings.figures.append(
        Figure(
            "work_ratio",
            f"Ratio of multiply-accumulates, pixels to latents, {last.side}x{last.side}",
            last.pixel.total / last.latent.total,
            "times",
            "counted operator by operator from the shapes",
            "Memory traffic and overhead are not in it.",
            interval="exact",
        )
    )
    shares = {kind: last.pixel.macs[kind] / last.pixel.total for kind in KINDS}
    findings.sentences.append(
        f"An evaluation of the UNet does {last.pixel.total / last.latent.total:.3g} times less work on latents than "
        f"its twin does on pixels at {last.side}x{last.side}, and is {last.speedup:.3g} times as fast. Neither "
        f"r = {ratio:g} nor r² = {ratio**2:g} is the law: r counts channels, which cost next to nothing, for only the "
        "first and the last convolution see them. Convolutions and projections grow with the pixels, so their part of "
        f"the speed-up is f² = {area:g}; attention over pixels grows with their square, so its part is "
        f"f⁴ = {area**2:g}. At this size attention is {shares['attention']:.1%} of the twin's work."
    )


def _add_total(
    findings: Findings,
    subject: Subject,
    costs: Mapping[str, Cost],
    seconds: Mapping[str, tuple[float, ...]],
    last: _Pair,
) -> None:
    role, steps = subject.contract, subject.contract.defaults.steps
    encode, decode = costs[role.codec.encoder.component].total, costs[role.codec.decoder.component].total
    unet = costs[role.denoiser.component].total
    both = 2 if role.evaluates_negative(role.defaults.guidance) else 1
    total = decode + both * steps * unet
    findings.figures.append(
        Figure(
            "total",
            f"Work of one image: {steps} steps{' with guidance' if both == 2 else ''}, then the decoder",
            total / 1e9,
            "GMAC",
            "counted from the shapes",
            "The text encoder, a few thousandths, is left out.",
            interval="exact",
        )
    )
    findings.figures.append(
        Figure(
            "codec_share",
            "Share of the autoencoder's decoder in that work",
            decode / total,
            "",
            "counted from the shapes",
            "In time the share is another one: see the table of components.",
            interval="exact",
        )
    )
    scale = (subject.size[0] / last.side) * (subject.size[1] / last.side)
    pixel_unet = last.pixel.total * scale  # at least: attention grows faster
    saved = both * (pixel_unet - unet)
    findings.figures.append(
        Figure(
            "break_even",
            "Steps from which on the latent model does less work, with encoder and decoder",
            (encode + decode) / saved if saved > 0 else None,
            "steps",
            f"(encoder + decoder) / ({both} x (UNet on pixels - UNet on latents)), counted; the UNet on pixels is "
            f"taken from {last.side}x{last.side} by its pixels",
            "An upper bound where attention runs at full size on pixels.",
            interval="exact",
            note="" if saved > 0 else "The latent model never does less work.",
        )
    )


def _plot(pairs: list[_Pair], area: float) -> Picture:
    lines = {
        "work, counted": [(pair.side, pair.pixel.total / pair.latent.total) for pair in pairs],
        "time, measured": [(pair.side, pair.speedup) for pair in pairs],
        "f²": [(pair.side, area) for pair in pairs],
    }
    image = draw_lines(lines, "side of the image in pixels", "pixels to latents", log=True)
    return Picture("speedup", "The UNet on pixels over the UNet on latents, by the size of the image.", to_png(image))
