"""Solvers of k-diffusion, in the scaling x = x0 + s * eps: Euler, Heun, DPM2, DPM++ SDE, LMS and ancestral ones.

Sources: Karras et al. 2022 (arXiv:2206.00364), and the k-diffusion library that named these samplers.
The slope of the probability-flow ODE is (x - x0) / s; a step along it from s to s' is
x' = (s'/s) x + (1 - s'/s) x0.
"""

import math
from itertools import pairwise
from typing import Annotated

from ldm_runtime.sampling.solvers.forms import Form, weighted_sum
from ldm_runtime.sampling.solvers.lagrange import lagrange
from ldm_runtime.sampling.solvers.options import ClipOptions, Options, Range
from ldm_runtime.sampling.solvers.problem import Final, KSigmas, Problem, k_initial_scale, k_levels
from ldm_runtime.sampling.solvers.rows import Level, Reading, Rows

LMS_ORDER = 4


class SigmaOptions(Options):
    sigmas: KSigmas = "default"


class EulerOptions(SigmaOptions):
    """The options of Euler; a sigma_min or sigma_max of 0 stands for the first or last level of the spacing."""

    final: Final = "zero"
    sigma_min: Annotated[float, Range(0.0, 1e6)] = 0.0
    sigma_max: Annotated[float, Range(0.0, 1e6)] = 0.0


class HeunOptions(SigmaOptions, ClipOptions):
    """The options of Heun."""


def solve_euler(problem: Problem, options: EulerOptions) -> tuple[float, Rows]:
    """Take Euler's steps."""
    levels = k_levels(
        problem, options.sigmas, final=options.final, sigma_min=options.sigma_min, sigma_max=options.sigma_max
    )
    rows = problem.rows()
    for now, after in _steps(problem, levels):
        read = rows.read(now, now.alpha)
        rows.write(read, after, _towards(read, after.ratio))
    return k_initial_scale(problem, levels), rows


def solve_euler_ancestral(problem: Problem, options: Options) -> tuple[float, Rows]:
    """Step by Euler below the next noise level, then add fresh noise up to it; the last row adds none."""
    levels = k_levels(problem)
    rows = problem.rows()
    for now, after in _steps(problem, levels):
        read = rows.read(now, now.alpha)
        down, up = ancestral(now.ratio, after.ratio)
        rows.write(read, after, _towards(read, down) + up * rows.noise())
    return k_initial_scale(problem, levels), rows


def solve_heun(problem: Problem, options: HeunOptions) -> tuple[float, Rows]:
    """Step by Euler, then once more with the mean of both ends' slopes; the last step is Euler's."""
    levels = k_levels(problem, options.sigmas)
    rows = problem.rows(history=2)  # x and the slope at the start of the step
    for now, after in _steps(problem, levels):
        read = rows.read(now, now.alpha)
        euler, past = _towards(read, after.ratio), [read.x, (read.x - read.x0) / now.ratio]
        rows.write(read, after, euler, past, ends_step=after.sigma == 0.0)
        if after.sigma > 0.0:
            read = rows.read(after, after.alpha)
            start, slope = read.history
            mean = 0.5 * (slope + (read.x - read.x0) / after.ratio)
            rows.write(read, after, start + (after.ratio - now.ratio) * mean)
    return k_initial_scale(problem, levels), rows


def solve_dpm2(problem: Problem, options: SigmaOptions) -> tuple[float, Rows]:
    """Step with the slope half way along ln s (DPM-Solver-2 as Karras et al. write it); the last step is Euler's."""
    levels = k_levels(problem, options.sigmas, karras_integers=True)
    rows = problem.rows(history=1)  # x at the start of the step
    for now, after in _steps(problem, levels):
        read = rows.read(now, now.alpha)
        if after.sigma > 0.0:
            middle = problem.level_at(math.sqrt(now.ratio * after.ratio))
            rows.write(read, middle, _towards(read, middle.ratio), [read.x], ends_step=False)
            read = rows.read(middle, middle.alpha)
            (start,) = read.history
            rows.write(read, after, start + (after.ratio - now.ratio) / middle.ratio * (read.x - read.x0))
        else:
            rows.write(read, after, _towards(read, after.ratio))
    return k_initial_scale(problem, levels), rows


def solve_dpm2_ancestral(problem: Problem, options: SigmaOptions) -> tuple[float, Rows]:
    """Step by DPM2 below the next noise level, then add fresh noise up to it."""
    levels = k_levels(problem, options.sigmas, karras_integers=True)
    rows = problem.rows(history=1)
    for now, after in _steps(problem, levels):
        read = rows.read(now, now.alpha)
        if after.sigma > 0.0:
            down, up = ancestral(now.ratio, after.ratio)
            middle = problem.level_at(math.sqrt(now.ratio * down))
            rows.write(read, middle, _towards(read, middle.ratio), [read.x], ends_step=False)
            read = rows.read(middle, middle.alpha)
            (start,) = read.history
            x = start + (down - now.ratio) / middle.ratio * (read.x - read.x0)
            rows.write(read, after, x + up * rows.noise())
        else:
            rows.write(read, after, _towards(read, after.ratio))
    return k_initial_scale(problem, levels), rows


def solve_dpmpp_sde(problem: Problem, options: SigmaOptions) -> tuple[float, Rows]:
    """Take DPM-Solver++ SDE steps with a row half way (k-diffusion's sample_dpmpp_sde, eta 1, r 1/2).

    Both rows of a step walk along one Brownian path in s. Its way to the middle is one stream of noise, its way on
    from there another; the second row needs the whole way and so reads both.
    """
    levels = k_levels(problem, options.sigmas, float64_timesteps=True)
    rows = problem.rows(history=1)
    for now, after in _steps(problem, levels):
        read = rows.read(now, now.alpha)
        if after.sigma > 0.0:
            middle = problem.level_at(math.sqrt(now.ratio * after.ratio))
            down, up = ancestral(now.ratio, middle.ratio)
            rows.write(read, middle, _towards(read, down) + up * rows.noise(), [read.x], ends_step=False)
            read = rows.read(middle, middle.alpha)
            (start,) = read.history
            down, up = ancestral(now.ratio, after.ratio)
            whole = now.ratio - after.ratio
            path = math.sqrt((now.ratio - middle.ratio) / whole) * rows.noise(rows_ago=1)
            path += math.sqrt((middle.ratio - after.ratio) / whole) * rows.noise()
            keep = down / now.ratio
            rows.write(read, after, keep * start + (1.0 - keep) * read.x0 + up * path)
        else:
            rows.write(read, after, _towards(read, after.ratio))
    return k_initial_scale(problem, levels), rows


def solve_lms(problem: Problem, options: SigmaOptions) -> tuple[float, Rows]:
    """Integrate the polynomial through the last slopes (Adams-Bashforth on uneven levels)."""
    levels = k_levels(problem, options.sigmas)
    rows = problem.rows(history=LMS_ORDER - 1)  # slopes, the latest first
    for i, (now, after) in enumerate(_steps(problem, levels), start=problem.start):
        read = rows.read(now, now.alpha)
        slopes = [(read.x - read.x0) / now.ratio, *read.history][: i + 1 - problem.start]
        nodes = [levels[i - k].ratio for k in range(min(i + 1, LMS_ORDER))]
        # After a late start diffusers goes through nodes before it too, and leaves out their slopes.
        known = min(len(nodes), len(slopes))
        weights = [_integral(nodes, k, now.ratio, after.ratio) for k in range(known)]
        rows.write(read, after, read.x + weighted_sum(weights, slopes[:known]), slopes[: LMS_ORDER - 1])
    return k_initial_scale(problem, levels), rows


def ancestral(ratio: float, ratio_next: float) -> tuple[float, float]:
    """Return (down, up): going down to `down` and adding noise of deviation `up` ends at ratio_next."""
    up = ratio_next * math.sqrt((ratio - ratio_next) * (ratio + ratio_next)) / ratio
    return ratio_next * ratio_next / ratio, up


def _steps(problem: Problem, levels: list[Level]) -> list[tuple[Level, Level]]:
    return list(pairwise(levels[problem.start :]))


def _towards(read: Reading, ratio: float) -> Form:
    """Go along the slope from this level to `ratio`."""
    keep = ratio / read.level.ratio
    return keep * read.x + (1.0 - keep) * read.x0


def _integral(nodes: list[float], chosen: int, start: float, stop: float) -> float:
    """Integrate the Lagrange polynomial of nodes[chosen] from start to stop, exactly."""
    width = stop - start
    polynomial = lagrange(nodes, chosen, origin=start)
    return sum(value * width ** (power + 1) / (power + 1) for power, value in enumerate(polynomial))
