"""DPM-Solver and DPM-Solver++ (arXiv:2206.00927, arXiv:2211.01095), multistep and single-step, as ODE and as SDE.

They solve the semilinear ODE exactly but for the model, which stands in the integral as a polynomial in
lambda = ln(alpha / sigma). With h = lambda' - lambda, exp(-h) = ratio' / ratio, which is fine at sigma' = 0 too.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.forms import Form
from ldm_runtime.sampling.solvers.options import Range, ThresholdOptions
from ldm_runtime.sampling.solvers.problem import (
    FEW_STEPS,
    DpmSigmas,
    Final,
    KSigmas,
    LambdaMin,
    Problem,
    dpm_levels,
)
from ldm_runtime.sampling.solvers.rows import Level, Reading, Rows

SolverType = Literal["midpoint", "heun"]


class DpmSolverOptions(ThresholdOptions):
    order: Annotated[int, Range(1, 3)] = 2
    algorithm: Literal["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"] = "dpmsolver++"
    solver_type: SolverType = "midpoint"
    sigmas: DpmSigmas = "default"
    final: Final = "zero"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min: LambdaMin = -math.inf


class SinglestepOptions(ThresholdOptions):
    order: Annotated[int, Range(1, 3)] = 2
    algorithm: Literal["dpmsolver++", "dpmsolver", "sde-dpmsolver++"] = "dpmsolver++"
    solver_type: SolverType = "midpoint"
    sigmas: KSigmas = "default"
    final: Final = "zero"
    lower_order_final: bool = False
    lambda_min: LambdaMin = -math.inf


def solve_multistep(problem: Problem, options: DpmSolverOptions) -> tuple[float, Rows]:
    """Use the outputs of the rows before; the first rows, and by its options the last ones, have a lower order."""
    order, final, algorithm = options.order, options.final, options.algorithm
    _check_end("dpmsolver", algorithm, final)
    if algorithm == "sde-dpmsolver" and order == 3:
        raise InputError(
            "sampler 'dpmsolver': sde-dpmsolver has no order 3; use order 1 or 2, or sde-dpmsolver++",
            code="request.sampler",
        )
    cosine = problem.schedule.beta_schedule == "squaredcos_cap_v2"
    levels = dpm_levels(
        problem, options.sigmas, final=final, rounded=() if cosine else ("karras", "lu"), lambda_min=options.lambda_min
    )
    few = options.lower_order_final and problem.steps < FEW_STEPS
    rows = problem.rows(history=order - 1)  # converted outputs, the latest first
    for i in range(problem.start, problem.steps):
        left = problem.steps - i
        used = min(order, 1 + i - problem.start)
        if left == 1 and (options.euler_at_final or few or final == "zero"):
            used = 1
        elif left == 2 and few:
            used = min(used, 2)
        if levels[i + 1].ratio == levels[i].ratio:
            used = 1  # a last step that goes nowhere
        read = rows.read(levels[i])
        outputs = [_converted(algorithm, read), *read.history]
        derivatives = _derivatives_at_latest(outputs[:used], [levels[i - k] for k in range(used)], levels[i + 1])
        step = _exact_step(algorithm, levels[i], levels[i + 1])
        x = step.solve(read.x, derivatives, "heun" if used == 3 else options.solver_type)
        rows.write(read, levels[i + 1], x + step.deviation * rows.noise(), outputs[: order - 1])
    return 1.0, rows


def solve_singlestep(problem: Problem, options: SinglestepOptions) -> tuple[float, Rows]:
    """Take steps of 1, 2 or 3 rows, each from where the step began. The spacing is always linspace."""
    order, final, algorithm = options.order, options.final, options.algorithm
    _check_end("dpmsolver_singlestep", algorithm, final)
    levels = dpm_levels(problem, options.sigmas, final=final, lambda_min=options.lambda_min)
    orders = _orders(problem.steps, order, options.lower_order_final, final)
    rows = problem.rows(history=order)  # converted outputs, the latest first, and x where the step began
    for i in range(problem.start, problem.steps):
        used = min(orders[i], 1 + i - problem.start)
        read = rows.read(levels[i])
        outputs = [_converted(algorithm, read), *read.history[: order - 1]]
        begun = read.x if used == 1 else read.history[order - 1]
        nodes = [levels[i - k] for k in range(used)]
        derivatives = _derivatives_at_earliest(outputs[:used], nodes, levels[i + 1], options.solver_type)
        step = _exact_step(algorithm, nodes[-1], levels[i + 1])
        x = step.solve(begun, derivatives, "heun" if used == 3 else options.solver_type)
        rows.write(read, levels[i + 1], x + step.deviation * rows.noise(), [*outputs[: order - 1], begun])
    return 1.0, rows


def _check_end(sampler: str, algorithm: str, final: Final) -> None:
    if not algorithm.endswith("++") and final == "zero":
        raise InputError(
            f"sampler {sampler!r}: {algorithm} cannot end at zero noise; use it with final=sigma_min",
            code="request.sampler",
        )


def _orders(steps: int, order: int, lower_order_final: bool, final: Final) -> list[int]:
    """Return the order of each row; where the last step would be incomplete or end at zero noise, it is lowered."""
    cycle = list(range(1, order + 1))
    whole, rest = divmod(steps, order)
    if not (lower_order_final or rest != 0 or final == "zero"):
        return cycle * whole
    if rest != 0 or order == 1:
        orders = cycle * whole + list(range(1, rest + 1))
    else:
        orders = cycle * (whole - 1) + cycle[:-1] + [1]
    if final == "zero":
        orders[-1] = 1
    return orders


def _converted(algorithm: str, read: Reading) -> Form:
    """Return what the polynomial goes through: x0 for the ++ algorithms, eps for the others."""
    return read.x0 if algorithm.endswith("++") else read.eps_of_x0


def _derivatives_at_latest(outputs: list[Form], nodes: list[Level], after: Level) -> list[Form]:
    """Return D0, D1, D2 at the latest of the nodes: derivatives of the polynomial, in units of h."""
    if len(outputs) == 1:
        return outputs
    h = after.log_snr - nodes[0].log_snr
    r0 = (nodes[0].log_snr - nodes[1].log_snr) / h
    first = (outputs[0] - outputs[1]) / r0
    if len(outputs) == 2:
        return [outputs[0], first]
    r1 = (nodes[1].log_snr - nodes[2].log_snr) / h
    before = (outputs[1] - outputs[2]) / r1
    return [outputs[0], first + r0 / (r0 + r1) * (first - before), (first - before) / (r0 + r1)]


def _derivatives_at_earliest(
    outputs: list[Form], nodes: list[Level], after: Level, solver_type: SolverType
) -> list[Form]:
    """Return the same at the earliest of the nodes, where the step began."""
    if len(outputs) == 1:
        return outputs
    origin = nodes[-1]
    h = after.log_snr - origin.log_snr
    r0 = (nodes[0].log_snr - origin.log_snr) / h
    latest = (outputs[0] - outputs[-1]) / r0
    if len(outputs) == 2 or solver_type == "midpoint":
        return [outputs[-1], latest]
    r1 = (nodes[1].log_snr - origin.log_snr) / h
    middle = (outputs[1] - outputs[2]) / r1
    return [outputs[2], (r0 * middle - r1 * latest) / (r0 - r1), 2.0 * (latest - middle) / (r0 - r1)]


@dataclass(frozen=True)
class _ExactStep:
    """The exact solution between two levels for a model that is D0 + D1 (lambda - lambda_now) / h + … on the way.

    It is x' = keep * x - scale * (growth * D0 + …), and noise of `deviation` for an SDE; growth is exp(±h) - 1, or
    exp(-2h) - 1. half: what the weight of D2 subtracts.
    """

    keep: float
    scale: float
    growth: float
    deviation: float = 0.0
    half: float = 0.5

    def solve(self, x: Form, derivatives: list[Form], solver_type: SolverType) -> Form:
        """Return x' from x; "heun" weighs D1 by its exact integral, "midpoint" by growth / 2."""
        growth = self.growth
        new = self.keep * x - self.scale * growth * derivatives[0]
        if len(derivatives) > 1:
            h = math.log1p(growth)
            new -= self.scale * (0.5 * growth if solver_type == "midpoint" else growth / h - 1.0) * derivatives[1]
        if len(derivatives) > 2:
            new -= self.scale * ((growth - h) / (h * h) - self.half) * derivatives[2]
        return new


def _exact_step(algorithm: str, now: Level, after: Level) -> _ExactStep:
    shrink = after.ratio / now.ratio  # exp(-h)
    if algorithm == "dpmsolver++":
        return _ExactStep(after.sigma / now.sigma, after.alpha, shrink - 1.0)
    if algorithm == "dpmsolver":
        return _ExactStep(after.alpha / now.alpha, after.sigma, 1.0 / shrink - 1.0)
    # half of the SDE is that of diffusers; its paper stops at order 2
    if algorithm == "sde-dpmsolver++":
        keep, deviation = after.sigma / now.sigma * shrink, after.sigma * math.sqrt(1.0 - shrink**2)
        return _ExactStep(keep, after.alpha, shrink * shrink - 1.0, deviation, half=-0.5)
    keep, deviation = after.alpha / now.alpha, after.sigma * math.sqrt(shrink**-2 - 1.0)
    return _ExactStep(keep, after.sigma * 2.0, 1.0 / shrink - 1.0, deviation, half=-0.5)
