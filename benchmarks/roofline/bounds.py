"""From measured rates to bounds: what Stable Diffusion 1.5's UNet and decoder take at least, as tables for people."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.roofline.shapes import Shape
from ldm_export.tables import markdown_table, spread

Seconds = Mapping[str, Mapping[str, Sequence[float]]]
"""Name of a way -> name of a shape -> of each round. A way that was refused has no shapes."""


@dataclass(frozen=True)
class Model:
    """A component at 512x512 pixels: 10^9 multiplications with addition, and the share of 3x3 convolutions in them."""

    name: str
    gmacs: float
    convolved: float


MODELS = (Model("UNet, batch 2", 2 * 402.0, 0.50), Model("decoder", 1257.0, 0.97))


@dataclass(frozen=True)
class Bound:
    """Seconds of a component. least: at the best rate of any layer. expected: at the median rates of its layers."""

    least: float
    expected: float


def rates(shape: Shape, seconds: Sequence[float]) -> list[float]:
    """Return GFLOPS (of eight bits: GOPS) of each round; a multiplication with addition counts as two."""
    return [2e-9 * shape.macs / each for each in seconds]


def bounds(shapes: Sequence[Shape], seconds: Mapping[str, Sequence[float]]) -> dict[str, Bound]:
    """Return the bound of each model by the rates of one way; seconds: shape -> of each round.

    Convolutions and products are two kinds; of a kind that was not measured the other's rate is taken.
    """
    medians = {shape: statistics.median(rates(shape, seconds[shape.name])) for shape in shapes if shape.name in seconds}
    if not medians:
        return {}
    kinds = {
        kind: [rate for shape, rate in medians.items() if shape.is_convolution is kind] or list(medians.values())
        for kind in (True, False)
    }
    convolutions, products = (statistics.median(kinds[kind]) for kind in (True, False))
    found = {}
    for model in MODELS:
        work = 2 * model.gmacs
        expected = work * (model.convolved / convolutions + (1 - model.convolved) / products)
        found[model.name] = Bound(work / max(medians.values()), expected)
    return found


def render(machine: str, threads: int, shapes: Sequence[Shape], seconds: Seconds, notes: Mapping[str, str]) -> str:
    """Render the tables. notes: way -> what it computed in, or why it did not run."""
    measured = [way for way in seconds if seconds[way]]
    rounds = max((len(each) for way in measured for each in seconds[way].values()), default=0)
    rows = [
        [shape.name, *(spread(rates(shape, seconds[way].get(shape.name, ())), form=".0f") for way in measured)]
        for shape in shapes
    ]
    found = {way: bounds(shapes, seconds[way]) for way in measured}
    limits = [[way, *(f"{each:.2f}" for model in MODELS for each in _both(found[way][model.name]))] for way in measured]
    head = ["", *(f"{model.name}, {what}, s" for model in MODELS for what in ("at least", "expected"))]
    return (
        "\n\n".join(
            [
                "# How fast this processor multiplies",
                f"{machine}; {threads} threads. GFLOPS, or GOPS where it multiplies in eight bits: the median of"
                f" {rounds} rounds, in which the ways took turns; smallest and largest in brackets.",
                markdown_table(["", *measured], rows, "<" + ">" * len(measured)),
                "What that makes of Stable Diffusion 1.5 at 512x512 pixels: seconds at the best rate of all layers,"
                " below which only less work leads, and at the median rates of its convolutions and products.",
                markdown_table(head, limits, "<" + ">" * (2 * len(MODELS))),
                "\n".join(f"- {way}: {note}" for way, note in notes.items()),
            ]
        )
        + "\n"
    )


def _both(bound: Bound) -> tuple[float, float]:
    return bound.least, bound.expected
