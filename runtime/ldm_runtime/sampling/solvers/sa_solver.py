"""SA-Solver (arXiv:2309.05019), checked against diffusers' SASolverScheduler."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.forms import Form, weighted_sum
from ldm_runtime.sampling.solvers.lagrange import lagrange
from ldm_runtime.sampling.solvers.options import Range, ThresholdOptions
from ldm_runtime.sampling.solvers.problem import KSigmas, LambdaMin, Problem, dpm_levels
from ldm_runtime.sampling.solvers.rows import Level, Rows

NOISY_TIMESTEPS = (200.0, 800.0)  # between which noise is added, as diffusers chose


class SaSolverOptions(ThresholdOptions):
    order: Annotated[int, Range(1, 4)] = 2
    corrector_order: Annotated[int, Range(1, 4)] = 2
    predict: Literal["x0", "eps"] = "x0"
    tau: Annotated[float, Range(0.0, 10.0)] = 1.0
    sigmas: KSigmas = "default"
    lower_order_final: bool = True
    lambda_min: LambdaMin = -math.inf


def solve_sa(problem: Problem, options: SaSolverOptions) -> tuple[float, Rows]:
    """Take stochastic Adams steps: correct the one before each row with its new output, then predict the next."""
    if problem.hooked and options.predict == "eps":
        raise InputError(
            "sampler 'sa_solver': predict=eps does not take a threshold; use predict=x0", code="request.sampler"
        )
    predictor, corrector, steps = options.order, options.corrector_order, problem.steps
    lower = options.lower_order_final
    kept = max(predictor, corrector - 1)
    levels = dpm_levels(
        problem,
        options.sigmas,
        final="sigma_min" if options.sigmas == "default" else "last",
        lambda_min=options.lambda_min,
    )
    rows = problem.rows(history=kept + 1)  # converted outputs, the latest first, and x before the last prediction
    corrected = 0  # order of the correction to come
    for i in range(problem.start, steps):
        read = rows.read(levels[i])
        outputs = [read.x0 if options.predict == "x0" else read.eps, *read.history[:kept]]
        x = read.x
        if i > problem.start:
            nodes = [levels[i - k] for k in range(corrected)]
            noise = rows.noise(rows_ago=1)
            x = _adams(options, levels[i - 1], levels[i], nodes, read.history[kept], outputs, noise)
        done = i - problem.start
        used = min(predictor, steps - i if lower else predictor, min(done, kept) + 1)
        corrected = min(corrector, steps - i + 1 if lower else corrector, min(done, kept) + 2)
        nodes = [levels[i - k] for k in range(used)]
        new = _adams(options, levels[i], levels[i + 1], nodes, x, outputs, rows.noise())
        rows.write(read, levels[i + 1], new, [*outputs[:kept], x])
    return 1.0, rows


def _adams(
    options: SaSolverOptions, now: Level, after: Level, nodes: list[Level], x: Form, outputs: list[Form], noise: Form
) -> Form:
    """Step from `now` to `after`: Adams-Bashforth, or Adams-Moulton where the first of the nodes is `after`."""
    low, high = NOISY_TIMESTEPS
    tau = options.tau if low <= now.timestep <= high else 0.0
    h, rate = after.log_snr - now.log_snr, 1.0 + tau * tau
    if options.predict == "x0":
        weights = _data_weights(now, after, nodes, rate)
        scale = rate * after.sigma * math.exp(-tau * tau * after.log_snr)
        keep = math.exp(-tau * tau * h) * after.sigma / now.sigma
        deviation = after.sigma * math.sqrt(-math.expm1(-2.0 * tau * tau * h))
    else:
        weights = _noise_weights(now, after, nodes)
        scale, keep = -rate * after.alpha, after.alpha / now.alpha
        deviation = tau * after.sigma * math.sqrt(math.expm1(2.0 * h))
    moved = weighted_sum([scale * weight for weight in weights], outputs[: len(nodes)])
    return keep * x + moved + deviation * noise


def _data_weights(now: Level, after: Level, nodes: list[Level], rate: float) -> list[float]:
    """Integrate the nodes' polynomials times exp(rate lambda) from `now` to `after`."""
    start, stop = now.log_snr, after.log_snr

    def integral(power: int) -> float:
        """Integrate lambda^power exp(rate lambda): d/du of e^u (u^n - n u^(n-1) + …) is u^n e^u, u = rate lambda."""
        lower, upper = (
            _signed_factorial_sum(power, rate * value, -1.0) / rate ** (power + 1) for value in (start, stop)
        )
        return math.exp(rate * stop) * (upper - lower * math.exp(-rate * (stop - start)))

    weights = _weights(nodes, integral)
    if len(nodes) == 2:
        # The published code's change of the order-2 weights, which keeps the local error of the SDE small
        h = stop - start
        curve = (h * rate - 1.0 + math.exp(-rate * h)) / rate**2
        correcting = nodes[0] is after
        change = h / 2.0 - curve / h if correcting else (h * h / 2.0 - curve) / (start - nodes[1].log_snr)
        change *= math.exp(rate * stop)
        weights = [weights[0] + change, weights[1] - change]
    return weights


def _noise_weights(now: Level, after: Level, nodes: list[Level]) -> list[float]:
    """Integrate the nodes' polynomials times exp(-lambda) from `now` to `after`."""
    start, stop = now.log_snr, after.log_snr

    def integral(power: int) -> float:
        lower, upper = (-_signed_factorial_sum(power, value, 1.0) for value in (start, stop))
        return math.exp(-stop) * (upper - lower * math.exp(stop - start))

    return _weights(nodes, integral)


def _weights(nodes: list[Level], integral: Callable[[int], float]) -> list[float]:
    """Integrate each node's Lagrange polynomial in lambda; integral: of a power of lambda."""
    lambdas = [node.log_snr for node in nodes]
    weights = []
    for chosen in range(len(nodes)):
        terms = reversed(list(enumerate(lagrange(lambdas, chosen))))  # from the highest power down
        weights.append(sum(coefficient * integral(power) for power, coefficient in terms))
    return weights


def _signed_factorial_sum(power: int, u: float, sign: float) -> float:
    """Return u^n + sign n u^(n-1) + sign^2 n (n-1) u^(n-2) + … for n = power."""
    value, factor = 0.0, 1.0
    for k in range(power + 1):
        value += factor * u ** (power - k)
        factor *= sign * (power - k)
    return value
