"""UniPC (arXiv:2302.04867), checked against diffusers' UniPCMultistepScheduler."""

from typing import Annotated, Literal

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.forms import Form, weighted_sum
from ldm_runtime.sampling.solvers.options import Range, ThresholdOptions
from ldm_runtime.sampling.solvers.problem import Final, KSigmas, Problem, dpm_levels
from ldm_runtime.sampling.solvers.rows import Level, Rows


class UniPcOptions(ThresholdOptions):
    order: Annotated[int, Range(1, 4)] = 2
    solver_type: Literal["bh2", "bh1"] = "bh2"
    predict: Literal["x0", "eps"] = "x0"
    sigmas: KSigmas = "default"
    final: Final = "zero"
    lower_order_final: bool = True


def solve_unipc(problem: Problem, options: UniPcOptions) -> tuple[float, Rows]:
    """Correct the step before each row with its new output, then predict the next."""
    _check(options)
    order, steps = options.order, problem.steps
    final = "last" if options.final != "zero" and options.sigmas != "default" else options.final
    levels = dpm_levels(problem, options.sigmas, final=final)
    rows = problem.rows(history=order + 1)  # converted outputs, the latest first, and x before the last prediction
    before = 0  # order of the last prediction
    for i in range(problem.start, steps):
        read = rows.read(levels[i])
        output = read.x0 if options.predict == "x0" else read.eps
        past, x = list(read.history[:order]), read.x
        if i > problem.start:
            nodes = [levels[i - 1 - k] for k in range(before)]
            x = _step(options, nodes, levels[i], read.history[order], past, output)
        most = min(order, steps - i) if options.lower_order_final else order
        before = min(most, 1 + i - problem.start)
        if levels[i + 1].ratio == levels[i].ratio:
            before = 1  # a last step that goes nowhere
        outputs = [output, *past]
        nodes = [levels[i - k] for k in range(before)]
        new = _step(options, nodes, levels[i + 1], x, outputs, None)
        rows.write(read, levels[i + 1], new, [*outputs[:order], x])
    return 1.0, rows


def _check(options: UniPcOptions) -> None:
    if options.final != "zero":
        return
    if options.predict == "eps":
        raise InputError(
            "sampler 'unipc': predict=eps cannot end at zero noise; use it with final=sigma_min", code="request.sampler"
        )
    if options.order > 1 and not options.lower_order_final:
        raise InputError(
            f"sampler 'unipc': order {options.order} cannot end at zero noise; use final=sigma_min or"
            " lower_order_final=true",
            code="request.sampler",
        )


def _step(
    options: UniPcOptions, nodes: list[Level], after: Level, x: Form, outputs: list[Form], new: Form | None
) -> Form:
    """Predict x at `after` (UniP, equation 9), or correct it where the output there, `new`, is known (UniC, 3)."""
    now, order = nodes[0], len(nodes)
    h = after.log_snr - now.log_snr
    if options.predict == "x0":
        hh, growth = -h, after.ratio / now.ratio - 1.0  # growth: exp(hh) - 1
        scale, keep = after.alpha, after.sigma / now.sigma
    else:
        hh, growth = h, now.ratio / after.ratio - 1.0
        scale, keep = after.sigma, after.alpha / now.alpha
    moved = keep * x - scale * growth * outputs[0]
    if order == 1 and new is None:
        return moved
    b_h = hh if options.solver_type == "bh1" else growth
    steps = [(node.log_snr - now.log_snr) / h for node in nodes[1:]]
    slopes = [(output - outputs[0]) / step for output, step in zip(outputs[1:order], steps, strict=True)]
    if new is None:
        weights = [0.5] if order == 2 else _weights(hh, growth, b_h, steps)
    else:
        slopes.append(new - outputs[0])
        weights = [0.5] if order == 1 else _weights(hh, growth, b_h, [*steps, 1.0])
    return moved - scale * b_h * weighted_sum(weights, slopes)


def _weights(hh: float, growth: float, b_h: float, steps: list[float]) -> list[float]:
    """Solve sum_k steps_k^(i-1) w_k = i! phi_(i+1)(hh) hh / B(h), i = 1 … n, in the notation of section 3.2."""
    right, phi, factorial = [], growth / hh - 1.0, 1.0
    for i in range(1, len(steps) + 1):
        right.append(phi * factorial / b_h)
        factorial *= i + 1
        phi = phi / hh - 1.0 / factorial
    vandermonde = np.array([[step**power for step in steps] for power in range(len(steps))])
    return [float(weight) for weight in np.linalg.solve(vandermonde, np.array(right))]
