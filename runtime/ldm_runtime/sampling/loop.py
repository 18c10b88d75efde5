"""The one sampling loop: scale, evaluate, multiply by the plan's row. Checked against diffusers 0.39.

The state is float32, each coefficient is rounded once, the order of summation is fixed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ldm_runtime.errors import InputError, NonFiniteError
from ldm_runtime.sampling.plan import Hook, Plan, PlanRow

Denoise = Callable[[np.ndarray, float], np.ndarray]
RowNoise = Callable[[int], np.ndarray]
Blend = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PlanStep:
    """The state after one row, an evaluation of the model.

    The loop never writes the arrays again and reads them later: they are read-only. Of a sampling step with several
    evaluations, the last one `ends_step`.
    """

    index: int
    """Number of the sampling step, from 0."""
    total: int
    """Sampling steps of the run."""
    evaluations: int
    """Evaluations of the model so far. Picard iteration makes more than there are rows."""
    rounds: int
    """How often the model was waited for so far: once an evaluation, but once a window in Picard iteration."""
    ends_step: bool
    """Whether this is the last evaluation of its sampling step."""
    timestep: float
    """Timestep at which the model was evaluated."""
    latents: np.ndarray
    """float32 (B, C, H, W), after this row."""
    row: PlanRow
    before: np.ndarray  # float32 (B, C, H, W), before this row
    output: np.ndarray
    """Output of the model, guided: float32 (B, C, H, W)."""

    def predicted(self) -> np.ndarray:
        """Return the clean latents x0 that the model predicts at this row: float32 (B, C, H, W)."""
        return data_prediction(self.row, self.before, self.output)


def run_plan(
    plan: Plan,
    denoise: Denoise,
    initial: np.ndarray,
    noise: RowNoise,
    *,
    image: np.ndarray | None = None,
    blend: Blend | None = None,
) -> Iterator[PlanStep]:
    """Run a plan row by row; the caller may stop at any row.

    denoise(x, timestep): model output, guided, for the scaled latents x, both float32 (B, C, H, W); the array is kept
    as it is and must not be written again.
    initial: float32 (B, C, H, W), noise of unit variance; the plan scales it.
    noise(row): float32 (B, C, H, W), unit-variance noise of that row's stream; called only where it is read.
    image: float32 (B, C, H, W), an image's latents to start from, noised with `initial` to the level of the first row.
    blend(row, x): what takes the place of x after a row.
    Raises NonFiniteError naming the step, InputError for a shape that does not fit.

    Each new tensor is summed in the order of the matrix's columns, one product and one addition at a time in
    float32; zero coefficients are skipped.
    """
    state = first_state(plan, initial, image)
    step = 0
    for index, row in enumerate(plan.rows):
        where = f"step {step + 1} of {plan.taken} (timestep {row.timestep:g})"
        before = state[0]
        output = np.asarray(denoise(scaled(row, before), row.timestep), dtype=np.float32)
        check_output(output, before.shape, where)
        noises = read_noises(row, noise, before.shape, where)
        state = next_state(plan, index, state, output, noises, blend)
        check_finite(state[0], f"the latent after {where}")
        yield plan_step(plan, index, step, before, output, state[0], evaluations=index + 1, rounds=index + 1)
        step += row.ends_step


def first_state(plan: Plan, initial: np.ndarray, image: np.ndarray | None) -> list[np.ndarray]:
    """Return x and the history before the first row. Raises NonFiniteError."""
    x = start(plan, initial, image)
    check_finite(x, "the initial noise")
    return [x, *(np.zeros_like(x) for _ in range(plan.history))]


def scaled(row: PlanRow, x: np.ndarray) -> np.ndarray:
    """Return what the model is given for x: float32 (B, C, H, W), a new array."""
    return x * np.float32(row.input_scale)


def read_noises(row: PlanRow, noise: RowNoise, shape: tuple[int, ...], where: str) -> list[np.ndarray]:
    """Return the noise of each of a row's noise columns, float32 (B, C, H, W). Raises InputError for other shapes."""
    noises = [np.asarray(noise(noise_row), dtype=np.float32) for noise_row in row.noise_rows]
    for each in noises:
        _check_shape(each, shape, f"the noise at {where}")
    return noises


def next_state(
    plan: Plan,
    index: int,
    state: list[np.ndarray],
    output: np.ndarray,
    noises: list[np.ndarray],
    blend: Blend | None,
) -> list[np.ndarray]:
    """Return x and the history after a row whose model output is known. The arrays of `state` stay as they are."""
    row = plan.rows[index]
    clipped = [] if plan.hook is None else [hooked(plan.hook, row, state[0], output)]
    columns = [*state, output, *clipped, *noises]
    product = np.empty_like(output)
    after = [_weighted_sum(line, columns, product) for line in row.matrix.astype(np.float32)]
    if blend is not None:
        after[0] = blend(index, after[0])
    return after


def plan_step(
    plan: Plan,
    index: int,
    step: int,
    before: np.ndarray,
    output: np.ndarray,
    latents: np.ndarray,
    *,
    evaluations: int,
    rounds: int,
) -> PlanStep:
    """Return what a caller sees of row `index`, which is of sampling step `step`."""
    row = plan.rows[index]
    latents, before, output = (_read_only(array) for array in (latents, before, output))
    facts = (step, plan.taken, evaluations, rounds, row.ends_step, row.timestep)
    return PlanStep(*facts, latents, row, before, output)


def start(plan: Plan, noise: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """Return the first x: scaled noise, or an image's latents noised to the first row's level. float32 (B, C, H, W)."""
    if image is None:
        return np.multiply(noise, np.float32(plan.initial_scale), dtype=np.float32)
    return noised(plan.rows[0], image, noise)


def noised(row: PlanRow, image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Add noise of a row's level to an image's latents, in that row's scaling: float32 (B, C, H, W)."""
    keep, add = np.float32(row.alpha / row.input_scale), np.float32(row.sigma / row.input_scale)
    return np.add(keep * image, add * noise, dtype=np.float32)


def guide(uncond: np.ndarray, cond: np.ndarray, scale: float, rescale: float = 0.0) -> np.ndarray:
    """Apply classifier-free guidance (arXiv:2207.12598): uncond + scale * (cond - uncond), float32, a new array.

    rescale: how far each image's deviation is brought back to that of cond (arXiv:2305.08891, section 3.4), 0 to 1.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite raises in `run_plan`, with its step
        guided = np.subtract(cond, uncond, dtype=np.float32)
        guided *= np.float32(scale)
        guided += uncond
        if rescale > 0.0:
            axes = tuple(range(1, cond.ndim))
            wanted, found = (part.std(axis=axes, ddof=1, keepdims=True) for part in (cond, guided))
            guided *= np.float32(rescale) * (wanted / found) + np.float32(1.0 - rescale)
    return guided


def slerp(start: np.ndarray, stop: np.ndarray, share: float) -> np.ndarray:
    """Go a share of the arc between two noises, which keeps their deviation: float32 of their shape."""
    a, b = start.astype(np.float64).reshape(-1), stop.astype(np.float64).reshape(-1)
    cosine = float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))
    angle = math.acos(cosine)
    if math.sin(angle) < 1e-6:  # the same direction, or the opposite one
        between = (1.0 - share) * a + share * b
    else:
        between = (math.sin((1.0 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)
    return between.reshape(start.shape).astype(np.float32)


def _weighted_sum(coefficients: np.ndarray, tensors: list[np.ndarray], product: np.ndarray) -> np.ndarray:
    """Sum coefficient * tensor, left to right; a tensor that only moves is not copied. `product`: scratch."""
    used = np.flatnonzero(coefficients)
    if len(used) == 0:
        return np.zeros_like(product)
    first, *others = used
    if len(used) == 1 and coefficients[first] == 1.0:
        return tensors[first]
    total = tensors[first] * coefficients[first]
    for index in others:
        np.multiply(tensors[index], coefficients[index], out=product)
        total += product
    return total


def data_prediction(row: PlanRow, x: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the clean latents x0 that the model's output for x predicts: float32 (B, C, H, W)."""
    return _weighted_sum(np.array([row.data_x, row.data_output], np.float32), [x, output], np.empty_like(x))


def hooked(hook: Hook, row: PlanRow, x: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Clip the predicted x0 by the hook: float32 (B, C, H, W)."""
    data = data_prediction(row, x, output)
    if hook.kind == "clip":
        return np.clip(data, -np.float32(hook.limit), np.float32(hook.limit))
    flat = np.abs(data).reshape(len(data), -1)
    bound = np.clip(np.quantile(flat, hook.ratio, axis=1), 1.0, hook.limit).astype(np.float32)
    bound = bound.reshape(-1, *[1] * (data.ndim - 1))
    return np.clip(data, -bound, bound) / bound


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _check_shape(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        raise InputError(f"{what} has shape {array.shape}, expected {shape}", code="request.array")


def check_output(output: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    """Raise InputError or NonFiniteError for an output of the model that no state can be made of."""
    _check_shape(output, shape, f"the model output at {where}")
    check_finite(output, f"the model output at {where}")


def check_finite(array: np.ndarray, what: str) -> None:
    if not np.isfinite(array).all():
        raise NonFiniteError(f"{what} holds NaN or infinity; no image is made of it")
