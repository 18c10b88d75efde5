"""Euler's method on the straight paths of rectified flow (arXiv:2403.03206), as FlowMatchEulerDiscreteScheduler."""

from itertools import pairwise

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.levels import check_falling, linspace, spread
from ldm_runtime.sampling.solvers.options import Options
from ldm_runtime.sampling.solvers.problem import KSigmas, Problem
from ldm_runtime.sampling.solvers.rows import Level, Rows


class FlowEulerOptions(Options):
    sigmas: KSigmas = "default"
    stochastic: bool = False


def solve_flow_euler(problem: Problem, options: FlowEulerOptions) -> tuple[float, Rows]:
    """Step by x' = x + (s' - s) * (eps - x0); if stochastic, to the predicted image with fresh noise of level s'."""
    sigmas = flow_sigmas(problem, options.sigmas)
    count = problem.flow.num_train_timesteps
    levels = [Level(sigma * count, 1.0 - sigma, sigma) for sigma in [*sigmas, 0.0]]
    rows = problem.rows()
    for now, after in pairwise(levels[problem.start :]):
        read = rows.read(now)
        if options.stochastic:
            x = after.alpha * read.x0 + after.sigma * rows.noise()
        else:
            x = read.x + (after.sigma - now.sigma) * read.output
        rows.write(read, after, x)
    return 1.0, rows


def flow_sigmas(problem: Problem, kind: KSigmas) -> list[float]:
    """Return falling sigmas, one a step: even, shifted towards noise, stretched to the terminal one, then spread."""
    flow, steps = problem.flow, problem.steps

    def shifted(sigma: float) -> float:
        return flow.shift * sigma / (1.0 + (flow.shift - 1.0) * sigma)

    sigmas = [shifted(sigma) for sigma in linspace(1.0, shifted(1.0 / flow.num_train_timesteps), steps)]
    if flow.shift_terminal:
        if sigmas[-1] >= 1.0:
            raise InputError(
                "one step of a flow with shift_terminal never reaches it; use 2 steps or more", code="request.sampler"
            )
        scale = (1.0 - sigmas[-1]) / (1.0 - flow.shift_terminal)
        sigmas = [1.0 - (1.0 - sigma) / scale for sigma in sigmas]
    if kind != "default":
        sigmas = spread(kind, sigmas[0], sigmas[-1], steps)
    check_falling([sigma * flow.num_train_timesteps for sigma in sigmas], [*sigmas, 0.0])
    return sigmas
