"""DEIS (arXiv:2204.13902), checked against diffusers' DEISMultistepScheduler."""

import math
from typing import Annotated

from ldm_runtime.sampling.solvers.forms import weighted_sum
from ldm_runtime.sampling.solvers.options import Range, ThresholdOptions
from ldm_runtime.sampling.solvers.problem import FEW_STEPS, KSigmas, Problem, dpm_levels
from ldm_runtime.sampling.solvers.rows import Rows


class DeisOptions(ThresholdOptions):
    order: Annotated[int, Range(1, 3)] = 2
    sigmas: KSigmas = "default"
    lower_order_final: bool = True


def solve_deis(problem: Problem, options: DeisOptions) -> tuple[float, Rows]:
    """Integrate the polynomial of eps in ln rho, rho = sigma / alpha, over rho (DEIS-rhoAB)."""
    order, steps = options.order, problem.steps
    levels = dpm_levels(problem, options.sigmas, final="sigma_min" if options.sigmas == "default" else "last")
    few = options.lower_order_final and steps < FEW_STEPS
    rows = problem.rows(history=order - 1)  # eps, the latest first
    for i in range(problem.start, steps):
        used = min(order, 1 + i - problem.start, steps - i if few else order)
        now, after = levels[i], levels[i + 1]
        read = rows.read(now)
        outputs = [read.eps_of_x0, *read.history]
        nodes = [levels[i - k].ratio for k in range(used)]
        weights = [_rho_integral(nodes, k, now.ratio, after.ratio) for k in range(used)]
        moved = weighted_sum(weights, outputs[:used])
        rows.write(read, after, after.alpha * (read.x / now.alpha + moved), outputs[: order - 1])
    return 1.0, rows


def _rho_integral(nodes: list[float], chosen: int, start: float, stop: float) -> float:
    """Integrate the polynomial in ln rho that is 1 at nodes[chosen] and 0 at the others, from start to stop, exactly.

    The integral of (ln rho)^n is rho times 1, u - 1, u^2 - 2u + 2 for n = 0, 1, 2 and u = ln rho.
    """
    others = [math.log(node) for index, node in enumerate(nodes) if index != chosen]
    scale = math.prod(math.log(nodes[chosen]) - other for other in others)

    def primitive(rho: float) -> float:
        u = math.log(rho)
        if len(others) == 0:
            return rho
        if len(others) == 1:
            return rho * (u - 1.0 - others[0])
        return rho * (u * u - 2.0 * u + 2.0 - (others[0] + others[1]) * (u - 1.0) + others[0] * others[1])

    return (primitive(stop) - primitive(start)) / scale
