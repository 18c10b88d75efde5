"""Parallelism in time: Picard iteration beside the usual run, in rounds, evaluations, difference and time."""

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.rounds import Outcome, round_sizes
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import Interval, spread
from ldm_export.analyze.study import Study
from ldm_export.analyze.timing import time_in_turns
from ldm_export.analyze.workers import Bench, Speed
from ldm_export.plots import draw_lines, image_grid, to_png
from ldm_export.process.cores import usable_cores
from ldm_export.verify.metrics import relative_rms
from ldm_runtime.errors import InputError
from ldm_runtime.request import SampleOptions
from ldm_runtime.run import Step

WINDOW, TOLERANCE = 8, 0.01  # what the figures are about
PICARD_WORK = 4  # times that of the usual run, about
SHARE = 0.3  # of the budget
WINDOWS, TOLERANCES = (4, 8, 16), (0.1, 0.01, 0.001)
OTHERS = ("ddim", "euler_ancestral")  # one that draws no noise and one that does, beside the model's own
MANY_STEPS = 50
IMAGES = (4, 2)  # the second: quick


@dataclass(frozen=True)
class Setting:
    """How images are drawn by Picard iteration."""

    sampler: str
    steps: int
    window: int
    tolerance: float


def add_picard(
    findings: Findings, study: Study, bench: Bench, options: SampleOptions, budget: WorkBudget
) -> list[Speed]:
    """Draw images with Picard iteration and one row after the other."""
    main = Setting(study.subject.contract.defaults.sampler, steps_of(options), WINDOW, TOLERANCE)
    image = PICARD_WORK * main.steps * step_work(study, budget)
    settings = _settings(study, main)
    kept = settings[: budget.runs("settings of Picard iteration", len(settings), image, SHARE, 1)]
    count = budget.runs("images of Picard iteration", study.scaled(*IMAGES), image * len(kept), SHARE, 1)
    outcomes = _outcomes(study, bench, options, kept, count)
    outcome = outcomes[main]
    findings.tables.append(_table(outcomes, len(outcome.latents)))
    _add_figures(findings, main, outcome)
    findings.sentences.append(_sentence(main, outcome))
    if len({setting.window for setting in outcomes}) > 1:
        findings.pictures.append(_plot(outcomes, main))
    findings.pictures.append(_images(study, bench, options, outcomes, main))
    return [_speed(study, bench, options, main, outcome)]


def _settings(study: Study, main: Setting) -> list[Setting]:
    """Return the settings that are measured, `main` before the others."""
    own = [Setting(main.sampler, main.steps, *each) for each in itertools.product(WINDOWS, TOLERANCES)]
    if study.quick:
        own = [each for each in own if each.window == WINDOW and each.tolerance >= TOLERANCE]
    others = [Setting(sampler, main.steps, WINDOW, TOLERANCE) for sampler in OTHERS[study.quick :]]
    many = [] if study.quick or main.steps >= MANY_STEPS else [Setting(main.sampler, MANY_STEPS, 2 * WINDOW, TOLERANCE)]
    return list(dict.fromkeys([main, *own, *others, *many]))


def step_work(study: Study, budget: WorkBudget) -> float:
    """Return the work of a step: guidance evaluates it with and without the text."""
    contract = study.subject.contract
    return budget.denoiser * (2 if contract.evaluates_negative(contract.defaults.guidance) else 1)


def steps_of(options: SampleOptions) -> int:
    """Return the steps of the images of this section."""
    steps = options["steps"]
    assert steps is not None
    return steps


def _outcomes(
    study: Study, bench: Bench, options: SampleOptions, settings: list[Setting], count: int
) -> dict[Setting, Outcome]:
    """Measure the settings that the model takes on images; its own sampler, the first, is one of them."""
    prompts = prompts_of(study, count)
    usual: dict[tuple[str, int, int], np.ndarray] = {}  # latents by sampler, steps and number

    def latents(setting: Setting, number: int) -> np.ndarray:
        key = (setting.sampler, setting.steps, number)
        if key not in usual:
            usual[key] = _draw(study, bench, options, setting, number, prompts[number], usually=True)[-1].latents
        return usual[key]

    def measure(setting: Setting) -> np.ndarray:
        found = []
        for number, prompt in enumerate(prompts):
            steps = _draw(study, bench, options, setting, number, prompt)
            pair = (steps[-1].latents, latents(setting, number))
            if number == 0:
                _keep(study, setting, pair[0])
                if setting == settings[0]:
                    _keep(study, None, pair[1])
            one, other = (np.clip(bench.pipe.decode_array(each), -1, 1) for each in pair)
            pixels = np.sqrt(np.mean(np.square((one - other) * 127.5)))
            found.append([relative_rms(*pair), pixels, *round_sizes(steps)])
        return np.array(found, np.float64)

    progress, outcomes = study.progress("Picard iteration", len(settings)), {}
    for place, setting in enumerate(settings):
        try:
            kept = study.kept(f"picard {place}", partial(measure, setting))
        except InputError:
            if place == 0:
                raise
        else:
            outcomes[setting] = Outcome(kept.shape[1] - 2, kept[:, 2:], kept[:, 0], kept[:, 1])
        progress.advance()
    return outcomes


def _keep(study: Study, setting: Setting | None, latents: np.ndarray) -> None:
    """Keep the first image's latents, to show it. setting: None for the usual run."""
    study.kept(_kept_name(setting), lambda: latents)


def _kept_name(setting: Setting | None) -> str:
    return (
        "picard usual"
        if setting is None
        else f"picard {setting.sampler} {setting.steps} {setting.window} {setting.tolerance:g}"
    )


def _draw(
    study: Study,
    bench: Bench,
    options: SampleOptions,
    setting: Setting,
    number: int,
    prompt: str,
    *,
    usually: bool = False,
) -> list[Step]:
    """Draw image `number` and return all its evaluations, of Picard iteration or one after the other."""
    own: SampleOptions = {**options, "sampler": setting.sampler, "steps": setting.steps}
    own["seed"] = study.seed % 2**32 + number
    if not usually:
        own["picard"] = (setting.window, setting.tolerance)
    return list(bench.pipe.sample(prompt, **own).evaluations())


def prompts_of(study: Study, count: int) -> list[str]:
    """Return captions of images, or empty prompts where there are none."""
    captions = list(study.pictures.captions) or [""]
    return [captions[place % len(captions)] for place in range(count)]


def _speed(study: Study, bench: Bench, options: SampleOptions, setting: Setting, outcome: Outcome) -> Speed:
    """Time one image, drawn as usual on one worker and by Picard iteration on several."""
    (prompt,) = prompts_of(study, 1)
    component = study.subject.contract.denoiser.component
    clock, workers = bench.engines[component].seconds, min(setting.window, usable_cores())
    ways: dict[str, Callable[[], object]] = {
        name: partial(_draw, study, bench, options, setting, 0, prompt, usually=name == "alone")
        for name in ("alone", "together")
    }
    clock.clear()
    (seconds,) = time_in_turns({"alone": ways["alone"]}, 1, warm=False)["alone"]
    share = sum(clock) / seconds  # what else there is, the text encoder's part among it, is communication
    timed = time_in_turns(ways, bench.rounds, warm=False)
    alone = statistics.median(timed["alone"])  # of the same turns as what it is held against
    compute, communication = share * alone, (1 - share) * alone
    slowdown = bench.slowdown[component].value if workers > 1 else 1.0
    waits, evaluations = (float(each[0]) / outcome.rows for each in (outcome.waits(workers), outcome.evaluations))
    expected = compute * waits * slowdown + communication * evaluations
    name = f"Picard iteration, window {setting.window}, tolerance {setting.tolerance:g}"
    return Speed(name, workers, compute, communication, expected, timed["alone"], timed["together"])


# --- What it says ---


def _add_figures(findings: Findings, main: Setting, outcome: Outcome) -> None:
    count = len(outcome.latents)
    interval = f"range of {count} images, each of another seed" if count > 1 else "of one image: no spread is known"
    where = f"{main.sampler}, {main.steps} steps, window {main.window}, tolerance {main.tolerance:g}"
    for name, title, values, unit, limits in (
        (
            "picard_rounds",
            f"Rounds of Picard iteration in place of {outcome.rows} evaluations one after the other",
            outcome.rounds,
            "rounds",
            "So many workers as the window has rows wait so often.",
        ),
        (
            "picard_saved",
            "Share of the evaluations one after the other that are saved",
            1 - outcome.rounds / outcome.rows,
            "",
            "Saved are waits, not work.",
        ),
        (
            "picard_work",
            "Work of Picard iteration over that of the usual run",
            outcome.evaluations / outcome.rows,
            "times",
            "Evaluations of the denoiser; what else is done is little.",
        ),
        (
            "picard_difference",
            "Difference of the latents of both",
            outcome.latents,
            "",
            "The tolerance bounds what a round changes, not this.",
        ),
        (
            "picard_pixels",
            "Difference of the images of both",
            outcome.pixels,
            "levels",
            "RMS over the image: single pixels differ more.",
        ),
    ):
        kind = "relative RMS of the last latents" if name == "picard_difference" else "counted by the runtime"
        kind = "RMS of the decoded images, of 255 levels" if name == "picard_pixels" else kind
        found: Interval = spread(values)
        findings.figures.append(Figure.measured(name, title, found, unit, f"median; {kind}; {where}", limits, interval))


def _table(outcomes: dict[Setting, Outcome], count: int) -> Table:
    lines: tuple[tuple[Cell, ...], ...] = tuple(
        (
            setting.sampler,
            setting.steps,
            setting.window,
            setting.tolerance,
            outcome.rows,
            float(np.median(outcome.rounds)),
            float(np.median(outcome.evaluations)),
            float(np.median(outcome.latents)),
            float(np.max(outcome.latents)),
            float(np.median(outcome.pixels)),
            outcome.pays_from,
        )
        for setting, outcome in outcomes.items()
    )
    head = (
        "sampler",
        "steps",
        "window",
        "tolerance",
        "rows",
        "rounds",
        "evaluations",
        "difference",
        "largest",
        "levels",
        "pays from",
    )
    return Table(
        "picard",
        "Picard iteration beside the usual run",
        head,
        lines,
        f"Medians of {count} images, with the same noise. rows: evaluations of the usual run, one after the other. "
        "difference: relative RMS of the last latents. levels: RMS of the images, of 255. pays from: the fewest "
        "workers that wait for fewer evaluations than the usual run; empty: none.",
    )


def _sentence(main: Setting, outcome: Outcome) -> str:
    rounds, work = float(np.median(outcome.rounds)), float(np.median(outcome.evaluations)) / outcome.rows
    turns = "round" if rounds == 1 else "rounds"
    text = (
        f"Steps can be computed side by side: with a window of {main.window} rows and a tolerance of "
        f"{main.tolerance:g}, Picard iteration settles {outcome.rows} rows in {rounds:g} {turns}, for {work:.2g} times "
        f"the evaluations, and ends {_distance(float(np.median(outcome.latents)))}."
    )
    if outcome.pays_from is None:
        return text + " It is faster with no number of workers."
    return text + (
        f" It is faster from {outcome.pays_from} workers on, and with {main.window} at most "
        f"{outcome.rows / rounds:.2g} times as fast: the chain of steps becomes shorter, it does not go away."
    )


def _distance(latents: float) -> str:
    return f"{latents:.1g} from the usual latents (relative RMS)" if latents > 0 else "with the usual latents"


def _plot(outcomes: dict[Setting, Outcome], main: Setting) -> Picture:
    lines: dict[str, list[tuple[float, float]]] = {}
    for setting, outcome in sorted(outcomes.items(), key=lambda pair: pair[0].tolerance):
        if (setting.sampler, setting.steps) == (main.sampler, main.steps):
            points = lines.setdefault(f"tolerance {setting.tolerance:g}", [])
            points.append((setting.window, float(np.median(outcome.rounds))))
    rows = outcomes[main].rows
    windows = sorted({setting.window for setting in outcomes if setting.steps == main.steps})
    ordered = {name: sorted(points) for name, points in lines.items()}
    ordered["one row after the other"] = [(window, rows) for window in windows]
    plot = draw_lines(ordered, "window, rows", "rounds")
    caption = f"Rounds of Picard iteration by window and tolerance, {main.sampler} with {main.steps} steps."
    return Picture("picard", caption, to_png(plot))


def _images(
    study: Study, bench: Bench, options: SampleOptions, outcomes: dict[Setting, Outcome], main: Setting
) -> Picture:
    """Show the image of the usual run and of each tolerance."""
    (prompt,) = prompts_of(study, 1)
    settings = [
        each for each in outcomes if (each.sampler, each.steps, each.window) == (main.sampler, main.steps, WINDOW)
    ]
    settings.sort(key=lambda each: each.tolerance)

    def drawn(setting: Setting | None) -> np.ndarray:
        def draw() -> np.ndarray:
            steps = _draw(study, bench, options, setting or main, 0, prompt, usually=setting is None)
            return steps[-1].latents

        return study.kept(_kept_name(setting), draw)

    latents = {"usual": drawn(None)}
    latents |= {f"tolerance {each.tolerance:g}": drawn(each) for each in settings}
    images = [np.clip(bench.pipe.decode_array(each), -1, 1) for each in latents.values()]
    grid = image_grid(np.concatenate(images), len(images), list(latents))
    caption = f"One image drawn as usual and by Picard iteration with a window of {WINDOW} rows, by tolerance."
    return Picture("picard_images", caption, to_png(grid))
