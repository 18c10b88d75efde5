"""The one sampling loop: scale, evaluate, multiply by the plan's row. Checked against diffusers 0.39.

The state is float32, each coefficient is rounded once, the order of summation is fixed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ldm_runtime.errors import InputError, NonFiniteError
from ldm_runtime.plan import Plan

Denoise = Callable[[np.ndarray, float], np.ndarray]
Noise = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class PlanStep:
    """What one row left behind. latents is never written again by the loop: keep it without a copy."""

    index: int  # from 0
    total: int
    timestep: float  # at which the model was evaluated
    latents: np.ndarray  # float32 (B, C, H, W), after this row


def run_plan(plan: Plan, denoise: Denoise, initial: np.ndarray, noise: Noise) -> Iterator[PlanStep]:
    """Run a plan row by row; the caller may stop at any step.

    denoise(x, timestep): model output, guided, for the scaled latents x, both float32 (B, C, H, W).
    initial: float32 (B, C, H, W), noise of unit variance; the plan scales it.
    noise(row): float32 (B, C, H, W), unit-variance noise of that row's stream; called only where it is read.
    Raises NonFiniteError naming the step, InputError for a shape that does not fit.

    Each new tensor is summed in the order of the matrix's columns, one product and one addition at a time in
    float32; zero coefficients are skipped.
    """
    x = np.multiply(initial, np.float32(plan.initial_scale), dtype=np.float32)
    _check_finite(x, "the initial noise")
    state = [x, *(np.zeros_like(x) for _ in range(plan.history))]
    product = np.empty_like(x)
    for index, row in enumerate(plan.rows):
        where = f"step {index + 1} of {plan.steps} (timestep {row.timestep:g})"
        scaled = state[0] * np.float32(row.input_scale)
        output = np.asarray(denoise(scaled, row.timestep), dtype=np.float32)
        _check_shape(output, x.shape, f"the model output at {where}")
        _check_finite(output, f"the model output at {where}")
        columns = [*state, output]
        for noise_row in row.noise_rows:
            columns.append(np.asarray(noise(noise_row), dtype=np.float32))
            _check_shape(columns[-1], x.shape, f"the noise at {where}")
        coefficients = row.matrix.astype(np.float32)
        state = [_weighted_sum(line, columns, product) for line in coefficients]
        _check_finite(state[0], f"the latent after {where}")
        yield PlanStep(index, plan.steps, row.timestep, state[0])


def guide(uncond: np.ndarray, cond: np.ndarray, scale: float) -> np.ndarray:
    """Classifier-free guidance (arXiv:2207.12598): uncond + scale * (cond - uncond), float32, a new array."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite raises in `run_plan`, with its step
        guided = np.subtract(cond, uncond, dtype=np.float32)
        guided *= np.float32(scale)
        guided += uncond
    return guided


def _weighted_sum(coefficients: np.ndarray, tensors: list[np.ndarray], product: np.ndarray) -> np.ndarray:
    """Sum of coefficient * tensor, left to right; `product` is scratch of the same shape."""
    total: np.ndarray | None = None
    for coefficient, tensor in zip(coefficients, tensors, strict=True):
        if coefficient == 0.0:
            continue
        if total is None:
            total = tensor * coefficient
        else:
            np.multiply(tensor, coefficient, out=product)
            total += product
    return np.zeros_like(product) if total is None else total


def _check_shape(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        raise InputError(f"{what} has shape {array.shape}, expected {shape}")


def _check_finite(array: np.ndarray, what: str) -> None:
    if not np.isfinite(array).all():
        raise NonFiniteError(f"{what} holds NaN or infinity; no picture is made of it")
