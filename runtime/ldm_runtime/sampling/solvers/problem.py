"""The plan that a solver is asked for, and the two ways in which the solvers of diffusers choose noise levels."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule, Schedule
from ldm_runtime.sampling.solvers.levels import (
    ays_ratios,
    fractional_timesteps,
    integer_timesteps,
    levels_of,
    ratio_at,
    spread,
    timestep_of,
    training_ratios,
)
from ldm_runtime.sampling.solvers.options import Range
from ldm_runtime.sampling.solvers.rows import Level, Rows, level_of_ratio

KSigmas = Literal["default", "karras", "exponential", "beta"]
DpmSigmas = Literal["default", "karras", "exponential", "beta", "lu", "ays"]
Final = Literal["zero", "sigma_min"]
LambdaMin = Annotated[float, Range(-math.inf, 100.0)]
FEW_STEPS = 15  # below this many, lower_order_final lowers the order of the last steps


@dataclass(frozen=True)
class Problem:
    """A plan to make.

    start: the first step that is taken (above 0 for image to image only). hooked: whether the loop clips x0.
    """

    model: Schedule
    spacing: str
    steps: int
    start: int
    hooked: bool

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule, for solvers of diffusion models."""
        assert isinstance(self.model, NoiseSchedule)
        return self.model

    @property
    def flow(self) -> FlowSchedule:
        """The schedule, for solvers of flow models."""
        assert isinstance(self.model, FlowSchedule)
        return self.model

    def rows(self, history: int = 0) -> Rows:
        return Rows(self.model.prediction_type, history, hooked=self.hooked)

    def level_at(self, ratio: float) -> Level:
        """Return a level between the trained ones, with its timestep, a fraction."""
        return level_of_ratio(timestep_of(ratio, self.training), ratio)

    @cached_property
    def bars(self) -> list[float]:
        """alphas_cumprod at every training timestep."""
        return self.schedule.alphas_cumprod().tolist()

    def bar_before(self, timestep: int) -> float:
        """Return alphas_cumprod at a timestep, where those below 0 mean full signal, or that of the first timestep."""
        if timestep >= 0:
            return self.bars[timestep]
        return 1.0 if self.schedule.set_alpha_to_one else self.bars[0]

    @cached_property
    def training(self) -> list[float]:
        return training_ratios(self.schedule)


def k_levels(
    problem: Problem,
    sigmas: KSigmas = "default",
    *,
    final: Final = "zero",
    sigma_min: float = 0.0,
    sigma_max: float = 0.0,
    karras_integers: bool = False,
    float64_timesteps: bool = False,
) -> list[Level]:
    """Choose levels as k-diffusion's solvers do: one for every step, and a final one.

    Sigma schedules reach from sigma_max to sigma_min, where these are 0 from the first to the last level of the
    spacing. karras_integers: Karras levels tell the model whole timesteps. float64_timesteps: those of linspace are not
    rounded to float32.
    """
    schedule, steps = problem.schedule, problem.steps
    training = problem.training
    timesteps = fractional_timesteps(schedule, problem.spacing, steps, float64=float64_timesteps)
    ratios = [ratio_at(training, t) for t in timesteps]
    if sigmas != "default":
        high = ratios[0] if sigma_max == 0.0 else sigma_max
        low = ratios[-1] if sigma_min == 0.0 else sigma_min
        ratios = spread(sigmas, high, low, steps)
        timesteps = [timestep_of(ratio, training) for ratio in ratios]
        if sigmas == "karras" and karras_integers:
            timesteps = [float(round(t)) for t in timesteps]
    return levels_of(timesteps, ratios, training[0] if final == "sigma_min" else 0.0)


def k_initial_scale(problem: Problem, levels: list[Level]) -> float:
    """Return the standard deviation of the first x: sigma alone for spacings that start at the last timestep."""
    ratio = levels[0].ratio
    return math.sqrt(ratio * ratio + 1.0) if problem.spacing == "leading" else ratio


def dpm_levels(
    problem: Problem,
    sigmas: DpmSigmas,
    *,
    final: Literal["zero", "sigma_min", "last"],
    rounded: tuple[str, ...] = ("karras",),
    lambda_min: float = -math.inf,
) -> list[Level]:
    """Choose levels as DPM-Solver and its kin do: whole timesteps, sigma schedules over all trained levels.

    final: "zero", "sigma_min" (of the training), or "last" (a schedule's own last level once more). rounded: the sigma
    schedules whose timesteps are rounded; those of the others are cut. lambda_min: without a sigma schedule, the
    noisiest level is that of this ln(alpha / sigma) at most.
    """
    schedule, steps = problem.schedule, problem.steps
    training = problem.training
    if sigmas == "default":
        used = used_timesteps(training, lambda_min)
        if used < 2:
            raise InputError(
                f"lambda_min {lambda_min:g} leaves no trained noise level; use a lower one", code="request.sampler"
            )
        timesteps = integer_timesteps(schedule, problem.spacing, steps, interior=True, last=used)
        ratios = [training[int(t)] for t in timesteps]
    else:
        ratios = ays_ratios(training, steps) if sigmas == "ays" else spread(sigmas, training[-1], training[0], steps)
        exact = [timestep_of(ratio, training) for ratio in ratios]
        timesteps = [float(round(t) if sigmas == "ays" or sigmas in rounded else math.floor(t)) for t in exact]
    return levels_of(timesteps, ratios, {"zero": 0.0, "sigma_min": training[0], "last": ratios[-1]}[final])


def used_timesteps(training: list[float], lambda_min: float) -> int:
    """Count the training timesteps that have ln(alpha / sigma) of lambda_min or more."""
    return sum(-math.log(ratio) >= lambda_min for ratio in training)
