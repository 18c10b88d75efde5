"""The noise levels that a sampler visits: timestep spacings, and sigma schedules between two levels.

Everything here follows the schedulers of diffusers 0.39 to the rounding of each timestep, because the model
is told the timestep. A ratio is sigma / alpha, which diffusers calls sigma.

Where diffusers leaves the trained timesteps by accident we do not follow: leading with an offset and as many
steps as training had ends above the last one (refused); trailing makes one row too many, at timestep -1, for
61, 103, … of 1000 steps (left out).
"""

import bisect
import math
from itertools import pairwise

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers.beta import beta_quantile
from ldm_runtime.sampling.solvers.rows import Level, level_of_ratio

KARRAS_RHO = 7.0
BETA_SHAPE = 0.6
SMALLEST_ALPHA_CUMPROD = 2.0**-24  # stands for 0 where a sampler divides by alpha, as in diffusers
# Align Your Steps (arXiv:2404.14507), Stable Diffusion 1.5, ten steps
AYS_TIMESTEPS = (999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0)


def linspace(start: float, stop: float, count: int) -> list[float]:
    if count == 1:
        return [start]
    step = (stop - start) / (count - 1)
    return [start + i * step for i in range(count - 1)] + [stop]


def training_ratios(schedule: NoiseSchedule) -> list[float]:
    """Return sigma / alpha at every training timestep, increasing; finite under zero terminal SNR too."""
    bars = schedule.alphas_cumprod()
    if schedule.rescale_betas_zero_snr:
        bars[-1] = SMALLEST_ALPHA_CUMPROD
    return [math.sqrt((1.0 - bar) / bar) for bar in bars.tolist()]


def integer_timesteps(
    schedule: NoiseSchedule, spacing: str, steps: int, *, interior: bool = False, last: int | None = None
) -> list[float]:
    """Return integer timesteps, high to low (table 2 of arXiv:2305.08891, rounding as in diffusers: half to even).

    interior: as DPM-Solver counts, steps + 1 points of which the lowest is left out. last: the number of training
    timesteps that are used, all if None.
    """
    count = schedule.num_train_timesteps
    used = count if last is None else last
    points = steps + 1 if interior else steps
    if spacing == "linspace":
        grid = [float(round(t)) for t in linspace(0.0, used - 1.0, points)]
        timesteps = grid[::-1][:steps]
    elif spacing == "leading":
        stride = used // points
        timesteps = [float(i * stride + schedule.steps_offset) for i in reversed(range(points))][:steps]
    else:  # trailing; the increment is taken from the first two points, as arange does, which decides ties
        increment = (used - count / steps) - used
        timesteps = [float(round(used + i * increment) - 1) for i in range(steps)]
    for t in timesteps:
        check_trained(schedule, spacing, steps, t)
    return timesteps


def fractional_timesteps(schedule: NoiseSchedule, spacing: str, steps: int, *, float64: bool = False) -> list[float]:
    """Return timesteps as k-diffusion counts them: linspace gives fractions, as float32 values unless float64."""
    if spacing != "linspace":
        return integer_timesteps(schedule, spacing, steps)
    grid = linspace(0.0, schedule.num_train_timesteps - 1.0, steps)[::-1]
    return grid if float64 else [float(np.float32(t)) for t in grid]


def ratio_at(ratios: list[float], timestep: float) -> float:
    """Return sigma / alpha at a timestep, interpolated linearly between training timesteps."""
    low = min(int(timestep), len(ratios) - 2)
    return ratios[low] + (timestep - low) * (ratios[low + 1] - ratios[low])


def timestep_of(ratio: float, ratios: list[float]) -> float:
    """Return the timestep of a noise level, a fraction, interpolated in ln(sigma / alpha)."""
    last = len(ratios) - 1  # the only one that may be below the one before it
    low = last if ratios[last] <= ratio else max(bisect.bisect_right(ratios, ratio, hi=last) - 1, 0)
    low = min(low, last - 1)
    log_low, log_high = math.log(ratios[low]), math.log(ratios[low + 1])
    weight = (log_low - math.log(max(ratio, 1e-10))) / (log_low - log_high)
    weight = min(max(weight, 0.0), 1.0)
    return (1.0 - weight) * low + weight * (low + 1)


def spread(kind: str, high: float, low: float, steps: int) -> list[float]:
    """Return `steps` ratios from high to low.

    karras: equation 5 of arXiv:2206.00364, rho 7. exponential: even in the logarithm. beta: at the quantiles of
    Beta(0.6, 0.6), arXiv:2407.12173. lu: even in lambda, arXiv:2206.00927, the same as exponential.
    """
    if kind == "karras":
        top, bottom = high ** (1.0 / KARRAS_RHO), low ** (1.0 / KARRAS_RHO)
        return [(top + ramp * (bottom - top)) ** KARRAS_RHO for ramp in linspace(0.0, 1.0, steps)]
    if kind == "beta":
        shares = [1.0 - share for share in linspace(0.0, 1.0, steps)]
        return [low + beta_quantile(share, BETA_SHAPE) * (high - low) for share in shares]
    return [math.exp(value) for value in linspace(math.log(high), math.log(low), steps)]


def ays_ratios(ratios: list[float], steps: int) -> list[float]:
    """Return the levels of Align Your Steps; numbers other than ten are interpolated in the logarithm.

    The eleventh level, which is left out here, is the lowest trained one.
    """
    levels = [math.log(ratio_at(ratios, t)) for t in (*AYS_TIMESTEPS, 0.0)]
    places = linspace(0.0, len(levels) - 1.0, steps + 1)[:steps]
    between = []
    for place in places:
        low = int(place)
        between.append(levels[low] + (place - low) * (levels[low + 1] - levels[low]))
    return [math.exp(value) for value in between]


def levels_of(timesteps: list[float], ratios: list[float], final: float) -> list[Level]:
    """Return the levels of falling ratios, and the final one, which no model sees. It may equal the last.

    Raises InputError for ratios that do not fall.
    """
    if final > 0.0 and abs(final / ratios[-1] - 1.0) < 1e-9:
        final = ratios[-1]
    check_falling(timesteps, ratios if final == ratios[-1] else [*ratios, final])
    levels = [level_of_ratio(t, ratio) for t, ratio in zip(timesteps, ratios, strict=True)]
    return [*levels, level_of_ratio(math.nan, final)]


def check_trained(schedule: NoiseSchedule, spacing: str, steps: int, timestep: float) -> None:
    last = schedule.num_train_timesteps - 1
    if not 0 <= timestep <= last:
        raise InputError(
            f"{steps} steps with timestep_spacing {spacing!r} and steps_offset {schedule.steps_offset}"
            f" reach timestep {timestep:g}, but the model was trained on 0 to {last}; use fewer steps",
            code="request.sampler",
        )


def check_falling(timesteps: list[float], ratios: list[float]) -> None:
    """Raise InputError unless each ratio is below the one before."""
    for i, (ratio, following) in enumerate(pairwise(ratios)):
        if not following < ratio:
            raise InputError(
                f"{len(timesteps)} steps are too many for this sampler and schedule: the noise does not fall"
                f" after step {i + 1} (timestep {timesteps[i]:g}); use fewer steps or another timestep_spacing",
                code="request.sampler",
            )
