"""Solvers of the discrete diffusion process: DDPM, DDIM, and the few-step samplers of distilled models, LCM and TCD.

They walk training timesteps in the variance-preserving scaling, one model evaluation for each step.
"""

import math
from typing import Annotated, Literal

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.levels import integer_timesteps
from ldm_runtime.sampling.solvers.options import ClipOptions, Options, Range, ThresholdOptions
from ldm_runtime.sampling.solvers.problem import Problem
from ldm_runtime.sampling.solvers.rows import Rows, level_of_bar

SIGMA_DATA = 0.5  # of consistency models, arXiv:2303.01469

OriginalSteps = Annotated[int, Range(1, 100_000)]  # of the solver that a model was distilled from


class DdpmOptions(ThresholdOptions, ClipOptions):
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small"


class DdimOptions(ThresholdOptions, ClipOptions):
    eta: Annotated[float, Range(0.0, 1.0)] = 0.0


class LcmOptions(ThresholdOptions, ClipOptions):
    """The options of LCM.

    reach: the share of the original timesteps, from the cleanest up, on which the steps are spread. A strength sets it,
    as in diffusers' `LatentConsistencyModelImg2ImgPipeline`. 0: all of them, and a strength leaves out steps.
    """

    original_steps: OriginalSteps = 50
    reach: Annotated[float, Range(0.0, 1.0)] = 0.0
    timestep_scaling: Annotated[float, Range(0.0, 1e6)] = 10.0

    def reaching(self, strength: float) -> "LcmOptions | None":
        """Return the options whose reach is the strength, unless it is 0."""
        if self.reach == 0.0:
            return None
        if int(self.original_steps * strength) < 1:
            least = 1 / self.original_steps
            raise InputError(
                f"strength {strength:g} of {self.original_steps} original steps leaves none; use at least {least:g}"
            )
        return LcmOptions(**{**vars(self), "reach": strength})


class TcdOptions(Options):
    eta: Annotated[float, Range(0.0, 1.0)] = 0.0  # as diffusers' pipelines pass it; their scheduler alone has 0.3
    original_steps: OriginalSteps = 50


def solve_ddpm(problem: Problem, options: DdpmOptions) -> tuple[float, Rows]:
    """Sample the posterior of the forward process (arXiv:2006.11239, equations 6 and 7), at any of the timesteps."""
    bars = problem.bars
    timesteps = integer_timesteps(problem.schedule, problem.spacing, problem.steps)
    rows = problem.rows()
    for i in range(problem.start, problem.steps):
        bar = bars[int(timesteps[i])]
        last = i + 1 == problem.steps
        bar_next = 1.0 if last else bars[int(timesteps[i + 1])]
        now, after = level_of_bar(timesteps[i], bar), level_of_bar(math.nan, bar_next)
        read = rows.read(now)
        step_alpha = bar / bar_next
        step_beta = 1.0 - step_alpha
        x = (after.alpha * step_beta / (1.0 - bar)) * read.x0
        x += (math.sqrt(step_alpha) * (1.0 - bar_next) / (1.0 - bar)) * read.x
        large = options.variance == "fixed_large"
        variance = step_beta if large else step_beta * (1.0 - bar_next) / (1.0 - bar)
        if timesteps[i] > 0.0 and variance > 0.0:
            x += math.sqrt(variance) * rows.noise()
        rows.write(read, after, x)
    return 1.0, rows


def solve_ddim(problem: Problem, options: DdimOptions) -> tuple[float, Rows]:
    """Follow equation 12 of arXiv:2010.02502. After t comes t - (training steps // steps), not the next row's."""
    schedule, steps = problem.schedule, problem.steps
    bars = problem.bars
    stride = schedule.num_train_timesteps // steps
    rows = problem.rows()
    for t in integer_timesteps(schedule, problem.spacing, steps)[problem.start :]:
        bar, bar_next = bars[int(t)], problem.bar_before(int(t) - stride)
        now, after = level_of_bar(t, bar), level_of_bar(math.nan, bar_next)
        read = rows.read(now)
        variance = (1.0 - bar_next) / (1.0 - bar) * (1.0 - bar / bar_next)
        deviation = options.eta * math.sqrt(max(variance, 0.0))
        # x' = alpha' x0 + sqrt(sigma'^2 - deviation^2) eps + deviation noise
        x = after.alpha * read.x0 + math.sqrt(max(1.0 - bar_next - deviation**2, 0.0)) * read.eps
        rows.write(read, after, x + deviation * rows.noise())
    return 1.0, rows


def solve_lcm(problem: Problem, options: LcmOptions) -> tuple[float, Rows]:
    """Sample a latent consistency model in several steps (arXiv:2310.04378, algorithm 3)."""
    bars = problem.bars
    timesteps = distilled_timesteps("lcm", problem, options.original_steps, options.reach)
    rows = problem.rows()
    for i in range(problem.start, problem.steps):
        last = i + 1 == problem.steps
        now = level_of_bar(timesteps[i], bars[int(timesteps[i])])
        after = level_of_bar(math.nan, 1.0 if last else bars[int(timesteps[i + 1])])
        read = rows.read(now)
        scaled = timesteps[i] * options.timestep_scaling
        spread = scaled**2 + SIGMA_DATA**2
        denoised = scaled / math.sqrt(spread) * read.x0 + SIGMA_DATA**2 / spread * read.x
        rows.write(read, after, denoised if last else after.alpha * denoised + after.sigma * rows.noise())
    return 1.0, rows


def solve_tcd(problem: Problem, options: TcdOptions) -> tuple[float, Rows]:
    """Sample a trajectory consistency model with strategic noise (arXiv:2402.19159, algorithm 4)."""
    bars = problem.bars
    timesteps = distilled_timesteps("tcd", problem, options.original_steps)
    eta = options.eta
    rows = problem.rows()
    for i in range(problem.start, problem.steps):
        last = i + 1 == problem.steps
        t_next = 0.0 if last else timesteps[i + 1]
        now, after = level_of_bar(timesteps[i], bars[int(timesteps[i])]), level_of_bar(math.nan, bars[int(t_next)])
        middle = level_of_bar(math.nan, bars[math.floor((1.0 - eta) * t_next)])  # the model's jump ends here
        read = rows.read(now)
        x = middle.alpha * read.x0 + middle.sigma * read.eps
        if eta > 0.0 and not last:
            back = after.alpha / middle.alpha
            x = back * x + math.sqrt(max(1.0 - back * back, 0.0)) * rows.noise()
        else:
            after = middle
        rows.write(read, after, x)
    return 1.0, rows


def distilled_timesteps(sampler: str, problem: Problem, original: int, reach: float = 0.0) -> list[float]:
    """Return the timesteps of a distilled model: `steps` of the `original` ones that it was distilled from.

    reach: the share of them that is used; 0: all.
    """
    count, steps = problem.schedule.num_train_timesteps, problem.steps
    used = int(original * reach) if reach > 0.0 else original
    if original > count or steps > used:
        share = f", reach {reach:g}" if reach > 0.0 else ""
        raise InputError(
            f"{steps} steps of {sampler!r} are not usable with original_steps {original}{share} and {count} trained"
            f" timesteps: expected at most {used} steps, and original_steps of at most {count}",
            code="request.sampler",
        )
    stride = count // original
    descending = [float(k * stride - 1) for k in range(used, 0, -1)]
    return [descending[int(i * (used / steps))] for i in range(steps)]  # rounded as NumPy's linspace rounds
