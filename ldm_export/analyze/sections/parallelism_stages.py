"""Parallelism over a batch: text encoder, denoiser and decoder as stages on workers, and whole images on workers."""

import math
import statistics
from functools import partial
from typing import Any

import numpy as np

from ldm_export.analyze.findings import Figure, Findings, Table
from ldm_export.analyze.sections.parallelism_picard import prompts_of, step_work, steps_of
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.stages import Stage, balance, chain, run_in_stages, seconds_in_stages
from ldm_export.analyze.statistics import Interval
from ldm_export.analyze.study import Study
from ldm_export.analyze.timing import Seconds, milliseconds, time_in_turns, timed
from ldm_export.analyze.workers import Bench, Speed
from ldm_runtime.request import SampleOptions

BATCH = (4, 2)  # images; the second: quick
SHARE = 0.2  # of the budget
NAMES = ("text encoder", "denoiser", "decoder")


def add_stages(
    findings: Findings, study: Study, bench: Bench, options: SampleOptions, budget: WorkBudget
) -> list[Speed]:
    """Draw a batch on one worker, in stages on several, and with whole images on each."""
    work = (1 + 3 * bench.rounds) * (steps_of(options) * step_work(study, budget) + budget.decoder)
    count = budget.runs("images of a batch", study.scaled(*BATCH), work, SHARE, 2)
    items = list(enumerate(prompts_of(study, count)))
    stages = _stages(study, bench, options)
    taken = _seconds_of(stages, items)
    seconds = [statistics.median(each) for each in taken]
    groups = balance(seconds, bench.workers)
    workers = [chain([stages[each] for each in group]) for group in groups]
    whole = chain(stages)
    ways = {
        "alone": lambda: [whole(item) for item in items],
        "stages": lambda: run_in_stages(items, workers),
        "images": lambda: list(bench.pool.map(whole, items)),
    }
    study.say(f"parallelism: {count} images in stages, {bench.rounds} times")
    found = time_in_turns(ways, bench.rounds)
    compute = statistics.median(found["alone"])  # of the same turns as what it is held against
    handing_over = time_in_turns({"nothing": lambda: run_in_stages(items, [_same] * len(groups))}, bench.rounds)
    communication = statistics.median(handing_over["nothing"])
    image = compute / count
    sums = [image * sum(seconds[each] for each in group) / sum(seconds) for group in groups]
    slowdown = bench.slowdown[study.subject.contract.denoiser.component].value
    spread_out = math.ceil(count / bench.workers) * image * slowdown
    _add_shares(findings, taken, groups)
    return [
        Speed(
            f"{count} images in {len(groups)} stages",
            len(groups),
            compute,
            communication,
            seconds_in_stages(sums, count) + communication,
            found["alone"],
            found["stages"],
        ),
        Speed(
            f"{count} images, each whole on a worker",
            bench.workers,
            compute,
            communication,
            spread_out,
            found["alone"],
            found["images"],
        ),
    ]


def _same(item: Any) -> Any:
    return item


def _stages(study: Study, bench: Bench, options: SampleOptions) -> list[Stage]:
    """Return what makes an image of (number, prompt), in three functions."""
    pipe, first = bench.pipe, study.seed % 2**32

    def encode(item: tuple[int, str]) -> tuple[int, np.ndarray, np.ndarray]:
        return item[0], *pipe.embed_pooled(item[1])

    def denoise(item: tuple[int, np.ndarray, np.ndarray]) -> np.ndarray:
        number, context, pooled = item
        own: SampleOptions = {**options, "prompt_embeds": context, "seed": first + number}
        if pooled.shape[1] > 0:
            own["pooled_prompt_embeds"] = pooled
        return list(pipe.sample(**own))[-1].latents

    return [encode, denoise, pipe.decode_array]


def _seconds_of(stages: list[Stage], items: list[Any]) -> list[Seconds]:
    """Return what each stage takes for each item, alone."""
    taken = []
    for stage in stages:
        made = [timed(partial(stage, item)) for item in items]
        items = [item for item, _ in made]
        taken.append(tuple(seconds for _, seconds in made))
    return taken


# --- What it says ---


def _add_shares(findings: Findings, taken: list[Seconds], groups: tuple[range, ...]) -> None:
    """Say what each stage takes of an image's time, the median over images, and what follows for a pipeline."""
    seconds, count = [statistics.median(each) for each in taken], len(taken[0])
    place = int(np.argmax(seconds))
    slowest = max(groups, key=lambda group: sum(seconds[each] for each in group))
    shares = np.array(taken) / np.sum(taken, axis=0)  # (stages, items)
    gains = 1 / shares[slowest].sum(axis=0)
    ends = (gains.min(), gains.max()) if count > 1 else (-math.inf, math.inf)
    findings.figures.append(
        Figure.measured(
            "stages_bound",
            f"Most that a pipeline of {len(groups)} stages can gain over one worker",
            Interval(float(np.median(gains)), *map(float, ends)),
            "times",
            f"time of an image over that of its slowest stage, median of {count} images, one worker",
            "For batches without end; a short one also waits for its first and its last image.",
            f"smallest and largest of {count} images",
        )
    )
    own = float(np.median(shares[place]))
    findings.sentences.append(
        f"In a pipeline of stages the slowest sets the pace: the {NAMES[place]} takes {own:.0%} of an "
        f"image's time, so that no number of workers makes more than {1 / own:.3g} times of one. "
        "Whole images on each worker have no such bound: over a batch they are the better way to divide, where memory "
        "allows a set of activations for each."
    )
    findings.tables.append(
        Table(
            "stages",
            "The stages of an image",
            ("stage", "ms", "fastest", "slowest", "share", "worker"),
            tuple(
                (
                    name,
                    *milliseconds(each),
                    float(np.median(shares[index])),
                    1 + next(k for k, group in enumerate(groups) if index in group),
                )
                for index, (name, each) in enumerate(zip(NAMES, taken, strict=True))
            ),
            f"Medians of {count} images on one worker; share: of an image's time. Stages are divided so that the "
            "slowest worker has least to do.",
        )
    )
