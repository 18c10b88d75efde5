"""Other multistep solvers: DEIS, UniPC, SA-Solver, PNDM and IPNDM."""

import math
from itertools import pairwise

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.dpmsolver import FEW_STEPS
from ldm_runtime.sampling.solvers.forms import NOTHING, Form, weighted_sum
from ldm_runtime.sampling.solvers.levels import linspace, whole_timesteps
from ldm_runtime.sampling.solvers.problem import Problem, dpm_levels
from ldm_runtime.sampling.solvers.rows import Level, Rows

ADAMS_BASHFORTH = (
    (1.0,),
    (3.0 / 2.0, -1.0 / 2.0),
    (23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0),
    (55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0),
)  # equal steps; weights of the slopes, the latest first
SA_WINDOW = (200.0, 800.0)  # timesteps at which SA-Solver adds noise, as diffusers chose


# --- DEIS ---


def solve_deis(problem: Problem) -> tuple[float, Rows]:
    """DEIS-rhoAB (arXiv:2204.13902): eps is a polynomial in ln rho, rho = sigma / alpha, integrated over rho."""
    order, steps = problem.whole("order"), problem.steps
    final = "sigma_min" if problem.word("sigmas") == "default" else "last"
    levels = dpm_levels(problem, final=final, whole=("karras",))
    few = problem.flag("lower_order_final") and steps < FEW_STEPS
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
    """Of the polynomial in ln rho that is 1 at nodes[chosen] and 0 at the others, from start to stop; exact.

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


# --- UniPC ---


def solve_unipc(problem: Problem) -> tuple[float, Rows]:
    """UniPC (arXiv:2302.04867): each row corrects the step before it with its new output, then predicts the next."""
    order, steps, final = problem.whole("order"), problem.steps, problem.word("final")
    data = problem.word("predict") == "x0"
    switched_off = _corrector_off(problem)
    if final == "zero" and not data:
        raise InputError("sampler 'unipc': predict=eps cannot end at zero noise; use it with final=sigma_min")
    if final == "zero" and order > 1 and not problem.flag("lower_order_final"):
        raise InputError(
            f"sampler 'unipc': order {order} cannot end at zero noise; use final=sigma_min or lower_order_final=true"
        )
    levels = dpm_levels(
        problem, final="last" if final != "zero" and problem.word("sigmas") != "default" else final, whole=("karras",)
    )
    rows = problem.rows(history=order + 1)  # converted outputs, the latest first, and x before the last prediction
    before = 0  # order of the last prediction
    for i in range(problem.start, steps):
        read = rows.read(levels[i])
        output = read.x0 if data else read.eps
        past, x = list(read.history[:order]), read.x
        if i > problem.start and i - 1 not in switched_off:
            nodes = [levels[i - 1 - k] for k in range(before)]
            x = _unipc_step(problem, nodes, levels[i], read.history[order], past, output)
        most = min(order, steps - i) if problem.flag("lower_order_final") else order
        before = min(most, 1 + i - problem.start)
        if levels[i + 1].ratio == levels[i].ratio:
            before = 1  # a last step that goes nowhere
        outputs = [output, *past]
        nodes = [levels[i - k] for k in range(before)]
        rows.write(
            read, levels[i + 1], _unipc_step(problem, nodes, levels[i + 1], x, outputs, None), [*outputs[:order], x]
        )
    return 1.0, rows


def _unipc_step(
    problem: Problem, nodes: list[Level], after: Level, x: Form, outputs: list[Form], new: Form | None
) -> Form:
    """UniP to `after`, or UniC where the output there, `new`, is known (equations 3 and 9)."""
    now = nodes[0]
    order = len(nodes)
    data = problem.word("predict") == "x0"
    h = after.log_snr - now.log_snr
    hh = -h if data else h
    growth = after.ratio / now.ratio - 1.0 if data else now.ratio / after.ratio - 1.0  # exp(hh) - 1
    scale = after.alpha if data else after.sigma
    keep = after.sigma / now.sigma if data else after.alpha / now.alpha
    moved = keep * x - scale * growth * outputs[0]
    if order == 1 and new is None:
        return moved
    b_h = hh if problem.word("solver_type") == "bh1" else growth
    steps = [(node.log_snr - now.log_snr) / h for node in nodes[1:]]
    slopes = [(output - outputs[0]) / step for output, step in zip(outputs[1:order], steps, strict=True)]
    if new is None:
        weights = [0.5] if order == 2 else _unipc_weights(hh, growth, b_h, steps)
    else:
        slopes.append(new - outputs[0])
        weights = [0.5] if order == 1 else _unipc_weights(hh, growth, b_h, [*steps, 1.0])
    return moved - scale * b_h * weighted_sum(weights, slopes)


def _unipc_weights(hh: float, growth: float, b_h: float, steps: list[float]) -> list[float]:
    """Solves sum_k steps_k^(i-1) w_k = i! phi_(i+1)(hh) hh / B(h), i = 1 … n, in the notation of section 3.2."""
    right, phi, factorial = [], growth / hh - 1.0, 1.0
    for i in range(1, len(steps) + 1):
        right.append(phi * factorial / b_h)
        factorial *= i + 1
        phi = phi / hh - 1.0 / factorial
    vandermonde = np.array([[step**power for step in steps] for power in range(len(steps))])
    return [float(weight) for weight in np.linalg.solve(vandermonde, np.array(right))]


def _corrector_off(problem: Problem) -> set[int]:
    """Steps after which there is no correction: none, all, or numbers joined by '+'."""
    text = problem.word("corrector_off")
    if text == "none":
        return set()
    if text == "all":
        return set(range(problem.steps))
    return {int(number) for number in text.split("+")}


# --- SA-Solver ---


def solve_sa(problem: Problem) -> tuple[float, Rows]:
    """SA-Solver (arXiv:2309.05019): stochastic Adams predictor and corrector, with noise in the middle timesteps."""
    predictor, corrector, steps = problem.whole("order"), problem.whole("corrector_order"), problem.steps
    data = problem.word("predict") == "x0"
    if problem.hooked and not data:
        raise InputError("sampler 'sa_solver': predict=eps does not take a threshold; use predict=x0")
    kept = max(predictor, corrector - 1)
    final = "sigma_min" if problem.word("sigmas") == "default" else "last"
    levels = dpm_levels(problem, final=final, whole=("karras",))
    rows = problem.rows(history=kept + 1)  # converted outputs, the latest first, and x before the last prediction
    corrected = 0  # order of the correction to come
    for i in range(problem.start, steps):
        read = rows.read(levels[i])
        output = read.x0 if data else read.eps
        past, x = list(read.history[:kept]), read.x
        if i > problem.start:
            nodes = [levels[i - k] for k in range(corrected)]
            noise = rows.noise(rows_ago=1)
            x = _sa_step(problem, levels[i - 1], levels[i], nodes, read.history[kept], [output, *past], noise, True)
        outputs = [output, *past]
        done = i - problem.start
        lower = problem.flag("lower_order_final")
        used = min(predictor, steps - i if lower else predictor, min(done, kept) + 1)
        corrected = min(corrector, steps - i + 1 if lower else corrector, min(done, kept) + 2)
        nodes = [levels[i - k] for k in range(used)]
        new = _sa_step(problem, levels[i], levels[i + 1], nodes, x, outputs, rows.noise(), False)
        rows.write(read, levels[i + 1], new, [*outputs[:kept], x])
    return 1.0, rows


def _sa_step(
    problem: Problem,
    now: Level,
    after: Level,
    nodes: list[Level],
    x: Form,
    outputs: list[Form],
    noise: Form,
    correcting: bool,
) -> Form:
    """Adams-Bashforth from `now` to `after`, or Adams-Moulton where the first of the nodes is `after`."""
    data, order = problem.word("predict") == "x0", len(nodes)
    low, high = SA_WINDOW
    tau = problem.number("tau") if low <= now.timestep <= high else 0.0
    h = after.log_snr - now.log_snr
    lambdas = [node.log_snr for node in nodes]
    rate = 1.0 + tau * tau
    weights = []
    for k in range(order):
        polynomial = _lagrange(lambdas, k)  # from the highest power down
        weights.append(sum(c * _sa_integral(order - 1 - j, now, after, rate, data) for j, c in enumerate(polynomial)))
    if data and order == 2:
        # The published code's change of the order-2 weights, which keeps the local error of the SDE small
        curve = (h * rate - 1.0 + math.exp(-rate * h)) / rate**2
        change = h / 2.0 - curve / h if correcting else (h * h / 2.0 - curve) / (now.log_snr - nodes[1].log_snr)
        change *= math.exp(rate * after.log_snr)
        weights = [weights[0] + change, weights[1] - change]
    if data:
        scale = rate * after.sigma * math.exp(-tau * tau * after.log_snr)
        keep = math.exp(-tau * tau * h) * after.sigma / now.sigma
        deviation = after.sigma * math.sqrt(-math.expm1(-2.0 * tau * tau * h))
    else:
        scale, keep = -rate * after.alpha, after.alpha / now.alpha
        deviation = tau * after.sigma * math.sqrt(math.expm1(2.0 * h))
    moved = weighted_sum([scale * weight for weight in weights], outputs[:order])
    return keep * x + moved + deviation * noise


def _lagrange(nodes: list[float], chosen: int) -> list[float]:
    """Coefficients, from the highest power down, of the polynomial that is 1 at nodes[chosen] and 0 at the others."""
    coefficients = [1.0]
    for index, node in enumerate(nodes):
        if index != chosen:
            scale = nodes[chosen] - node
            longer = [*coefficients, 0.0]
            shifted = [0.0, *coefficients]
            coefficients = [(high - node * low) / scale for high, low in zip(longer, shifted, strict=True)]
    return coefficients


def _sa_integral(power: int, now: Level, after: Level, rate: float, data: bool) -> float:
    """Of lambda^power exp(rate lambda) for data prediction, of lambda^power exp(-lambda) for noise prediction."""
    start, stop = now.log_snr, after.log_snr

    def primitive(value: float) -> float:
        if data:
            u = rate * value  # d/du of e^u (u^n - n u^(n-1) + …)
            return _signed_factorial_sum(power, u, -1.0) / rate ** (power + 1)
        return -_signed_factorial_sum(power, value, 1.0)

    if data:
        grown = math.exp(rate * stop)
        return grown * (primitive(stop) - primitive(start) * math.exp(-rate * (stop - start)))
    return math.exp(-stop) * (primitive(stop) - primitive(start) * math.exp(stop - start))


def _signed_factorial_sum(power: int, u: float, sign: float) -> float:
    """u^n + sign n u^(n-1) + sign^2 n (n-1) u^(n-2) + … for n = power."""
    value, factor = 0.0, 1.0
    for k in range(power + 1):
        value += factor * u ** (power - k)
        factor *= sign * (power - k)
    return value


# --- PNDM ---


def solve_pndm(problem: Problem) -> tuple[float, Rows]:
    """Pseudo numerical methods (arXiv:2202.09778): Adams-Bashforth on eps, begun by Runge-Kutta or by one repeat."""
    schedule, steps = problem.schedule, problem.steps
    timesteps = whole_timesteps(schedule, problem.spacing, steps)
    stride = schedule.num_train_timesteps // steps
    if problem.flag("skip_prk_steps"):
        rows = problem.rows(history=4)  # three outputs, the latest first; x where a step began
        repeated = [*timesteps[:2], *timesteps[1:]]  # the second timestep twice
        _plms(problem, rows, repeated[problem.start :], stride, outputs=0)
    else:
        if steps < 4 or problem.start > 0:
            raise InputError(
                f"sampler 'pndm': its Runge-Kutta start needs 4 steps or more, from the first one on; got {steps} from"
                f" step {problem.start + 1}; set skip_prk_steps=true"
            )
        rows = problem.rows(history=5)  # the same, and a Runge-Kutta sum
        _prk(problem, rows, timesteps[:4], stride // 2)
        _plms(problem, rows, timesteps[3:], stride, outputs=3)
    return 1.0, rows


def _prk(problem: Problem, rows: Rows, timesteps: list[float], half: int) -> None:
    """Three Runge-Kutta steps of four rows, from the first of the timesteps to the last."""
    for t, t_next in pairwise(timesteps):
        middle = t_next + half
        ends = (t - half, middle, middle - half, t_next)  # where each row leaves x
        for evaluated, end, weight in zip((t, middle, middle, t_next), ends, (1 / 6, 1 / 3, 1 / 3, 1 / 6), strict=True):
            first = evaluated == t
            read = rows.read(_trained_level(problem, evaluated))
            e1, e2, e3, saved, summed = read.history
            begun = read.x if first else saved
            summed = weight * read.output if first else summed + weight * read.output
            used = summed if weight == 1 / 6 and not first else read.output
            x = _pndm_transfer(problem, begun, used, t, end)
            past = [read.output, e1, e2] if first else [e1, e2, e3]
            last = evaluated == t_next
            rows.write(read, _trained_level(problem, end), x, [*past, begun, summed], ends_step=last)


def _plms(problem: Problem, rows: Rows, timesteps: list[float], stride: int, *, outputs: int) -> None:
    """Adams-Bashforth of up to order 4. Without outputs to begin with, the second row repeats the first step."""
    known = outputs
    for index, evaluated in enumerate(timesteps):
        read = rows.read(_trained_level(problem, evaluated))
        e1, e2, e3, saved = read.history[:4]
        if outputs == 0 and index == 1:
            begun, t, end = saved, evaluated + stride, evaluated
            used, past = 0.5 * (read.output + e1), [e1, e2, e3]
        else:
            begun, t, end = read.x, evaluated, evaluated - stride
            known = min(known + 1, 4)
            weights = ADAMS_BASHFORTH[known - 1]
            used = weighted_sum(weights, (read.output, e1, e2, e3)[:known])
            past = [read.output, e1, e2]
        x = _pndm_transfer(problem, begun, used, t, end)
        is_repeated = outputs == 0 and index == 0 and len(timesteps) > 1
        rows.write(read, _trained_level(problem, end), x, [*past, begun], ends_step=not is_repeated)


def _pndm_transfer(problem: Problem, x: Form, output: Form, t: float, end: float) -> Form:
    """Equation 9: from timestep t to `end` with the model output that stands for the whole way."""
    now, after = _trained_level(problem, t), _trained_level(problem, end)
    eps = output if problem.schedule.prediction_type == "epsilon" else now.alpha * output + now.sigma * x
    divisor = now.alpha * (now.alpha * after.sigma + now.sigma * after.alpha)
    return after.alpha / now.alpha * x - (after.alpha**2 - now.alpha**2) / divisor * eps


def _trained_level(problem: Problem, timestep: float) -> Level:
    """Before the first timestep comes full signal, or that of the first timestep once more."""
    bar = problem.bar_before(int(timestep))
    return Level(timestep, math.sqrt(bar), math.sqrt(1.0 - bar))


# --- IPNDM ---


def solve_ipndm(problem: Problem) -> tuple[float, Rows]:
    """Improved PNDM as diffusers has it: continuous time from 1 to 0 on a schedule of its own, v prediction.

    The model is told the time itself, not a trained timestep; the package's noise schedule has no part.
    """
    betas = [math.sin(share * math.pi / 2.0) ** 2 for share in linspace(1.0, 0.0, problem.steps + 1)]
    levels = []
    for beta in betas:
        alpha = math.sqrt(1.0 - beta * beta)
        levels.append(Level(math.atan2(beta, alpha) / math.pi * 2.0, alpha, beta))
    rows = problem.rows(history=3)  # eps, the latest first
    for i in range(problem.start, problem.steps):
        read = rows.read(levels[i])
        slopes = [read.eps, *read.history]
        weights = ADAMS_BASHFORTH[min(i - problem.start, 3)]
        eps = weighted_sum(weights, slopes[: len(weights)])
        x0 = (read.x - levels[i].sigma * eps) / levels[i].alpha if levels[i].alpha > 1e-8 else NOTHING
        rows.write(read, levels[i + 1], levels[i + 1].alpha * x0 + levels[i + 1].sigma * eps, slopes[:3])
    return 1.0, rows
