"""What a solver is asked for, and the two ways in which the solvers of diffusers choose noise levels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule, Schedule
from ldm_runtime.sampling.solvers.levels import (
    ays_ratios,
    fractional_timesteps,
    levels_of,
    ratio_at,
    spread,
    timestep_of,
    training_ratios,
    whole_timesteps,
)
from ldm_runtime.sampling.solvers.options import Choice, Number, Option, Value
from ldm_runtime.sampling.solvers.rows import Level, Rows, level_of_ratio

K_SIGMAS = Choice(("default", "karras", "exponential", "beta"))
DPM_SIGMAS = Choice(("default", "karras", "exponential", "beta", "lu", "ays"))
FINAL = Choice(("zero", "sigma_min"))
CLIP: dict[str, Option] = {"clip": Number(0.0, 0.0, 1e6)}
THRESHOLD: dict[str, Option] = {"threshold": Number(0.0, 0.0, 1.0), "threshold_max": Number(1.0, 1.0, 1e6)}


@dataclass(frozen=True)
class Problem:
    """The plan that is wanted. start: the first of the steps that is taken (0 but for image to image)."""

    model: Schedule
    spacing: str
    steps: int
    start: int
    options: Mapping[str, Value]

    @property
    def schedule(self) -> NoiseSchedule:
        """Of a solver for diffusion models."""
        assert isinstance(self.model, NoiseSchedule)
        return self.model

    @property
    def flow(self) -> FlowSchedule:
        """Of a solver for flow models."""
        assert isinstance(self.model, FlowSchedule)
        return self.model

    def word(self, name: str) -> str:
        return str(self.options[name])

    def number(self, name: str) -> float:
        return float(self.options[name])

    def whole(self, name: str) -> int:
        return int(self.options[name])

    def flag(self, name: str) -> bool:
        return bool(self.options[name])

    @property
    def hooked(self) -> bool:
        return any(self.options.get(name, 0.0) != 0.0 for name in ("clip", "threshold"))

    def rows(self, history: int = 0) -> Rows:
        return Rows(self.model.prediction_type, history, hooked=self.hooked)

    def level_at(self, ratio: float) -> Level:
        """A level between the trained ones, with its timestep, a fraction."""
        return level_of_ratio(timestep_of(ratio, self.training), ratio)

    @cached_property
    def bars(self) -> list[float]:
        """alphas_cumprod at every training timestep."""
        return self.schedule.alphas_cumprod().tolist()

    def bar_before(self, timestep: int) -> float:
        """alphas_cumprod at a timestep, where those below 0 mean full signal, or that of the first timestep."""
        if timestep >= 0:
            return self.bars[timestep]
        return 1.0 if self.schedule.set_alpha_to_one else self.bars[0]

    @cached_property
    def training(self) -> list[float]:
        return training_ratios(self.schedule)


def k_levels(problem: Problem, *, karras_whole: bool = False, float64_timesteps: bool = False) -> list[Level]:
    """As the solvers of k-diffusion: levels of every step, and a final one.

    Sigma schedules reach from the first to the last level that the spacing chose. karras_whole: Karras levels tell
    the model whole timesteps. float64_timesteps: those of linspace are not rounded to float32.
    """
    schedule, steps = problem.schedule, problem.steps
    training = problem.training
    timesteps = fractional_timesteps(schedule, problem.spacing, steps, float64=float64_timesteps)
    ratios = [ratio_at(training, t) for t in timesteps]
    kind = str(problem.options.get("sigmas", "default"))
    if kind != "default":
        high = problem.options.get("sigma_max") or ratios[0]
        low = problem.options.get("sigma_min") or ratios[-1]
        ratios = spread(kind, float(high), float(low), steps)
        timesteps = [timestep_of(ratio, training) for ratio in ratios]
        if kind == "karras" and karras_whole:
            timesteps = [float(round(t)) for t in timesteps]
    final = training[0] if problem.options.get("final") == "sigma_min" else 0.0
    return levels_of(timesteps, ratios, final)


def k_initial_scale(problem: Problem, levels: list[Level]) -> float:
    """Standard deviation of the first x; sigma alone for spacings that start at the last timestep."""
    ratio = levels[0].ratio
    return math.sqrt(ratio * ratio + 1.0) if problem.spacing == "leading" else ratio


def dpm_levels(problem: Problem, *, final: str, whole: tuple[str, ...]) -> list[Level]:
    """As DPM-Solver and its kin: whole timesteps, sigma schedules over all trained levels.

    final: "zero", "sigma_min" (of the training), or "last" (a schedule's own last level once more). whole: the sigma
    schedules whose timesteps are rounded; those of the others are cut.
    """
    schedule, steps = problem.schedule, problem.steps
    training = problem.training
    kind = str(problem.options.get("sigmas", "default"))
    if kind == "default":
        used = used_timesteps(training, float(problem.options.get("lambda_min", -math.inf)))
        if used < 2:
            raise InputError(
                f"lambda_min {problem.number('lambda_min'):g} leaves no trained noise level; use a lower one"
            )
        timesteps = whole_timesteps(schedule, problem.spacing, steps, interior=True, last=used)
        ratios = [training[int(t)] for t in timesteps]
    else:
        ratios = ays_ratios(training, steps) if kind == "ays" else spread(kind, training[-1], training[0], steps)
        exact = [timestep_of(ratio, training) for ratio in ratios]
        timesteps = [float(round(t) if kind == "ays" or kind in whole else math.floor(t)) for t in exact]
    return levels_of(timesteps, ratios, {"zero": 0.0, "sigma_min": training[0], "last": ratios[-1]}[final])


def used_timesteps(training: list[float], lambda_min: float) -> int:
    """How many training timesteps have ln(alpha / sigma) of lambda_min or more."""
    return sum(-math.log(ratio) >= lambda_min for ratio in training)
