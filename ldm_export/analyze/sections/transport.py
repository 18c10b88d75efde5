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
    plain_guidance,
    result,
)
from ldm_export.analyze.sections.transport_cost import BATCH, add_codec, add_cost
from ldm_export.analyze.sections.work_budget import WorkBudget, budget_of
from ldm_export.analyze.statistics import FEWEST_TO_RESAMPLE, Interval, bootstrap, over_images, over_resampled, spearman
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, image_grid, to_png
from ldm_runtime.errors import InputError
from ldm_runtime.pipeline import Pipeline

BLOCK = 8
FEWEST_PATHS, FEWEST_STEPS = 4, 25  # paths; steps that count as many
PATHS_SHARE, PAIRS_SHARE = 0.6, 0.3  # of the budget
FEW = (1, 2, 4, 8, 16)
TOLERANCE = 0.1  # of the distance between two results, below which steps suffice
STRAIGHT = 0.1  # of the motion, that may not go straight
SAME = 1e-3  # of the length of latents, below which they do not differ
FEWEST_TO_CORRELATE = 16
SHOWN = 3


@dataclass(frozen=True)
class Flow:
    """What is followed: a pipeline; of each path a prompt, and unit noise (C, h, w); steps that count as many and few.

    guided: of how many paths it is done with the model's guidance too; 0 where it draws without.
    """

    pipe: Pipeline
    prompts: list[str]
    noise: np.ndarray
    many: int
    few: list[int]
    guided: int

    @property
    def count(self) -> int:
        return len(self.prompts)

    @property
    def guidance(self) -> float:
        return self.pipe.contract.defaults.guidance

    @property
    def plain(self) -> float:
        return plain_guidance(self.pipe.contract)


def measure(study: Study) -> Findings:
    """Follow the probability flow in many steps, and compare few steps and other pairings of noise and latents."""
    if study.subject.contract.inpaints:
        raise AnalysisError(
            "this denoiser reads a masked image beside the latents, so it has no way from noise alone; analyse a model "
            "that draws from text"
        )
    findings = Findings()
    budget = budget_of(study)
    flow = _flow(study, budget)
    paths = _paths(study, flow, flow.count, flow.plain)
    guided = _paths(study, flow, flow.guided, flow.guidance) if flow.guided else None
    _add_paths(findings, study, flow, paths, guided)
    _add_few_steps(findings, study, flow, paths, guided)
    _add_pairs(findings, study, flow, budget)
    add_codec(findings, study)
    budget.add_cuts(findings)
    return findings


def _flow(study: Study, budget: WorkBudget) -> Flow:
    """Choose as many paths and steps as fit the budget: the steps first, for the fewest paths."""
    pipe = flow_pipeline(study.subject)
    guides = pipe.contract.evaluates_negative(pipe.contract.defaults.guidance)
    step = budget.denoiser * (3 if guides else 1)  # of one path without guidance, and with
    steps = budget.runs("steps of a path", study.scaled(100, 25), FEWEST_PATHS * step, PATHS_SHARE, FEWEST_STEPS)
    (many,) = even_steps(pipe.contract, [steps])
    few = [each for each in even_steps(pipe.contract, FEW) if 2 * each <= many]
    each_path = step * (many + 2 * sum(few))
    count = budget.runs("paths", study.scaled(40, 8), each_path, PATHS_SHARE, FEWEST_PATHS)
    captions = study.pictures.captions
    chosen = study.random("transport captions").permutation(max(len(captions), 1))
    prompts = [captions[chosen[place % len(chosen)]] if captions else "" for place in range(count)]
    guided = max(min(count, FEWEST_PATHS), count // 3) if guides else 0
    return Flow(pipe, prompts, _noise(study, "captions", count), many, few, guided)


def _add_pairs(findings: Findings, study: Study, flow: Flow, budget: WorkBudget) -> None:
    """Add the costs of as many batches of pairs as fit the budget."""
    size = study.scaled(BATCH, 24)
    steps = budget.runs("steps to pairs", study.scaled(25, 10), size * budget.denoiser, PAIRS_SHARE, 5)
    batches = budget.runs("batches of pairs", study.scaled(3, 1), size * steps * budget.denoiser, PAIRS_SHARE, 1)
    add_cost(findings, study, flow.pipe, _noise(study, "empty prompt", batches * size), steps)


def _noise(study: Study, name: str, count: int) -> np.ndarray:
    space, (width, height) = study.subject.contract.latent, study.subject.size
    shape = (count, space.channels, height // space.downsample, width // space.downsample)
    return study.random(f"transport {name}").standard_normal(shape, np.float32)


def _paths(study: Study, flow: Flow, count: int, guidance: float) -> Paths:
    """Return the paths of the first `count` prompts; they are kept."""

    def points(part: Sequence[int]) -> np.ndarray:
        places = list(part)
        prompts = [flow.prompts[place] for place in places]
        return follow(flow.pipe, prompts, flow.noise[places], flow.many, guidance)

    found = study.in_blocks(f"transport paths with guidance {guidance:g}", range(count), study.at_once(BLOCK), points)
    return Paths(found, flow_times(flow.pipe.contract, flow.many))


# --- Paths ---


def _add_paths(findings: Findings, study: Study, flow: Flow, paths: Paths, guided: Paths | None) -> None:
    random = study.random("transport paths")
    whole, half = bending(paths), bending(paths.thinned())
    detour = lengths(paths) / np.maximum(chords(paths), 1e-9) - 1
    estimator = f"{flow.many} steps of {euler_of(flow.pipe.contract)} without guidance, x / (alpha + sigma)"
    asked = "captions of the images" if study.pictures.captions else "the empty prompt"
    limits = f"Of {asked}. Half as many steps give {100 * half.mean():.3g} %; more should add less than that differs."
    bent, over = over_images(100 * whole, random)
    longer, _ = over_images(100 * detour, random)
    bent_title = "Bending: share of a path's motion that does not go straight"
    longer_title = "How much longer a path is than the line between its ends"
    longer_limits = f"Of {asked}. A line that is walked at changing speed has none."
    findings.figures += [
        Figure.measured("bending", bent_title, bent, "%", estimator, limits, over),
        Figure.measured("detour", longer_title, longer, "%", estimator, longer_limits, over),
    ]
    findings.sentences.append(
        f"{ways_bend(bent)}: {whole.mean():.1%} of its motion does not go straight at one speed, and it is "
        f"{detour.mean():.1%} longer than the line between its ends."
    )
    curves = {"without guidance": bending_by_time(paths)}
    if guided is not None:
        curves[f"with guidance {flow.guidance:g}"] = bending_by_time(guided)
        _add_guided(findings, study, flow, guided, whole[: flow.guided])
    flat = study.latents.reshape(len(study.latents), -1).astype(np.float64)
    noise = flow.noise.reshape(flow.count, -1).astype(np.float64)
    exact = bending(gaussian_paths(noise, flat.mean(axis=0), flat.std(axis=0), paths.times))
    found, over = over_images(100 * exact, random)
    title = "Bending where nothing but the mean and the spread of each number is known"
    limits = "To compare with: the paths of a model that knew no more of the images."
    estimator = "exact paths to independent Gaussians with the means and deviations of the latents of the images"
    findings.figures.append(Figure.measured("bending_gaussian", title, found, "%", estimator, limits, over))
    midpoints = (paths.times[1:] + paths.times[:-1]) / 2
    lines = {
        name: [(float(x), float(100 * y)) for x, y in zip(midpoints, curve, strict=True)]
        for name, curve in curves.items()
    }
    plot = draw_lines(lines, "noise: sigma / (alpha + sigma)", "off the straight way, % of its squared speed")
    caption = (
        "Where paths bend: how far their velocity is off the straight way, from noise (right) to the image (left)."
    )
    findings.pictures.append(Picture("bending", caption, to_png(plot)))


def ways_bend(share: Interval) -> str:
    """Say whether ways from noise to images bend, by the share of their motion that does not go straight, in %."""
    way = "way from noise to an image"
    if share.high < 100 * STRAIGHT:
        return f"The {way} is almost straight"
    if share.low >= 100 * STRAIGHT:
        return f"The {way} bends"
    return f"Whether the {way} is almost straight these images do not tell"


def _add_guided(findings: Findings, study: Study, flow: Flow, guided: Paths, without: np.ndarray) -> None:
    """without: the bending of the same paths without guidance, a share, (N,)."""
    random, bent = study.random("transport guided"), bending(guided)
    found, over = over_images(100 * bent, random)
    title = f"Bending with the model's guidance of {flow.guidance:g}"
    estimator = f"{flow.many} steps of {euler_of(flow.pipe.contract)}, x / (alpha + sigma)"
    limits = "Guided paths end elsewhere: they are not the flow from noise to the data."
    findings.figures.append(Figure.measured("bending_guided", title, found, "%", estimator, limits, over))
    more, over = over_images(100 * (bent - without), random)
    title = f"By how much guidance of {flow.guidance:g} bends paths more"
    estimator = "difference of the bending with and without it, of the same noise and prompt"
    findings.figures.append(Figure.measured("bending_by_guidance", title, more, "% points", estimator, limits, over))
    findings.sentences.append(guided_sentence(found.value, 100 * float(without.mean()), more, flow.guidance))


def guided_sentence(guided: float, without: float, more: Interval, guidance: float) -> str:
    """Say whether guidance bends paths. guided, without: in %. more: the difference over the same images."""
    change = f"{guided:.1f} % of the motion with a guidance of {guidance:g}, {without:.1f} % without"
    if more.low > 0:
        return f"Guidance bends it more: {change}."
    if more.high < 0:
        return f"Guidance bends it less: {change}."
    return f"That guidance bends it more or less these images do not tell: {change}."


# --- Few steps ---


def _add_few_steps(findings: Findings, study: Study, flow: Flow, paths: Paths, guided: Paths | None) -> None:
    contract = flow.pipe.contract
    euler, own = euler_of(contract), contract.defaults.sampler
    cases = [(euler, flow.plain, paths)]
    if own != euler and is_deterministic(contract, own):
        cases.append((own, flow.plain, paths))
    if guided is not None:
        cases.append((euler, flow.guidance, guided))
    if any(_are_the_same(many.points[:, -1]) for _, _, many in cases):
        findings.sentences.append("All noises lead to the same latents: errors of few steps were not measured.")
        return
    random = study.random("transport few steps")
    rows: list[tuple[Cell, ...]] = []
    lines = {}
    for sampler, guidance, many in cases:
        name = sampler if many is paths else f"{sampler} with guidance {guidance:g}"
        errors, typical = {}, typical_distance(pair_distances(many.points[:, -1]))
        for steps in flow.few:
            drawn = _few(study, flow, sampler, steps, guidance, len(many.points))
            if drawn is not None:
                off = drawn.reshape(len(drawn), -1).astype(np.float64) - many.points[:, -1]
                errors[steps] = np.linalg.norm(off, axis=1) / typical
        if not errors:
            continue
        for steps, values in errors.items():
            found, _ = over_images(100 * values, random)
            rows.append((name, steps, found.value, found.low, found.high))
        key = "guided" if many is guided else "euler" if sampler == euler else "default"
        findings.figures.append(_needed(study, f"steps_needed_{key}", name, errors, flow))
        lines[name] = [(float(steps), float(100 * values.mean())) for steps, values in errors.items()]
        if key == "euler":
            _add_relation(findings, study, paths, errors)
        if key != "default":
            _say_few_steps(findings, key, name, errors)
    if not lines:
        findings.sentences.append(f"{flow.many} steps are too few to compare fewer with.")
        return
    reference = f"the latents of {flow.many} steps of {euler}"
    note = f"Distance from {reference}, in % of that between two of them. Steps begin at the last timestep."
    head = ("sampler", "steps", "off, %", "low", "high")
    findings.tables.append(Table("few_steps", "How far few steps are off", head, tuple(rows), note))
    plot = draw_lines(lines, "steps", "off, % of the distance between two images", log=True, log_x=True)
    findings.pictures.append(Picture("few_steps", f"Distance from {reference}.", to_png(plot)))
    findings.pictures.append(_strip(study, flow, paths if guided is None else guided))


def _are_the_same(latents: np.ndarray) -> bool:
    """Return whether all noises lead to the same latents (N, D)."""
    return typical_distance(pair_distances(latents)) <= SAME * float(np.linalg.norm(latents, axis=1).mean())


def _say_few_steps(findings: Findings, key: str, name: str, errors: dict[int, np.ndarray]) -> None:
    first, needed = next(iter(errors)), findings.value(f"steps_needed_{key}")
    said = (
        f"{_steps(first)} of {name} {'ends' if first == 1 else 'end'} {errors[first].mean():.0%} of the distance "
        f"between two images away from where many steps end"
    )
    if needed is not None and needed > first:
        said += f"; {_steps(int(needed))} end less than {TOLERANCE:.0%} away"
    findings.sentences.append(f"{said}.")


def _few(study: Study, flow: Flow, sampler: str, steps: int, guidance: float, count: int) -> np.ndarray | None:
    """Return the latents of few steps (count, C, h, w); None where the sampler cannot take so few."""

    def draw(part: Sequence[int]) -> np.ndarray:
        places = list(part)
        prompts = [flow.prompts[place] for place in places]
        return result(flow.pipe, prompts, flow.noise[places], steps, sampler, guidance)

    name = f"transport {sampler} {steps} steps, guidance {guidance:g}".replace(":", " ")
    try:
        return study.in_blocks(name, range(count), study.at_once(BLOCK), draw)
    except InputError:
        return None


def _needed(study: Study, key: str, name: str, errors: dict[int, np.ndarray], flow: Flow) -> Figure:
    counts, table = np.array(list(errors)), np.stack(list(errors.values()), axis=1)  # (N, steps)
    title, limits = f"Steps of {name} that suffice", "Of the distance between two images, not of what is seen."
    estimator = (
        f"fewest of {', '.join(map(str, counts))} from which on the distance from {flow.many} steps is below "
        f"{TOLERANCE:.0%} of that between two images"
    )

    def fewest(part: np.ndarray) -> float:
        misses = np.flatnonzero(part.mean(axis=0) >= TOLERANCE)
        first = misses[-1] + 1 if len(misses) else 0
        return float(counts[first]) if first < len(counts) else float("inf")

    value = fewest(table)
    if not np.isfinite(value):
        return Figure(key, title, None, "steps", estimator, limits, note=f"{counts[-1]} steps do not.")
    if len(table) < FEWEST_TO_RESAMPLE:
        alone = [fewest(row[None]) for row in table]
        over = f"range of {len(table)} images"
        if np.isfinite(alone).all():
            return Figure(key, title, value, "steps", estimator, limits, min(alone), max(alone), over)
        return Figure(key, title, value, "steps", estimator, limits, interval=f"{min(alone):g} or more ({over})")
    found = bootstrap(table, study.random("transport needed"), fewest, 400)
    over = over_resampled(len(table))
    if np.isfinite(found.high):
        return Figure.measured(key, title, found, "steps", estimator, limits, over)
    return Figure(key, title, value, "steps", estimator, limits, interval=f"{found.low:g} or more ({over})")


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
    over = over_resampled(len(both))
    findings.figures.append(Figure.measured("relation", title, found, "", estimator, limits, over))
    findings.sentences.append(_relation_sentence(found, len(both), _steps(steps)))


def _relation_sentence(found: Interval, count: int, steps: str) -> str:
    """Say what the rank correlation of bending and the error of few steps is, and what it does not tell."""
    told = f"rank correlation {found.value:+.2f}, from {found.low:+.2f} to {found.high:+.2f}, over {count} images"
    if found.low <= 0 <= found.high:
        return (
            f"Whether results of {steps} end farther off where a path bends more is not to be told from these images "
            f"({told})."
        )
    nature = "farther off" if found.low > 0 else "less far off"
    return (
        f"Where a path bends more, results of {steps} tend to end {nature} ({told}): the two go together, which does "
        "not say that bending is why."
    )


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _strip(study: Study, flow: Flow, many: Paths) -> Picture:
    """Show what few steps draw beside many: with guidance, if the model draws with it. All of it was drawn before."""
    shown, sampler = min(SHOWN, len(many.points)), euler_of(flow.pipe.contract)
    guidance = flow.guidance if flow.guided else flow.plain
    drawn = {steps: _few(study, flow, sampler, steps, guidance, len(many.points)) for steps in flow.few}
    columns = {steps: each[:shown] for steps, each in drawn.items() if each is not None}
    columns[flow.many] = many.points[:shown, -1].reshape(flow.noise[:shown].shape)
    latents = np.stack(list(columns.values()), axis=1)
    images = flow.pipe.decode_array(latents.reshape(-1, *latents.shape[2:]))
    names = [_steps(each) for each in columns] * shown
    grid = image_grid(np.clip(images, -1, 1), len(columns), names)
    with_guidance = f"with guidance {flow.guidance:g}" if flow.guided else "without guidance"
    return Picture("steps", f"What {sampler} {with_guidance} draws of the same noise in few steps.", to_png(grid))
