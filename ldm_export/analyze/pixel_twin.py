"""The denoiser and its twin on pixels, counted and measured: the same network, but for the channels at its ends.

The twin has the same widths, blocks and levels of attention; where the denoiser takes and gives the latents' channels,
it takes and gives three, and a mask stays a mask. Weights are random: time and memory do not depend on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ldm_export.analyze.component_inputs import axis_sizes, count_component, input_shape
from ldm_export.analyze.graph_cost import Cost
from ldm_export.analyze.statistics import Interval
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import Subject
from ldm_export.analyze.timing import Seconds, TimeBudget, ratio_apart
from ldm_export.families.family import Part
from ldm_export.families.spec import ComponentSpec
from ldm_export.process.isolate import run_isolated
from ldm_export.process.peak_memory import peak_memory
from ldm_runtime.memory import available_memory

PIXEL_CHANNELS = 3
PROCESS_BYTES = 500_000_000  # of a process that has imported torch
PROCESS_SECONDS, WEIGHT_SECONDS = 5.0, 1e-8  # until a process is there, and to make a random weight

Cells = tuple[int, int]  # height and width of the latents


@dataclass(frozen=True)
class Network:
    """A denoiser of some config, which another process can make."""

    part: Part
    config: Any
    spec: ComponentSpec

    def make(self) -> nn.Module:
        """Return the part, with random weights."""
        return self.part.make(self.config)

    def count(self, sizes: Mapping[str, int]) -> Cost:
        with torch.device("meta"):
            model = self.make()
        return count_component(self.spec, model, sizes)


@dataclass(frozen=True)
class Job:
    """A size at which a network is measured, and what an evaluation costs there."""

    sizes: Mapping[str, int]
    cost: Cost


@dataclass(frozen=True)
class Side:
    """One of both networks at one size. added: bytes that evaluations took; None: this system does not tell."""

    seconds: Seconds
    added: int | None


@dataclass(frozen=True)
class Pair:
    """Both networks for an image of one size, counted; and measured, where that fitted."""

    width: int  # pixels
    height: int
    latent: Cost
    pixel: Cost
    measured: tuple[Side, Side] | None = None

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def work(self) -> float:
        """Return the ratio of multiply-accumulates, pixels to latents."""
        return self.pixel.total / self.latent.total

    @property
    def speedup(self) -> Interval:
        """Return the ratio of the medians, pixels to latents, and the least and most that any two rounds give."""
        assert self.measured is not None
        latent, pixel = self.measured
        return ratio_apart(pixel.seconds, latent.seconds)


def twins(subject: Subject) -> tuple[Network, Network]:
    """Return the denoiser, and its twin on pixels."""
    checkpoint, contract = subject.checkpoint, subject.contract
    name = contract.denoiser.component
    spec, concat = checkpoint.specs[name], contract.concat
    config = checkpoint.configs[spec.part]
    images = 1 + concat.count("masked_latents")
    channels = config.in_channels + images * (PIXEL_CHANNELS - contract.latent.channels)
    twin = replace(config, in_channels=channels, out_channels=PIXEL_CHANNELS)
    specs = checkpoint.family.specs({**checkpoint.configs, spec.part: twin})
    part = checkpoint.family.parts[spec.part]
    return Network(part, config, spec), Network(part, twin, specs[name])


def sizes_up_to(cells: Cells) -> list[Cells]:
    """Return these cells halved again and again, down to one along a side; the smallest first."""
    height, width = cells
    found = [cells]
    while min(height, width) > 1:
        height, width = -(-height // 2), -(-width // 2)
        found.append((height, width))
    return found[::-1]


def count_pairs(subject: Subject, networks: tuple[Network, Network]) -> list[Pair]:
    """Count both networks at sizes up to the model's, the smallest first."""
    width, height = subject.size
    cell = subject.contract.latent.downsample
    found = []
    for rows, columns in sizes_up_to((height // cell, width // cell)):
        size = (columns * cell, rows * cell)
        latent = networks[0].count(axis_sizes(subject, (rows, columns)))
        pixel = networks[1].count(axis_sizes(subject, size[::-1]))
        found.append(Pair(*size, latent, pixel))
    return found


def measure_pairs(
    study: Study, networks: tuple[Network, Network], pairs: list[Pair], budget: TimeBudget, rounds: int
) -> tuple[list[Pair], str]:
    """Time both networks at the sizes that fit the budget and memory; also say in a sentence what was left out, or "".

    Each is measured in a process of its own, all its sizes in turn, and the one on latents first.
    """
    cell, subject = study.subject.contract.latent.downsample, study.subject
    latents = [Job(axis_sizes(subject, (pair.height // cell, pair.width // cell)), pair.latent) for pair in pairs]
    study.say(f"compression: the UNet on latents, timed up to {pairs[-1].size} pixels")
    first, reason = _measure(networks[0], latents, budget, rounds, budget.seconds / 2)
    reason = f"on latents {reason}"
    pixels = [Job(axis_sizes(subject, (pair.height, pair.width)), pair.pixel) for pair in pairs[: len(first)]]
    second: list[Side] = []
    if pixels:
        study.say(f"compression: the UNet on pixels, timed up to {pairs[len(first) - 1].size} if that fits")
        second, why = _measure(networks[1], pixels, budget, rounds, budget.left)
        reason = f"on pixels {why}" if why else reason
    found = [replace(pairs[place], measured=(first[place], side)) for place, side in enumerate(second)]
    if len(found) == len(pairs):
        return found, ""
    left_out = pairs[len(found) :]
    return [*found, *left_out], f"Sizes from {left_out[0].size} on are counted, and not measured: {reason}."


def _measure(network: Network, jobs: list[Job], budget: TimeBudget, rounds: int, most: float) -> tuple[list[Side], str]:
    """Time a network in a process of its own, for so many seconds at most, and say what stopped it."""
    overhead = PROCESS_SECONDS + WEIGHT_SECONDS * jobs[0].cost.parameters
    own = replace(budget, seconds=most - overhead, spent=0.0)
    reason = _why_not(jobs[0].cost, own)
    if reason:
        return [], reason
    outcome = run_isolated(time_network, network, jobs, rounds, own)
    budget.spent += outcome.seconds
    sides, reason, budget.pace = outcome.value
    return sides, reason


def _why_not(cost: Cost, budget: TimeBudget) -> str:
    """Return why an evaluation does not fit, or ""."""
    seconds = budget.expected(cost.total)
    if seconds > budget.left:
        return f"an evaluation would take about {seconds:.2g} s, and {max(0.0, budget.left):.2g} s are left for it"
    needed, free = cost.memory + PROCESS_BYTES, available_memory()
    if free is not None and needed > free:
        return f"an evaluation may need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are available"
    return ""


def time_network(network: Network, jobs: list[Job], rounds: int, budget: TimeBudget) -> tuple[list[Side], str, float]:
    """Time a network with random weights in this process; also return what stopped it, or "", and its pace."""
    torch.manual_seed(0)
    model = network.spec.wrap(network.make())
    sides: list[Side] = []
    with torch.inference_mode(), peak_memory() as added:
        for job in jobs:
            reason = _why_not(replace(job.cost, parameters=0) if sides else job.cost, budget)
            if reason:
                return sides, reason, budget.pace
            inputs = [torch.rand(input_shape(each, job.sizes)) for each in network.spec.inputs]
            with peak_memory():  # the largest so far is forgotten; what is added counts from the first on
                seconds = budget.time(lambda inputs=inputs: model(*inputs), job.cost.total, rounds)  # type: ignore[misc]
                assert seconds is not None, "it was asked whether it fits"
                sides.append(Side(seconds, added()))
    return sides, "", budget.pace
