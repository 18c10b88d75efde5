"""What attention to the text costs on grids of latents and of pixels, beside the image's attention to itself."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import thread_time

import torch

from ldm_export.analyze.attention_maps import Layer, Size
from ldm_export.analyze.findings import Cell, Figure, Findings, Table
from ldm_export.analyze.sections.attention_images import shown
from ldm_export.analyze.statistics import Interval
from ldm_export.analyze.study import Study
from ldm_export.analyze.timing import Seconds, TimeBudget, cells, milliseconds, ratio_apart
from ldm_export.analyze.wording import times_as
from ldm_export.models.layers import Attention
from ldm_runtime.memory import available_memory

ROUNDS = 7  # of each timing
SECONDS = (90.0, 20.0)  # for all of them; the second: quick
TEXT, SELF = "text", "self"
SAID = {TEXT: "attention to the text", SELF: "the image's attention to itself"}
WORK_COPIES = 8  # of a layer's input, that it holds at once at the most


@dataclass
class Timings:
    """What one thread took for one layer of each resolution. seconds: (size, kind, on pixels) -> its rounds."""

    seconds: dict[tuple[Size, str, bool], Seconds] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def ratio(self, size: Size, kind: str) -> Interval | None:
        """Return how many times as long it takes on pixels; None: not both were timed."""
        latent, pixel = (self.seconds.get((size, kind, on_pixels), ()) for on_pixels in (False, True))
        return ratio_apart(pixel, latent) if latent and pixel else None


def add_cost(study: Study, findings: Findings, layers: Sequence[Layer], evaluation: float) -> None:
    """Time one layer of each resolution at its size, and at that which it would have on pixels.

    evaluation: multiply-accumulates of one of the denoiser.
    """
    area = study.subject.contract.latent.downsample**2
    by_size = {layer.size: layer for layer in layers}
    finest_first = sorted(by_size.values(), key=lambda layer: -math.prod(layer.size))
    timings = time_layers(study, finest_first, area)
    findings.tables.append(_times_table(finest_first, timings, area))
    findings.tables.append(_matrix_table(finest_first, area))
    share = sum(text_macs(layer, places_of(layer, 1)) for layer in layers) / evaluation
    _add_figures(findings, finest_first, timings, share, area)
    findings.sentences.append(cost_sentence(findings, share, area))
    if timings.left_out:
        budget = study.scaled(*SECONDS)
        findings.sentences.append(
            f"Not timed, for all layers have {budget:.0f} s together: {'; '.join(timings.left_out)}."
        )


def time_layers(study: Study, layers: Sequence[Layer], area: int) -> Timings:
    """Time what fits, the cheapest first."""
    budget, timings = TimeBudget(study.scaled(*SECONDS)), Timings()
    jobs = [(layer, kind, on_pixels) for layer in layers for kind in SAID for on_pixels in (False, True)]
    jobs.sort(key=lambda job: layer_macs(job[0], job[1], places_of(job[0], area if job[2] else 1)))
    progress = study.progress("attention: layers timed", len(jobs))
    with _one_thread():
        for layer, kind, on_pixels in jobs:
            places = places_of(layer, area if on_pixels else 1)
            reason = _time(budget, timings, (layer.size, kind, on_pixels), layer, places)
            if reason:
                timings.left_out.append(f"{SAID[kind]} with {places:,} positions ({reason})")
            progress.advance()
    return timings


def _time(budget: TimeBudget, timings: Timings, key: tuple[Size, str, bool], layer: Layer, places: int) -> str:
    """Time one layer; return why it does not fit, or ""."""
    kind, macs = key[1], layer_macs(layer, key[1], places)
    needed, free = 4 * WORK_COPIES * places * layer.module.to_q.in_features, available_memory()
    if free is not None and needed > free:
        return f"may need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available"
    if budget.expected(macs) > budget.left:
        return f"about {budget.expected(macs):.0f} s each"
    seconds = budget.time(_job(layer, kind, places), macs, ROUNDS, thread_time)
    timings.seconds[key] = seconds or ()
    return ""


def _job(layer: Layer, kind: str, places: int) -> Callable[[], object]:
    """Make the inputs of a layer's attention to the text, or of one of its kind to itself."""
    module, channels = layer.module, layer.module.to_q.in_features
    random = torch.Generator().manual_seed(0)
    x = torch.randn((1, places, channels), generator=random)
    if kind == TEXT:
        context = torch.randn((1, layer.tokens, module.to_k.in_features), generator=random)
        return lambda: module(x, context)
    twin = Attention(channels, heads=module.heads)
    return lambda: twin(x)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread, whose time on the processor is known: others who use it do not count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def places_of(layer: Layer, area: int) -> int:
    """Return the positions of a layer's feature map, where each is `area` of them."""
    return math.prod(layer.size) * area


def layer_macs(layer: Layer, kind: str, places: int) -> float:
    """Count the multiply-accumulates of a layer's attention to the text, or of one of its kind to itself."""
    if kind == TEXT:
        return text_macs(layer, places)
    channels = layer.module.to_q.in_features
    return float((2 * places + 4 * channels) * places * channels)


def text_macs(layer: Layer, places: int) -> float:
    """Count the multiply-accumulates of an attention to the text: its projections, and products of every place."""
    query, key = layer.module.to_q, layer.module.to_k
    width = query.out_features
    by_place = query.in_features * width + 2 * layer.tokens * width + width * layer.module.to_out[0].out_features  # type: ignore[operator]
    return float(places * by_place + 2 * layer.tokens * key.in_features * width)


# --- What it says ---


def _times_table(layers: Sequence[Layer], timings: Timings, area: int) -> Table:
    def row(layer: Layer, kind: str) -> tuple[Cell, ...]:
        times = [timings.seconds.get((layer.size, kind, on_pixels), ()) for on_pixels in (False, True)]
        found = timings.ratio(layer.size, kind)
        counted = layer_macs(layer, kind, places_of(layer, area)) / layer_macs(layer, kind, places_of(layer, 1))
        ratio = (None, None, None) if found is None else cells(found)
        shown_times = [each for seconds in times for each in milliseconds(seconds)]
        return (shown(layer.size), kind, places_of(layer, 1), *shown_times, *ratio, counted)

    head = ("feature map", "attention to", "positions", "ms", "fastest", "slowest")
    on_pixels = ("on pixels, ms", "pixels, fastest", "pixels, slowest", "ratio", "least", "most", "ratio of work")
    return Table(
        "cost",
        "One layer of attention on latents and on pixels",
        (*head, *on_pixels),
        tuple(row(layer, kind) for layer in layers for kind in SAID),
        f"By one thread of torch on this machine, its time on the processor, medians of at most {ROUNDS}, projections "
        f"included. On pixels: the same layer where the feature map has f² = {area:,} times as many positions. least "
        "and most: what any two of the times give. ratio of work: multiply-accumulates, counted. Empty: it did not "
        "fit the time or the memory.",
    )


def _matrix_table(layers: Sequence[Layer], area: int) -> Table:
    def row(layer: Layer) -> tuple[Cell, ...]:
        places = places_of(layer, 1)
        text = 4e-6 * layer.module.heads * places * layer.tokens
        itself = 4e-6 * layer.module.heads * places**2
        return (shown(layer.size), layer.module.heads, text, text * area, itself, itself * area**2)

    return Table(
        "matrix",
        "The matrix of all shares of attention, in MB of float32",
        ("feature map", "heads", "to the text", "to the text, pixels", "to itself", "to itself, pixels"),
        tuple(row(layer) for layer in layers),
        "Exact, from the shapes: positions times tokens, or positions times positions, for each head. Torch does not "
        "hold it at once; an engine without fused attention does.",
    )


def _add_figures(findings: Findings, layers: Sequence[Layer], timings: Timings, share: float, area: int) -> None:
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
    power = {TEXT: f"at most f² = {area:,}", SELF: f"between f² = {area:,} and f⁴ = {area**2:,}"}
    for kind in SAID:
        title = f"How many times as long {SAID[kind]} takes on a grid of pixels"
        limits = f"By the counts it is {power[kind]}; overhead makes it less, memory that caches do not hold more."
        found = next(((layer, each) for layer in layers if (each := timings.ratio(layer.size, kind))), None)
        if found is None:
            note = "No layer fitted the time and the memory on pixels."
            estimator = "ratio of one thread's times of one layer"
            findings.figures.append(Figure(f"cost_{kind}", title, None, "times", estimator, limits, note=note))
            continue
        layer, ratio = found
        estimator = f"ratio of medians of one thread's times of one layer, {shown(layer.size)}, the finest that fits"
        over = "least and most that any two of the times give"
        findings.figures.append(Figure.measured(f"cost_{kind}", title, ratio, "times", estimator, limits, over))


def cost_sentence(findings: Findings, share: float, area: int) -> str:
    """Say what attention costs, from the figures that there are."""
    text = f"Attention to the text is {share:.1%} of the work of an evaluation. "
    if area == 1:
        return text + "A cell of latents is one pixel (f = 1): on a grid of pixels attention is the same."
    to_text, to_self = findings.value("cost_text"), findings.value("cost_self")
    grows = f"its work grows with the positions, of which there are f² = {area:,} times as many"
    took = "" if to_text is None else f"On a grid of pixels it takes {times_as(to_text, 'long')}: "
    text += f"{took}{grows}. " if took else f"On a grid of pixels {grows}. "
    text += "The image's attention to itself grows with their square"
    text += ". " if to_self is None else f", and takes {times_as(to_self, 'long')}. "
    return text + "So attention to the text gains by latents what most layers do, and attention to itself gains more."
