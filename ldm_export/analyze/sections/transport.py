"""Transport: how straight the ways from noise to images are, what they cost, and how few steps follow them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.distances import pair_distances, typical_distance
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.flow_path import Paths, bending, bending_by_time, chords, gaussian_paths, lengths
from ldm_export.analyze.flow_runs import (
    euler_of,
    even_steps,
    flow_pipeline,
    flow_times,
    follow,
    is_deterministic,
    result,
)
from ldm_export.analyze.sections.transport_cost import BATCH, add_codec, add_cost
from ldm_export.analyze.statistics import FEWEST_TO_RESAMPLE, bootstrap, over_images, spearman
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, image_grid, to_png
from ldm_runtime.errors import InputError
from ldm_runtime.pipeline import Pipeline

BLOCK = 8
FEW = (1, 2, 4, 8, 16, 32)
TOLERANCE = 0.1  # of the distance between two results, below which steps suffice
STRAIGHT = 0.1  # of the motion, that may not go straight
FEWEST_TO_CORRELATE = 16
SHOWN = 3


@dataclass(frozen=True)
class Flow:
    """What paths are measured of: a pipeline, and a prompt and unit noise (C, h, w) of each."""

    pipe: Pipeline
    prompts: list[str]
    noise: np.ndarray
    steps: int
    few: list[int]

    @property
    def count(self) -> int:
        return len(self.prompts)


def measure(study: Study) -> Findings:
    """Follow the probability flow in many steps, and compare few steps and other pairings of noise and latents."""
    if study.subject.contract.inpaints:
        raise AnalysisError(
            "this denoiser reads a masked image beside the latents, so it has no way from noise alone; analyse a model "
            "that draws from text"
        )
    findings = Findings()
    flow = _flow(study)
    paths = _paths(study, flow, "captions", flow.count, 1.0)
    _add_paths(findings, study, flow, paths)
    _add_few_steps(findings, study, flow, paths)
    batches = max(1, study.scaled_by_size(3, 1, least=1))
    add_cost(findings, study, flow.pipe, _noise(study, "empty prompt", batches * study.scaled(BATCH, 24)))
    add_codec(findings, study)
    return findings


def _flow(study: Study) -> Flow:
    count = study.scaled_by_size(40, 8, least=4)
    captions = study.pictures.captions
    chosen = study.random("transport captions").permutation(max(len(captions), 1))
    prompts = [captions[chosen[place % len(chosen)]] if captions else "" for place in range(count)]
    pipe = flow_pipeline(study.subject)
    (steps,) = even_steps(pipe.contract, [study.scaled(125, 40)])
    few = [each for each in even_steps(pipe.contract, FEW) if 2 * each < steps]
    return Flow(pipe, prompts, _noise(study, "captions", count), steps, few)


def _noise(study: Study, name: str, count: int) -> np.ndarray:
    space, (width, height) = study.subject.contract.latent, study.subject.size
    shape = (count, space.channels, height // space.downsample, width // space.downsample)
    return study.random(f"transport {name}").standard_normal(shape, np.float32)


def _paths(study: Study, flow: Flow, name: str, count: int, guidance: float) -> Paths:
    """Return the paths of the first `count` prompts; they are kept."""

    def points(part: Sequence[int]) -> np.ndarray:
        places = list(part)
        prompts = [flow.prompts[place] for place in places]
        return follow(flow.pipe, prompts, flow.noise[places], flow.steps, guidance)

    found = study.in_blocks(f"transport paths {name}", range(count), BLOCK, points)
    return Paths(found, flow_times(flow.pipe.contract, flow.steps))


# --- Paths ---


def _add_paths(findings: Findings, study: Study, flow: Flow, paths: Paths) -> None:
    random = study.random("transport paths")
    whole, half = bending(paths), bending(paths.thinned())
    detour = lengths(paths) / chords(paths) - 1
    estimator = f"{flow.steps} steps of {euler_of(flow.pipe.contract)} without guidance, x / (alpha + sigma)"
    asked = "captions of the images" if study.pictures.captions else "the empty prompt"
    limits = f"Of {asked}. Half as many steps give {100 * half.mean():.3g} %; more would add less than that differs."
    for name, title, values in (
        ("bending", "Bending: share of a path's motion that does not go straight", whole),
        ("detour", "How much longer a path is than the line between its ends", detour),
    ):
        found, over = over_images(100 * values, random)
        said = limits if name == "bending" else f"Of {asked}. A line that is walked at changing speed has none."
        findings.figures.append(Figure.measured(name, title, found, "%", estimator, said, over))
    curves = {"without guidance": bending_by_time(paths)}
    guidance = flow.pipe.contract.defaults.guidance
    is_straight = "is almost straight" if whole.mean() < STRAIGHT else "bends"
    findings.sentences.append(
        f"The way from noise to an image {is_straight}: {whole.mean():.1%} of its motion does not go straight at one "
        f"speed, and it is {detour.mean():.1%} longer than the line between its ends."
    )
    if flow.pipe.contract.evaluates_negative(guidance):
        count = max(min(flow.count, 4), flow.count // 3)
        guided = _paths(study, flow, "guided", count, guidance)
        curves[f"with guidance {guidance:g}"] = bending_by_time(guided)
        found, over = over_images(100 * bending(guided), random)
        title = f"Bending with the model's guidance of {guidance:g}"
        said = "Guided paths end elsewhere, so they are not the flow between noise and the data."
        findings.figures.append(Figure.measured("bending_guided", title, found, "%", estimator, said, over))
        more = found.value / (100 * whole[:count].mean())
        findings.sentences.append(
            f"Guidance of {guidance:g} bends it {more:.1f} times as much ({found.value:.1f} %)."
            if more > 1.2
            else f"Guidance of {guidance:g} does not bend it more ({found.value:.1f} %)."
        )
    spreads = study.latents.reshape(len(study.latents), -1).std(axis=0, dtype=np.float64)
    exact = bending(gaussian_paths(flow.noise.reshape(flow.count, -1).astype(np.float64), spreads, paths.times))
    findings.figures.append(
        Figure.measured(
            "bending_gaussian",
            "Bending where nothing but the spread of each number is known",
            over_images(100 * exact, random)[0],
            "%",
            "exact paths to independent Gaussians with the deviations of the latents of the images",
            "To compare with: 0 % is a model that knows the image from the start.",
            f"95 % by bootstrap over {flow.count} noises" if flow.count >= 8 else f"range of {flow.count} noises",
        )
    )
    middle = (paths.times[1:] + paths.times[:-1]) / 2
    lines = {
        name: [(float(x), float(100 * y)) for x, y in zip(middle, curve, strict=True)] for name, curve in curves.items()
    }
    plot = draw_lines(lines, "noise: sigma / (alpha + sigma)", "off the straight way, % of its speed²")
    caption = (
        "Where paths bend: how far their velocity is off the straight way, from noise (right) to the image (left)."
    )
    findings.pictures.append(Picture("bending", caption, to_png(plot)))


# --- Few steps ---


def _add_few_steps(findings: Findings, study: Study, flow: Flow, paths: Paths) -> None:
    contract = flow.pipe.contract
    euler, own = euler_of(contract), contract.defaults.sampler
    samplers = [euler] if own == euler or not is_deterministic(contract, own) else [euler, own]
    target = paths.points[:, -1]
    typical = typical_distance(pair_distances(target))
    if typical == 0:
        findings.sentences.append("All noises lead to the same latents: errors of few steps were not measured.")
        return
    errors: dict[str, dict[int, np.ndarray]] = {sampler: {} for sampler in samplers}
    images: dict[int, np.ndarray] = {}
    for sampler in samplers:
        for steps in flow.few:
            drawn = _few(study, flow, sampler, steps)
            if drawn is None:
                continue
            off = drawn.reshape(flow.count, -1).astype(np.float64) - target
            errors[sampler][steps] = np.linalg.norm(off, axis=1) / typical
            if sampler == euler:
                images[steps] = drawn[:SHOWN]
    random = study.random("transport few steps")
    reference = f"the latents of {flow.steps} steps of {euler}"
    rows: list[tuple[Cell, ...]] = []
    for sampler, by_steps in errors.items():
        for steps, values in by_steps.items():
            found, _ = over_images(100 * values, random)
            rows.append((sampler, steps, found.value, found.low, found.high))
    note = f"Distance from {reference}, in % of that between two of them. Steps begin at the last timestep."
    head = ("sampler", "steps", "off, %", "low", "high")
    findings.tables.append(Table("few_steps", "How far few steps are off", head, tuple(rows), note))
    for sampler in samplers:
        findings.figures.append(_needed(study, sampler, errors[sampler], reference))
    one, need = errors[euler][flow.few[0]], findings.value("steps_needed")
    findings.sentences.append(
        f"{_steps(flow.few[0])} without guidance {'is' if flow.few[0] == 1 else 'are'} off by {one.mean():.0%} of the "
        f"distance between two images"
        + (f"; from {_steps(int(need))} on it is less than {TOLERANCE:.0%}." if need is not None else ".")
    )
    _add_relation(findings, study, paths, errors[euler])
    lines = {
        f"{sampler}": [(float(k), float(100 * v.mean())) for k, v in each.items()] for sampler, each in errors.items()
    }
    plot = draw_lines(lines, "steps", "off, % of the distance between two images", log=True, log_x=True)
    findings.pictures.append(Picture("few_steps", f"Distance from {reference}.", to_png(plot)))
    findings.pictures.append(_strip(flow, images, target))


def _few(study: Study, flow: Flow, sampler: str, steps: int) -> np.ndarray | None:
    """Return the latents of few steps (N, C, h, w); None where the sampler cannot take so few."""

    def draw(part: Sequence[int]) -> np.ndarray:
        places = list(part)
        prompts = [flow.prompts[place] for place in places]
        return result(flow.pipe, prompts, flow.noise[places], steps, sampler, 1.0)

    try:
        return study.in_blocks(f"transport {sampler} {steps}".replace(":", " "), range(flow.count), BLOCK, draw)
    except InputError:
        return None


def _needed(study: Study, sampler: str, errors: dict[int, np.ndarray], reference: str) -> Figure:
    counts = np.array(list(errors))
    table = np.stack(list(errors.values()), axis=1)  # (N, steps)
    is_euler = sampler == euler_of(study.subject.contract)
    name, title = "steps_needed" if is_euler else "steps_needed_default", f"Steps of {sampler} that suffice"
    estimator = f"fewest of {', '.join(map(str, counts))} from which on the distance from {reference} is below 10 %"
    limits = "Without guidance. Of the distance between two images, not of what is seen."

    def fewest(part: np.ndarray) -> float:
        enough = part.mean(axis=0) < TOLERANCE
        first = len(counts) - int(np.argmin(enough[::-1])) if not enough.all() else 0
        return float(counts[first]) if first < len(counts) else float("inf")

    value = fewest(table)
    if not np.isfinite(value):
        note = f"{counts[-1]} do not."
        return Figure(name, title, None, "steps", estimator, limits, note=note)
    if len(table) < FEWEST_TO_RESAMPLE:
        return Figure(name, title, value, "steps", estimator, limits)
    found = bootstrap(table, study.random("transport needed"), fewest, 400)
    high = found.high if np.isfinite(found.high) else None
    over = f"95 % by bootstrap over {len(table)} images"
    if high is None:
        over = f"{over}: at least {found.low:g}"
    return Figure(name, title, value, "steps", estimator, limits, None if high is None else found.low, high, over)


def _add_relation(findings: Findings, study: Study, paths: Paths, errors: dict[int, np.ndarray]) -> None:
    """Say whether the images whose paths bend are those that few steps miss."""
    steps = min(errors, key=lambda each: abs(each - 4))
    title = f"Correlation of bending and how far {_steps(steps)} are off"
    estimator, limits = "Spearman's, over images", "Two measures of the same paths; it does not say which is the cause."
    both = np.stack([bending(paths), errors[steps]], axis=1)
    if len(both) < FEWEST_TO_CORRELATE or np.ptp(both, axis=0).min() == 0:
        note = f"It needs {FEWEST_TO_CORRELATE} images that differ, and there are {len(both)}."
        findings.figures.append(Figure("relation", title, None, "", estimator, limits, note=note))
        return
    found = bootstrap(both, study.random("transport relation"), lambda part: spearman(part[:, 0], part[:, 1]), 400)
    over = f"95 % by bootstrap over {len(both)} images"
    findings.figures.append(Figure.measured("relation", title, found, "", estimator, limits, over))
    if found.low > 0:
        findings.sentences.append(
            f"Images whose paths bend more need more steps (rank correlation {found.value:.2f}, {found.low:.2f} to "
            f"{found.high:.2f})."
        )


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _strip(flow: Flow, images: dict[int, np.ndarray], target: np.ndarray) -> Picture:
    """Show what few steps draw beside many."""
    shown = min(SHOWN, flow.count)
    latents = [*(each[:shown] for each in images.values()), target[:shown].reshape(shown, *flow.noise.shape[1:])]
    columns = [flow.pipe.decode_array(np.ascontiguousarray(each, np.float32)) for each in latents]
    tiles = np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])
    names = [_steps(count) for count in [*images, flow.steps]]
    grid = image_grid(np.clip(tiles, -1, 1), len(columns), names * shown)
    return Picture("steps", "What few steps draw from the same noise, without guidance.", to_png(grid))
