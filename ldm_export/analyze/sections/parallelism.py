"""Parallelism: one image over workers in space and in time, a batch over workers, beside what a simple law predicts.

A worker is a thread that computes with one core, on memory that all share: communication is copies and hand-overs.
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from PIL import Image

from ldm_export.analyze.component_inputs import axis_sizes, zeros
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.sections.parallelism_picard import PICARD_WORK, add_picard, step_work, steps_of
from ldm_export.analyze.sections.parallelism_stages import BATCH, add_stages
from ldm_export.analyze.sections.parallelism_strips import STRIP_ROUNDS, add_strips
from ldm_export.analyze.sections.work_budget import WorkBudget, budget_of
from ldm_export.analyze.study import Study
from ldm_export.analyze.timing import milliseconds, ratio, time_in_turns
from ldm_export.analyze.workers import Bench, Speed, open_workers, worker_count
from ldm_export.plots import draw_bars, to_png
from ldm_runtime.request import SampleOptions

ROUNDS = (5, 2)  # in which each way is timed once; the second: quick
EVALUATIONS = (15, 5)  # that are timed, to see what workers lose to one another
DRAWN, FEWEST_STEPS = 20, 6  # images that are drawn at least, as work; steps of them
CLOSE = 0.15  # relative difference up to which a prediction is called right
UNDISTURBED = 1.03  # as a slowdown
GAINS_NOTHING = 0.9  # of the number of workers, as a slowdown
KEYS = ("strips", "strips_overlapped", "picard", "stages", "images")


def measure(study: Study) -> Findings:
    """Divide the work in four ways and time each."""
    findings = Findings()
    workers, budget = worker_count(), budget_of(study)
    options = drawing_options(study, budget)
    with open_workers(study.subject) as (pipe, engines), ThreadPoolExecutor(workers) as pool:
        rounds = budget.runs("rounds of timing", study.scaled(*ROUNDS), _round_work(study, budget, options), 0.35, 1)
        bench = Bench(pipe, engines, pool, workers, rounds)
        _add_slowdown(findings, study, bench, budget)
        strips = add_strips(findings, study, bench, budget)
        study.say("parallelism: Picard iteration")
        picard = add_picard(findings, study, bench, options, budget)
        speeds = [*strips, *picard, *add_stages(findings, study, bench, options, budget)]
    names = [*KEYS[: len(strips)], *KEYS[2:]]
    for name, speed in zip(names, speeds, strict=True):
        _add_speed(findings, name, speed)
    findings.tables.append(_table(speeds, bench))
    findings.sentences.append(_sentence(speeds))
    findings.pictures.append(_plot(speeds))
    budget.add_cuts(findings)
    return findings


def drawing_options(study: Study, budget: WorkBudget) -> SampleOptions:
    """Return the options of an image besides its prompt; of a model for inpainting, which draws a grey one anew."""
    steps, step = study.subject.contract.defaults.steps, step_work(study, budget)
    options: SampleOptions = {"steps": budget.runs("steps of an image", steps, DRAWN * step, 0.6, FEWEST_STEPS)}
    if study.subject.contract.inpaints:
        options["image"] = Image.new("RGB", study.subject.size, (128, 128, 128))
        options["mask"] = Image.new("L", study.subject.size, 255)
    return options


def _round_work(study: Study, budget: WorkBudget, options: SampleOptions) -> float:
    """Return the work of timing everything once: strips, Picard iteration, and a batch in three ways."""
    image = steps_of(options) * step_work(study, budget)
    return (
        5 * STRIP_ROUNDS * budget.decoder
        + (1 + PICARD_WORK) * image
        + 3 * study.scaled(*BATCH) * (image + budget.decoder)
    )


def _add_slowdown(findings: Findings, study: Study, bench: Bench, budget: WorkBudget) -> None:
    """Measure what workers lose to one another: memory, caches, and what else runs on the machine."""
    contract, each_round = study.subject.contract, (1 + bench.workers) * (budget.denoiser + budget.decoder)
    rounds = budget.runs("evaluations that are timed", study.scaled(*EVALUATIONS), each_round, 0.1, 3)
    roles = (("denoiser", contract.denoiser.component), ("decoder", contract.codec.decoder.component))
    for role, component in roles:
        feeds = zeros(study.subject.checkpoint.specs[component], axis_sizes(study.subject))
        evaluate = partial(bench.engines[component].run, feeds)
        seconds = time_in_turns({"alone": evaluate, "together": partial(_at_once, evaluate, bench)}, rounds)
        found = bench.slowdown[component] = ratio(seconds["together"], seconds["alone"])
        findings.figures.append(
            Figure.measured(
                f"slowdown_{role}",
                f"Time of {bench.workers} evaluations of the {role} at once, over that of one",
                found,
                "times",
                f"ratio of medians of {rounds} evaluations, each worker with one core",
                f"1 where workers do not disturb one another, {bench.workers} where they gain nothing. What else runs "
                "on the machine is in it.",
                f"smallest and largest ratio of {rounds} pairs",
            )
        )
    slowdown = {role: bench.slowdown[component].value for role, component in roles}
    worst = max(slowdown.values())
    findings.sentences.append(_slowdown_sentence(bench.workers, slowdown))
    if worst > GAINS_NOTHING * bench.workers:
        findings.warnings.append(
            "Workers gain next to nothing on this machine: it has one core to give, or was busy with something else. "
            "The times of this section tell of that, and not of the model."
        )


def _slowdown_sentence(workers: int, slowdown: Mapping[str, float]) -> str:
    """slowdown: of several evaluations at once, by what is evaluated."""
    if max(slowdown.values()) <= UNDISTURBED:
        return f"Workers do not disturb one another here: {workers} evaluations at once take as long as one."
    taken = " and ".join(f"{factor:.3g} times (the {role})" for role, factor in slowdown.items())
    work = " and ".join(f"{workers / max(factor, 1):.2g}" for factor in slowdown.values())
    return (
        f"{workers} evaluations at once take {taken} as long as one, so that {workers} workers of this machine do the "
        f"work of {work}, before anything is divided."
    )


def _at_once(evaluate: Callable[[], object], bench: Bench) -> None:
    for future in [bench.pool.submit(evaluate) for _ in range(bench.workers)]:
        future.result()


# --- What it says ---


def _add_speed(findings: Findings, name: str, speed: Speed) -> None:
    pairs = len(speed.together)
    over = f"smallest and largest ratio of {pairs} pairs"
    findings.figures += [
        Figure.measured(
            f"{name}_speedup",
            f"Speed-up of {speed.name}, {speed.workers} workers over one",
            speed.speedup,
            "times",
            f"ratio of medians of {pairs} runs of either, in turns",
            "Of this machine, and of what else ran on it.",
            over,
        ),
        Figure.measured(
            f"{name}_efficiency",
            f"Parallel efficiency of {speed.name}",
            speed.efficiency,
            "",
            f"speed-up over {speed.workers} workers",
            "1 where no work is added and nobody waits.",
            over,
        ),
        Figure.measured(
            f"{name}_beside_law",
            f"Time of {speed.name}, over max(compute / P, communication)",
            speed.beside_law,
            "times",
            f"median of {pairs} runs, over {speed.law * 1e3:.3g} ms that the law predicts from the work of one worker",
            "The law knows neither work that dividing adds nor waiting; the table has what is expected with them.",
            f"smallest and largest of {pairs} runs",
        ),
    ]


def _table(speeds: list[Speed], bench: Bench) -> Table:
    head = (
        "what is divided",
        "workers",
        "one worker, ms",
        "fastest",
        "slowest",
        "max(compute/P, communication), ms",
        "expected, ms",
        "measured, ms",
        "measured, fastest",
        "measured, slowest",
        "speed-up",
        "efficiency",
        "communication, ms",
    )
    rows = tuple(
        (
            speed.name,
            speed.workers,
            *milliseconds(speed.alone),
            speed.law * 1e3,
            speed.expected * 1e3,
            *milliseconds(speed.together),
            speed.speedup.value,
            speed.efficiency.value,
            speed.communication * 1e3,
        )
        for speed in speeds
    )
    return Table(
        "speeds",
        "Predicted and measured",
        head,
        rows,
        f"Medians of {bench.rounds} runs, of strips {STRIP_ROUNDS * bench.rounds}; a worker is a thread with one core. "
        "expected: what also counts the work that dividing adds, waits for one another, and how much workers slow one "
        "another down. communication: copies, hand-overs and the loop's own work.",
    )


def _sentence(speeds: list[Speed]) -> str:
    misses = [speed for speed in speeds if speed.seconds > (1 + CLOSE) * speed.law]
    law = "max(compute / P, communication)"
    if not misses:
        return f"{law} predicts all {len(speeds)} times within {CLOSE:.0%}: work is divided without loss here."
    worst = max(misses, key=lambda speed: speed.seconds / speed.law)
    close = [speed for speed in speeds if abs(speed.expected / speed.seconds - 1) <= CLOSE]
    share = max(speed.communication / speed.seconds for speed in speeds)
    take = "takes" if len(misses) == 1 else "take"
    return (
        f"{law} is a lower bound: {len(misses)} of {len(speeds)} ways {take} over {CLOSE:.0%} longer, most of all "
        f"{worst.name}, {worst.seconds / worst.law:.2g} times as long. Communication is at most "
        f"{share:.1%} of the time here. What the law leaves out is the work that dividing adds (overlap, rounds that "
        "are repeated), waiting for the slowest part, and cores that share memory; a prediction that counts them is "
        f"within {CLOSE:.0%} of {len(close)} of the {len(speeds)} times."
    )


def _plot(speeds: list[Speed]) -> Picture:
    bars = {speed.name: {"speed-up": speed.speedup.value} for speed in speeds}
    measured = [(speed.name, speed.speedup) for speed in speeds]
    spans = {name: (found.low, found.high) for name, found in measured if math.isfinite(found.high)}
    workers = max(speed.workers for speed in speeds)
    caption = (
        f"Speed-up over one worker, by what is divided, with the smallest and the largest ratio of two runs. {workers} "
        f"workers that lose nothing have {workers}."
    )
    return Picture("speedups", caption, to_png(draw_bars(bars, "times", spans)))
