"""DPM-Solver and DPM-Solver++ (arXiv:2206.00927, arXiv:2211.01095), multistep and single-step, as ODE and as SDE.

They solve the semilinear ODE exactly but for the model, which stands in the integral as a polynomial in
lambda = ln(alpha / sigma). With h = lambda' - lambda, exp(-h) = ratio' / ratio, which is fine at sigma' = 0 too.
"""

import math

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.forms import NOTHING, Form
from ldm_runtime.sampling.solvers.problem import Problem, dpm_levels
from ldm_runtime.sampling.solvers.rows import Level, Reading, Rows

FEW_STEPS = 15  # below this many, lower_order_final lowers the order of the last steps


def solve_multistep(problem: Problem) -> tuple[float, Rows]:
    """From the outputs of the rows before; the first rows, and by its options the last ones, have a lower order."""
    order, final, algorithm = problem.whole("order"), problem.word("final"), problem.word("algorithm")
    _check(problem, "dpmsolver")
    if algorithm == "sde-dpmsolver" and order == 3:
        raise InputError("sampler 'dpmsolver': sde-dpmsolver has no order 3; use order 1 or 2, or sde-dpmsolver++")
    cosine = problem.schedule.beta_schedule == "squaredcos_cap_v2"
    levels = dpm_levels(problem, final=final, whole=() if cosine else ("karras", "lu"))
    few = problem.flag("lower_order_final") and problem.steps < FEW_STEPS
    rows = problem.rows(history=order - 1)  # converted outputs, the latest first
    for i in range(problem.start, problem.steps):
        left = problem.steps - i
        used = min(order, 1 + i - problem.start)
        if left == 1 and (problem.flag("euler_at_final") or few or final == "zero"):
            used = 1
        elif left == 2 and few:
            used = min(used, 2)
        if levels[i + 1].ratio == levels[i].ratio:
            used = 1  # a last step that goes nowhere
        read = rows.read(levels[i])
        outputs = [_converted(problem, read), *read.history]
        slopes = _multistep_slopes(outputs[:used], [levels[i - k] for k in range(used)], levels[i + 1])
        x = _update(problem, levels[i], levels[i + 1], read.x, slopes, curved=used == 3)
        rows.write(read, levels[i + 1], x + _noise(problem, rows, levels[i], levels[i + 1]), outputs[: order - 1])
    return 1.0, rows


def solve_singlestep(problem: Problem) -> tuple[float, Rows]:
    """Steps of 1, 2 or 3 rows, each from where the step began. The spacing has no part: always as linspace."""
    order, final = problem.whole("order"), problem.word("final")
    _check(problem, "dpmsolver_singlestep")
    levels = dpm_levels(problem, final=final, whole=("karras",))
    orders = _orders(problem.steps, order, problem.flag("lower_order_final"), final)
    rows = problem.rows(history=order)  # converted outputs, the latest first, and x where the step began
    for i in range(problem.start, problem.steps):
        used = min(orders[i], 1 + i - problem.start)
        read = rows.read(levels[i])
        outputs = [_converted(problem, read), *read.history[: order - 1]]
        x = read.x if used == 1 else read.history[order - 1]
        origin, after = levels[i - used + 1], levels[i + 1]
        slopes = _singlestep_slopes(
            outputs[:used], [levels[i - k] for k in range(used)], after, problem.word("solver_type")
        )
        new = _update(problem, origin, after, x, slopes, curved=used == 3)
        rows.write(read, after, new + _noise(problem, rows, origin, after), [*outputs[: order - 1], x])
    return 1.0, rows


def _check(problem: Problem, sampler: str) -> None:
    algorithm = problem.word("algorithm")
    if not algorithm.endswith("++") and problem.word("final") == "zero":
        raise InputError(f"sampler {sampler!r}: {algorithm} cannot end at zero noise; use it with final=sigma_min")


def _orders(steps: int, order: int, lower_order_final: bool, final: str) -> list[int]:
    """The order of each row. Where the last step would be incomplete or end at zero noise, lower ones come last."""
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


def _converted(problem: Problem, read: Reading) -> Form:
    """What the polynomial goes through: x0 for the ++ algorithms, eps for the others."""
    return read.x0 if problem.word("algorithm").endswith("++") else read.eps_of_x0


def _multistep_slopes(outputs: list[Form], nodes: list[Level], after: Level) -> list[Form]:
    """D0, D1, D2 at the latest of the nodes: derivatives of the polynomial, in units of h."""
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


def _singlestep_slopes(outputs: list[Form], nodes: list[Level], after: Level, solver_type: str) -> list[Form]:
    """The same at the earliest of the nodes, where the step began."""
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


def _update(problem: Problem, now: Level, after: Level, x: Form, slopes: list[Form], *, curved: bool) -> Form:
    """The exact solution for a model that is D0 + D1 (lambda - lambda_now) / h + … along the step.

    curved: the third order's weight for D1, which order 2 has with solver_type heun only.
    """
    algorithm = problem.word("algorithm")
    noisy = algorithm.startswith("sde")
    curved = curved or problem.word("solver_type") == "heun"
    shrink = after.ratio / now.ratio  # exp(-h)
    if algorithm.endswith("++"):
        keep = after.sigma / now.sigma * (shrink if noisy else 1.0)
        scale = after.alpha
        growth = (shrink * shrink if noisy else shrink) - 1.0
    else:
        keep = after.alpha / now.alpha
        scale = after.sigma * (2.0 if noisy else 1.0)
        growth = 1.0 / shrink - 1.0
    new = keep * x - scale * growth * slopes[0]
    if len(slopes) > 1:
        h = math.log1p(growth)
        new -= scale * (growth / h - 1.0 if curved else 0.5 * growth) * slopes[1]
    if len(slopes) > 2:
        half = -0.5 if noisy else 0.5  # of the SDE as diffusers has it; its paper stops at order 2
        new -= scale * ((growth - h) / (h * h) - half) * slopes[2]
    return new


def _noise(problem: Problem, rows: Rows, now: Level, after: Level) -> Form:
    algorithm = problem.word("algorithm")
    if not algorithm.startswith("sde"):
        return NOTHING
    shrink = after.ratio / now.ratio
    variance = 1.0 - shrink**2 if algorithm.endswith("++") else shrink**-2 - 1.0
    return after.sigma * math.sqrt(variance) * rows.noise()
