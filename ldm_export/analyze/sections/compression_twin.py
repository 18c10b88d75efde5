"""The part of section compression about the UNet beside its twin on pixels: counts, times, and the law they follow."""

import math
from typing import Any

from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.graph_cost import CROSS, SELF, Cost
from ldm_export.analyze.pixel_twin import Pair, Side
from ldm_export.analyze.subject import Subject
from ldm_export.analyze.timing import cells, milliseconds
from ldm_export.analyze.wording import times_as
from ldm_export.plots import draw_lines, to_png

GROWING = ("convolution", "linear", CROSS)  # with the positions
FAR = 0.2  # relative difference from which on time and work are said to differ


def add_twin(findings: Findings, subject: Subject, pairs: list[Pair], ratio: float) -> None:
    """Say what the counts and times of both are. pairs: the smallest first, the last of the model's size."""
    cell, channels, own = subject.contract.latent.downsample, subject.contract.latent.channels, pairs[-1]
    findings.tables += [_counts_table(pairs, ratio, cell), _laws_table(own, cell)]
    findings.figures += [_work_figure(own), _activations_figure(own)]
    findings.sentences.append(law_sentence(own, cell, channels, ratio))
    measured = [pair for pair in pairs if pair.measured is not None]
    findings.figures.append(_speedup_figure(measured))
    if measured:
        findings.tables.append(_times_table(measured))
        findings.sentences.append(speed_sentence(measured[-1]))
    findings.pictures.append(_plot(pairs, measured, cell, ratio))


def law_sentence(own: Pair, cell: int, channels: int, ratio: float) -> str:
    """Say what the ratio of work is made of, and which of the simple laws is near it."""
    shares, area = growth_shares(own.latent), cell**2
    if cell == 1:
        return (
            f"A cell of latents is one pixel (f = 1): the UNet on pixels does {times_as(own.work, 'much')} work, for "
            f"cost follows positions, and latents have no fewer; r = {ratio:g} is the channels' doing alone."
        )
    text = (
        f"At {own.size} an evaluation of the UNet on pixels does {times_as(own.work, 'much')} work as one on latents, "
        f"by the counts. Of the work on latents {shares['positions']:.1%} grows with the positions (convolutions, "
        f"projections, attention to the text), and on pixels there are f² = {area:,} times as many; "
        f"{shares['squares']:.1%} is attention of positions to one another, which grows with their square, by "
        f"f⁴ = {area**2:,}; {shares['fixed']:.1%} is made of text and timestep alone, and is the same. "
    )
    laws = {"r": ratio, "f²": float(area), "r²": ratio**2}
    shown = ", ".join(f"{name} = {value:,.6g}" for name, value in laws.items())
    nearest = min(laws, key=lambda name: abs(math.log(own.work / laws[name])))
    near = own.work / laws[nearest]
    same = "as much" if f"{near:.3g}" == "1" else f"{near:.3g} of it"
    if abs(near - 1) <= FAR:
        text += f"Of the laws {shown}, {nearest} is near: the count is {same}. "
    else:
        text += f"None of the laws {shown} holds: the nearest is {nearest}, and the count {near:.3g} times it. "
    if channels == 3:
        return text + "r is f² here, for latents have three channels as pixels do."
    return text + (
        f"r is f² times 3/c, c = {channels}, and no law of cost: the channels are seen by the first and the last "
        "convolution alone."
    )


def growth_shares(cost: Cost) -> dict[str, float]:
    """Return the shares of work that grow with the positions, with their square, and not at all."""
    squares = cost.macs[SELF] - cost.fixed[SELF]
    fixed = sum(cost.fixed.values())
    parts = {"positions": cost.total - squares - fixed, "squares": squares, "fixed": fixed}
    return {name: part / cost.total for name, part in parts.items()}


def speed_sentence(pair: Pair) -> str:
    """Say how time compares with work, at the largest size that was measured."""
    found = pair.speedup
    is_single = math.isinf(found.high)
    ends = "" if is_single else f" ({found.low:.3g} to {found.high:.3g})"
    compared = f"{found.value:.3g} times{ends} as long on pixels as on latents"
    text = f"Measured, at {pair.size}, an evaluation takes {compared}, for {times_as(pair.work, 'much')} work. "
    if is_single:
        return text + "Of one evaluation of each: how far others would be from it is not known."
    if found.high < (1 - FAR) * pair.work:
        return text + (
            "Time gains less than work: each operator has an overhead, and all weights are read, at every size, and "
            "small latents do not fill the processor."
        )
    if found.low > (1 + FAR) * pair.work:
        return text + "Time gains more than work: feature maps of pixels do not stay in the processor's caches."
    return text + f"Time follows work, within {FAR:.0%} or the spread of the rounds."


# --- Figures and tables ---


def _work_figure(own: Pair) -> Figure:
    return Figure(
        "work_ratio",
        f"Ratio of multiply-accumulates of the UNet, pixels to latents, {own.size}",
        own.work,
        "times",
        "counted operator by operator from the shapes",
        "Memory traffic and overhead are not in it.",
        interval="exact",
    )


def _activations_figure(own: Pair) -> Figure:
    return Figure(
        "activation_ratio",
        f"Ratio of the activations that live at once in the UNet, pixels to latents, {own.size}",
        own.pixel.peak / own.latent.peak,
        "times",
        "counted from the shapes, in float32, attention as one operator",
        "An engine that holds the matrix of attention needs more; weights are the same on both.",
        interval="exact",
    )


def _speedup_figure(measured: list[Pair]) -> Figure:
    title = "Speed-up of an evaluation of the UNet on latents over one on pixels"
    limits = "Other machines and engines have another one; how it grows with size is told by the counts."
    if not measured:
        note = "No size fitted the time and the memory for it."
        return Figure("speedup", title, None, "times", "ratio of medians, by torch", limits, note=note)
    pair = measured[-1]
    latent, pixel = sides(pair)
    rounds = f"{len(pixel.seconds)} and {len(latent.seconds)} evaluations"
    estimator = f"ratio of medians of {rounds}, by torch on this machine, each network in a process of its own"
    interval = "least and most that any two of them give"
    return Figure.measured("speedup", f"{title}, {pair.size}", pair.speedup, "times", estimator, limits, interval)


def sides(pair: Pair) -> tuple[Side, Side]:
    assert pair.measured is not None
    return pair.measured


def _counts_table(pairs: list[Pair], ratio: float, cell: int) -> Table:
    rows = tuple(
        (
            pair.size,
            pair.latent.total / 1e9,
            pair.pixel.total / 1e9,
            pair.work,
            pair.latent.peak / 1e6,
            pair.pixel.peak / 1e6,
            pair.pixel.peak / pair.latent.peak,
        )
        for pair in pairs
    )
    head = ("image", "latents, GMAC", "pixels, GMAC", "ratio of GMAC", "latents, MB", "pixels, MB", "ratio of MB")
    return Table(
        "twin",
        "The UNet beside its twin on pixels, counted",
        head,
        rows,
        f"MB: activations that live at once. For comparison: f² is {cell**2:,}, r {ratio:,.6g}, r² {ratio**2:,.6g}. At "
        "small sizes the ratio falls short of f²: what is made of text and timestep is fixed, and where a feature map "
        "has one position no further halving saves any.",
    )


def _laws_table(own: Pair, cell: int) -> Table:
    def moving(cost: Cost, kind: str) -> float:
        return (cost.macs[kind] - cost.fixed[kind]) / 1e9

    parts = [(kind, moving(own.latent, kind), moving(own.pixel, kind), float(cell**2)) for kind in GROWING]
    parts.append((SELF, moving(own.latent, SELF), moving(own.pixel, SELF), float(cell**4)))
    fixed = [sum(cost.fixed.values()) / 1e9 for cost in (own.latent, own.pixel)]
    parts.append(("fixed: of text and timestep alone", fixed[0], fixed[1], 1.0))
    rows = tuple(
        (name, latent, pixel, pixel / latent if latent > 0 else None, law) for name, latent, pixel, law in parts
    )
    return Table(
        "laws",
        f"By which law each kind of work grows from latents to pixels, {own.size}",
        ("work", "latents, GMAC", "pixels, GMAC", "ratio", "law"),
        rows,
        "law: f² for what grows with the positions, f⁴ for what grows with their square, 1 for what is fixed. The "
        "convolutions' ratio differs from it by the channels of the first and the last, and all do where a side is "
        "odd and halving rounds up. Empty: the model has no such work.",
    )


def _times_table(measured: list[Pair]) -> Table:
    def row(pair: Pair) -> tuple[Any, ...]:
        found, both = pair.speedup, sides(pair)
        times = [each for side in both for each in milliseconds(side.seconds)]
        added = [None if side.added is None else side.added / 1e6 for side in both]
        return (pair.size, *times, *cells(found), *added)

    head = ("image", "latents, ms", "fastest", "slowest", "pixels, ms", "pixels, fastest", "pixels, slowest")
    rounds = sorted({len(side.seconds) for pair in measured for side in sides(pair)})
    return Table(
        "twin_times",
        "The UNet beside its twin on pixels, measured",
        (*head, "speed-up", "least", "most", "latents, MB", "pixels, MB"),
        tuple(row(pair) for pair in measured),
        f"By torch, each in a process of its own, medians of {' or '.join(map(str, rounds))} evaluations. least and "
        "most: what any two of them give. MB: by how much the largest resident set of the process exceeds that before "
        "any evaluation, measured once; small ones are mostly the engine's own.",
    )


def _plot(pairs: list[Pair], measured: list[Pair], cell: int, ratio: float) -> Picture:
    def across(value: float) -> list[tuple[float, float]]:
        return [(pair.width, value) for pair in pairs]

    lines: dict[str, list[tuple[float, float]]] = {"work, counted": [(pair.width, pair.work) for pair in pairs]}
    if measured:
        lines["time, measured"] = [(pair.width, pair.speedup.value) for pair in measured]
    lines |= {"f²": across(cell**2), "r": across(ratio)}
    image = draw_lines(lines, "width of the image in pixels", "pixels to latents", log=True)
    return Picture("speedup", "The UNet on pixels over the UNet on latents, by the size of the image.", to_png(image))
