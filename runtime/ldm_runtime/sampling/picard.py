"""Picard iteration: a plan's rows evaluated side by side, a window of them at a time (ParaDiGMS, arXiv:2305.16317).

`run_plan` needs the latents of a row before it can evaluate the next. Here the outputs of all rows in a window are
guessed, the plan's own matrices carry the latents through them, and the model is evaluated at all of those latents at
once; then again with these outputs, until the latents stay where they are. The first row of a window is exact in every
round, so that there are never more rounds than rows. What is iterated is the plan: noise, history, clipping and
inpainting are those of `run_plan`, and with tolerance 0 so is each bit of the result, if those of the model are.

A guess is the model's newest output for the row, moved as far as the latents have moved by the slope that the output
has for data that are Gaussian with unit variance (the image predicted at z = alpha x0 + sigma eps is then
alpha z / (alpha² + sigma²)). Predictions of noise or of the image, held as they are, take many more rounds: they follow
the latents even where the model knows nothing. A row that was not evaluated yet has that Gaussian's output.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ldm_runtime.sampling.loop import (
    Blend,
    PlanStep,
    RowNoise,
    check_finite,
    check_output,
    first_state,
    next_state,
    plan_step,
    read_noises,
    scaled,
)
from ldm_runtime.sampling.plan import Plan, PlanRow

DenoiseRows = Callable[[Sequence[int], Sequence[np.ndarray]], Sequence[np.ndarray]]


def run_picard(
    plan: Plan,
    denoise: DenoiseRows,
    initial: np.ndarray,
    noise: RowNoise,
    *,
    window: int,
    tolerance: float,
    image: np.ndarray | None = None,
    blend: Blend | None = None,
) -> Iterator[PlanStep]:
    """Run a plan, `window` rows at a time; yields each row once it is settled, in order, as `run_plan` does.

    denoise(rows, xs): the model's guided output at each of these rows of the plan for its scaled latents, float32
    (B, C, H, W) all, evaluated at the same time where that is possible.
    tolerance: a row is settled when a round moves none of its images by more than this, in RMS of the latents as the
    model is given them, whose variance is about 1.
    The others are as for `run_plan`, and so is what it raises, but only for rows that are settled.
    """
    state = first_state(plan, initial, image)
    shape = state[0].shape
    noises: dict[int, list[np.ndarray]] = {}  # of the rows that are not settled
    newest: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by row: the latents it was evaluated at, and the output

    def where(index: int) -> str:
        return f"step {step + 1} of {plan.taken} (timestep {plan.rows[index].timestep:g})"

    def after(index: int, state: list[np.ndarray], output: np.ndarray) -> list[np.ndarray]:
        if index not in noises:
            noises[index] = read_noises(plan.rows[index], noise, shape, where(index))
        return next_state(plan, index, state, output, noises[index], blend)

    first = step = evaluations = rounds = 0
    while first < len(plan.rows):
        rows = range(first, min(first + window, len(plan.rows)))
        xs, guessed = [state[0]], state
        with np.errstate(all="ignore"):  # guesses may be anything; what is settled is checked
            for index in rows[:-1]:
                guessed = after(index, guessed, _guess(plan.rows[index], guessed[0], newest.get(index)))
                xs.append(guessed[0])
        outputs = denoise(rows, [scaled(plan.rows[index], x) for index, x in zip(rows, xs, strict=True)])
        newest = {
            index: (x, np.asarray(output, dtype=np.float32)) for index, x, output in zip(rows, xs, outputs, strict=True)
        }
        rounds, evaluations = rounds + 1, evaluations + len(rows)
        for index in rows:
            row, before = plan.rows[index], state[0]
            if not _distance(row, before, newest[index][0]) <= tolerance:  # NaN too: it is evaluated again
                break
            output = _guess(row, before, newest[index])
            check_output(output, shape, where(index))
            state = after(index, state, output)
            check_finite(state[0], f"the latent after {where(index)}")
            del noises[index]
            yield plan_step(plan, index, step, before, output, state[0], evaluations=evaluations, rounds=rounds)
            first, step = index + 1, step + row.ends_step


def _guess(row: PlanRow, x: np.ndarray, newest: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Return the output that is expected at x: float32 (B, C, H, W). newest: an x and the model's output there."""
    gaussian = row.alpha * row.input_scale / (row.alpha**2 + row.sigma**2)  # times x, the image it predicts
    slope = np.float32((gaussian - row.data_x) / row.data_output if row.data_output else 0.0)  # 0: without noise
    if newest is None:
        return slope * x
    at, output = newest
    return output if x is at else output + slope * (x - at)


def _distance(row: PlanRow, x: np.ndarray, other: np.ndarray) -> float:
    """Return the largest RMS of an image's difference, in latents as the model is given them."""
    with np.errstate(all="ignore"):  # of guesses that are not finite it is NaN or infinite
        squares = np.square((x - other).reshape(len(x), -1) * row.input_scale, dtype=np.float64)
    return float(np.sqrt(squares.mean(axis=1).max()))
