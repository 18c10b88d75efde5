"""Compression: how much smaller latents are than images, what each component costs, and what a UNet on pixels would."""

from collections.abc import Mapping

from ldm_export.analyze.component_inputs import axis_sizes, component_costs, zeros
from ldm_export.analyze.findings import Cell, Figure, Findings, Table
from ldm_export.analyze.graph_cost import KINDS, Cost
from ldm_export.analyze.pixel_twin import count_pairs, measure_pairs, twins
from ldm_export.analyze.sections.compression_total import add_total
from ldm_export.analyze.sections.compression_twin import add_twin
from ldm_export.analyze.study import Study
from ldm_export.analyze.timing import Seconds, TimeBudget, milliseconds
from ldm_export.analyze.wording import counted
from ldm_runtime.memory import available_memory

ROUNDS = 7  # of each timing
COMPONENT_SECONDS = (300.0, 15.0)  # for the timings of all components; the second: quick
TWIN_SECONDS = (300.0, 30.0)  # for those of the UNet and its twin


def measure(study: Study) -> Findings:
    """Count every component, and measure the UNet beside its twin on pixels."""
    subject = study.subject
    space, (width, height) = subject.contract.latent, subject.size
    numbers = (height // space.downsample) * (width // space.downsample) * space.channels
    findings = Findings()
    findings.figures += [
        _exact("ratio", "Compression ratio r: numbers of the image to numbers of its latents", _ratio(study), ""),
        _exact("downsample", "Pixels of a latent cell along a side, f", space.downsample, "pixels"),
        _exact("numbers", "Numbers of the latents, h·w·c", numbers, ""),
    ]
    costs = component_costs(subject)
    seconds, left_out = time_components(study, costs)
    findings.tables.append(_components_table(costs, seconds))
    findings.figures += [_time_figure(name, each) for name, each in seconds.items() if each]
    networks = twins(subject)
    counts = count_pairs(subject, networks)
    pairs, not_measured = measure_pairs(study, networks, counts, TimeBudget(study.scaled(*TWIN_SECONDS)), ROUNDS)
    add_twin(findings, subject, pairs, _ratio(study))
    add_total(findings, subject, costs, seconds, pairs[-1].pixel)
    findings.sentences += [each for each in (left_out, not_measured) if each]
    return findings


def _ratio(study: Study) -> float:
    space, (width, height) = study.subject.contract.latent, study.subject.size
    cells = (height // space.downsample) * (width // space.downsample)
    return 3 * height * width / (cells * space.channels)


def time_components(study: Study, costs: Mapping[str, Cost]) -> tuple[dict[str, Seconds], str]:
    """Time each component on the engine that draws with it, the cheapest first; also say what did not fit, or "".

    What does not fit has no seconds.
    """
    subject, budget = study.subject, TimeBudget(study.scaled(*COMPONENT_SECONDS))
    sizes = axis_sizes(subject)
    found: dict[str, Seconds] = dict.fromkeys(costs, ())
    left_out = []
    for name in sorted(costs, key=lambda each: costs[each].total):
        free, needed = available_memory(), costs[name].memory + costs[name].matrix
        if free is not None and needed > free:
            left_out.append(f"{name} (may need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available)")
            continue
        study.say(f"compression: timing {name}")
        engine, feeds = subject.pipe.component(name), zeros(subject.checkpoint.specs[name], sizes)
        seconds = budget.time(lambda engine=engine, feeds=feeds: engine.run(feeds), costs[name].total, ROUNDS)  # type: ignore[misc]
        if seconds is None:
            left_out.append(f"{name} (would take about {budget.expected(costs[name].total):.0f} s an evaluation)")
        found[name] = seconds or ()
    if not left_out:
        return found, ""
    return found, (
        f"Of the components these are counted and not timed, for all have {budget.seconds:.0f} s together: "
        f"{', '.join(left_out)}."
    )


# --- What it says ---


def _exact(name: str, title: str, value: float, unit: str) -> Figure:
    return Figure(
        name,
        title,
        value,
        unit,
        "from the model's configuration",
        "It says nothing of quality, nor of bits: how many a number carries is measured in section information.",
        interval="exact",
    )


def _time_figure(name: str, seconds: Seconds) -> Figure:
    median, low, high = milliseconds(seconds)
    rounds = len(seconds)
    limits = "Of this machine, its engine and what else ran on it, with inputs of zeros."
    title, estimator = f"Time of an evaluation of {name}", f"median of {rounds} on the engine that draws, one image"
    if rounds == 1:
        estimator = "one evaluation on the engine that draws, its first, one image"
        return Figure(f"time_{name}", title, median, "ms", estimator, limits, note="More would have taken too long.")
    interval = f"fastest and slowest of {rounds}"
    return Figure(f"time_{name}", title, median, "ms", estimator, limits, low, high, interval)


def _components_table(costs: Mapping[str, Cost], seconds: Mapping[str, Seconds]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            cost.parameters / 1e6,
            cost.total / 1e9,
            *(cost.macs[kind] / 1e9 for kind in KINDS),
            sum(cost.fixed.values()) / 1e9,
            cost.peak / 1e6,
            *milliseconds(seconds[name]),
        )
        for name, cost in costs.items()
    )
    head = ("component", "weights, million", "GMAC", *(f"{kind}, GMAC" for kind in KINDS), "of it fixed, GMAC")
    return Table(
        "components",
        "One evaluation of each component, for one image",
        (*head, "activations, MB", "ms", "fastest", "slowest"),
        rows,
        "Counted from the graph, exact. Attention is the products of queries, keys and values alone. Of the image to "
        "itself (self-attention of UNet and autoencoder) they grow with the square of the positions; of the image to "
        "the text (cross-attention) with positions times tokens; a text encoder's self-attention grows with the square "
        "of its tokens, and not with the image. Convolutions and other products (linear) grow with the positions, but "
        "for what is fixed: made of the text or the timestep alone, the same at every size of the image. Activations "
        "are the most that live at once in float32. ms: the median of evaluations on the engine that draws, "
        f"{counted(ROUNDS, 'evaluation')} at most; empty where they did not fit.",
    )
