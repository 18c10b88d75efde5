"""Picard iteration: what it settles on is what the loop makes row by row, in fewer rounds."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ldm_runtime.errors import InputError, NonFiniteError
from ldm_runtime.sampling.loop import PlanStep, run_plan
from ldm_runtime.sampling.picard import DenoiseRows, run_picard
from ldm_runtime.sampling.plan import Plan
from ldm_runtime.sampling.solvers import PRESETS, SOLVERS
from tests.runtime.noise.philox import initial_noise
from tests.runtime.sampling.compiled import compiled
from tests.runtime.sampling.test_loop import SD15, SHAPE, denoise, noise_of, relative_rms
from tests.runtime.sampling.test_steps import plan_of

ALL = [*SOLVERS, *PRESETS, "ddim:clip=1", "dpmsolver:threshold=0.995", "ddim:eta=1"]


def rows_of(plan: Plan, model: Callable[[np.ndarray, float], np.ndarray] = denoise) -> DenoiseRows:
    return lambda rows, xs: [model(x, plan.rows[row].timestep) for row, x in zip(rows, xs, strict=True)]


def one_by_one(plan: Plan, *, count: int = 1, **options: object) -> list[PlanStep]:
    start = initial_noise(0, count, SHAPE)
    return list(run_plan(plan, denoise, start, noise_of(0, count), **options))  # type: ignore[arg-type]


def side_by_side(
    plan: Plan, window: int, tolerance: float, *, count: int = 1, model: DenoiseRows | None = None, **options: object
) -> list[PlanStep]:
    start, evaluate = initial_noise(0, count, SHAPE), rows_of(plan) if model is None else model
    noise = noise_of(0, count)
    return list(run_picard(plan, evaluate, start, noise, window=window, tolerance=tolerance, **options))  # type: ignore[arg-type]


def assert_same_steps(found: Sequence[PlanStep], expected: Sequence[PlanStep]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.index, one.total, one.ends_step, one.timestep) == (
            other.index,
            other.total,
            other.ends_step,
            other.timestep,
        )
        for name in ("latents", "before", "output"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# --- the same result ---


@pytest.mark.parametrize("sampler", ALL)
def test_without_tolerance_every_bit_is_that_of_the_loop(sampler: str) -> None:
    plan = plan_of(sampler, 12)
    found = side_by_side(plan, 5, 0.0)
    assert_same_steps(found, one_by_one(plan))
    assert found[-1].rounds <= len(plan.rows) <= found[-1].evaluations


@pytest.mark.parametrize("tolerance", (1e-2, 1e-3))
@pytest.mark.parametrize("sampler", ALL)
def test_the_result_is_within_the_tolerance_and_rounds_are_saved(sampler: str, tolerance: float) -> None:
    plan = plan_of(sampler, 20)
    found, expected = side_by_side(plan, 6, tolerance), one_by_one(plan)
    for one, other in zip(found, expected, strict=True):
        assert relative_rms(one.latents, other.latents) < 1.5 * tolerance
    assert found[-1].rounds <= 0.75 * len(plan.rows)


def test_a_looser_tolerance_is_seen_in_the_result() -> None:
    plan = plan_of("dpmpp_2m", 20)
    expected = one_by_one(plan)[-1].latents
    errors = [relative_rms(side_by_side(plan, 6, each)[-1].latents, expected) for each in (1e-4, 1e-2, 1.0)]
    assert errors[0] < 1e-4 < errors[1] < 1e-2 < errors[2]


@pytest.mark.parametrize("sampler", ("ddim", "euler_ancestral", "sa_solver", "heun"))
def test_a_run_from_an_image_that_keeps_a_part_of_it(sampler: str) -> None:
    plan = plan_of(sampler, 10, 3)
    image = initial_noise(7, 1, SHAPE)

    def blend(row: int, x: np.ndarray) -> np.ndarray:
        return np.where(np.arange(8) < 4, np.float32(0.1 * row), x)

    kept = {"image": image, "blend": blend}
    assert_same_steps(side_by_side(plan, 4, 0.0, **kept), one_by_one(plan, **kept))
    near = side_by_side(plan, 4, 1e-3, **kept)
    assert relative_rms(near[-1].latents, one_by_one(plan, **kept)[-1].latents) < 1.5e-3


def test_images_of_a_batch_settle_together() -> None:
    plan = plan_of("euler_ancestral", 12)
    alone, together = side_by_side(plan, 6, 1e-3), side_by_side(plan, 6, 1e-3, count=3)
    assert together[-1].rounds >= alone[-1].rounds
    expected = one_by_one(plan, count=3)[-1].latents
    for image, wanted in zip(together[-1].latents, expected, strict=True):
        assert relative_rms(image, wanted) < 1.5e-3


def test_an_image_is_not_settled_by_others() -> None:
    """Four images of Gaussian data stay where they are; the last settles as it does alone."""
    plan = plan_of("ddim", 20)

    def mixed(rows: Sequence[int], xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        still, moving = gaussian(plan, 1.0)(rows, [x[:-1] for x in xs]), rows_of(plan)(rows, [x[-1:] for x in xs])
        return [np.concatenate(pair) for pair in zip(still, moving, strict=True)]

    start = initial_noise(0, 5, SHAPE)
    settings = {"window": 6, "tolerance": 1e-2}
    alone = list(run_picard(plan, rows_of(plan), start[-1:], noise_of(4), **settings))  # type: ignore[arg-type]
    together = list(run_picard(plan, mixed, start, noise_of(0, 5), **settings))  # type: ignore[arg-type]
    assert [each.rounds for each in together] == [each.rounds for each in alone]
    np.testing.assert_array_equal(together[-1].latents[-1], alone[-1].latents[0])


def test_the_tolerance_is_of_what_the_model_is_given() -> None:
    """A plan whose latents are ten times as large, and are given to the model as before, settles in the same rounds."""
    plan = plan_of("euler", 20)
    rows = [
        dataclasses.replace(
            row,
            input_scale=row.input_scale / 10,
            data_x=row.data_x / 10,
            matrix=row.matrix * [[1.0, 10.0]],  # x; the output
        )
        for row in plan.rows
    ]
    large = dataclasses.replace(plan, rows=tuple(rows), initial_scale=10 * plan.initial_scale)
    usual, scaled = side_by_side(plan, 6, 1e-2), side_by_side(large, 6, 1e-2)
    assert [each.rounds for each in scaled] == [each.rounds for each in usual]
    np.testing.assert_allclose(scaled[-1].latents, 10 * usual[-1].latents, rtol=1e-3, atol=1e-3)


# --- rounds ---


def gaussian(plan: Plan, variance: float) -> DenoiseRows:
    """The noise that data of this variance predict at z: sigma z / (alpha² variance + sigma²)."""

    def noises(rows: Sequence[int], xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        levels = [(plan.rows[row].alpha, plan.rows[row].sigma) for row in rows]
        return [
            x * np.float32(sigma / (alpha**2 * variance + sigma**2))
            for x, (alpha, sigma) in zip(xs, levels, strict=True)
        ]

    return noises


@pytest.mark.parametrize("sampler", ("ddim", "euler", "euler_ancestral", "dpmpp_2m"))
@pytest.mark.parametrize(("window", "rounds"), ((2, 10), (6, 4), (20, 1), (1000, 1)))
def test_gaussian_data_of_unit_variance_need_one_round_a_window(sampler: str, window: int, rounds: int) -> None:
    plan = plan_of(sampler, 20)
    found = side_by_side(plan, window, 1e-4, model=gaussian(plan, 1.0))
    assert [found[-1].rounds, found[-1].evaluations] == [rounds, 20]


def test_data_of_another_variance_need_more() -> None:
    plan = plan_of("ddim", 20)
    rounds = [side_by_side(plan, 20, 1e-4, model=gaussian(plan, each))[-1].rounds for each in (1.0, 1.2, 4.0, 100.0)]
    assert rounds == sorted(rounds) and rounds[0] == 1 and rounds[1] > 2 and rounds[3] > rounds[1]


def test_rounds_do_not_depend_on_what_the_model_predicts() -> None:
    """Its prediction of the noise, of the velocity and of the image say the same: so do the guesses between rounds."""
    rounds = {}
    for kind in ("epsilon", "v_prediction", "sample"):
        plan = compiled(dataclasses.replace(SD15, prediction_type=kind), "ddim", 20)

        def predict(
            rows: Sequence[int], xs: Sequence[np.ndarray], plan: Plan = plan, kind: str = kind
        ) -> list[np.ndarray]:
            outputs = []
            for index, z in zip(rows, xs, strict=True):
                row = plan.rows[index]
                noise = denoise(z, row.timestep)
                data = (z - row.sigma * noise) / row.alpha
                output = {"epsilon": noise, "sample": data, "v_prediction": row.alpha * noise - row.sigma * data}[kind]
                outputs.append(output.astype(np.float32))
            return outputs

        found = side_by_side(plan, 8, 1e-2, model=predict)
        rounds[kind] = (found[-1].rounds, found[-1].evaluations)
    assert len(set(rounds.values())) == 1 and rounds["epsilon"][0] < 12


def test_a_level_without_noise_is_evaluated_too() -> None:
    plan = plan_of("ddim", 4)
    clean = dataclasses.replace(plan.rows[-1], alpha=1.0, sigma=0.0, data_x=1.0, data_output=0.0)
    plan = dataclasses.replace(plan, rows=(*plan.rows[:-1], clean))
    assert_same_steps(side_by_side(plan, 4, 0.0), one_by_one(plan))


def test_steps_tell_what_they_took() -> None:
    plan = plan_of("ddim", 10)
    asked: list[tuple[int, ...]] = []

    def recorded(rows: Sequence[int], xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        asked.append(tuple(rows))
        return list(rows_of(plan)(rows, xs))

    found = side_by_side(plan, 4, 1e-2, model=recorded)
    assert [step.index for step in found] == list(range(10))
    assert found[-1].rounds == len(asked) and found[-1].evaluations == sum(map(len, asked))
    for step in found:
        assert step.evaluations == sum(map(len, asked[: step.rounds]))
    assert asked[0] == (0, 1, 2, 3) and asked[-1][-1] == 9
    assert all(each == tuple(range(each[0], min(each[0] + 4, 10))) for each in asked)
    assert all(step.rounds == step.evaluations for step in one_by_one(plan))


def test_noise_is_asked_for_once_and_in_the_order_of_the_rows() -> None:
    """So that generators that give one number after the other give the loop's."""
    orders: list[list[int]] = []
    for runs_in_windows in (False, True):
        orders.append(asked := [])

        def recorded(row: int, asked: list[int] = asked) -> np.ndarray:
            asked.append(row)
            return noise_of(0)(row)

        plan = plan_of("euler_ancestral", 12)
        start = initial_noise(0, 1, SHAPE)
        if runs_in_windows:
            list(run_picard(plan, rows_of(plan), start, recorded, window=5, tolerance=1e-3))
        else:
            list(run_plan(plan, denoise, start, recorded))
    assert orders[0] == orders[1] == list(range(11))


def test_nothing_is_evaluated_before_it_is_asked_for_nor_after() -> None:
    plan = plan_of("ddim", 10)
    rounds = []

    def counted(rows: Sequence[int], xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        rounds.append(len(rows))
        return list(rows_of(plan)(rows, xs))

    steps = run_picard(plan, counted, initial_noise(0, 1, SHAPE), noise_of(0), window=4, tolerance=0.0)
    assert rounds == []
    next(steps)
    next(steps)
    steps.close()
    assert rounds == [4, 4]


# --- what cannot be ---


def broken(plan: Plan, spoil: Callable[[int, int, np.ndarray], None]) -> DenoiseRows:
    """A model whose output `spoil` changes: (call, row, output)."""
    calls = []

    def outputs(rows: Sequence[int], xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        calls.append(rows)
        with np.errstate(all="ignore"):
            made = list(rows_of(plan)(rows, xs))
        for row, output in zip(rows, made, strict=True):
            spoil(len(calls), row, output)
        return made

    return outputs


@pytest.mark.parametrize("value", (np.nan, np.inf, 3e38))
def test_a_guess_that_breaks_the_model_is_tried_again(value: float) -> None:
    def spoil(call: int, row: int, output: np.ndarray) -> None:
        if call == 1 and row > 0:
            output[:] = value

    plan = plan_of("dpmpp_2m", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's, about guesses
        found = side_by_side(plan, 4, 0.0, model=broken(plan, spoil))
    assert_same_steps(found, one_by_one(plan))


@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_a_row_that_is_not_finite_raises_and_names_its_step(value: float) -> None:
    def spoil(call: int, row: int, output: np.ndarray) -> None:
        if row == 3:
            output[0, 1, 2, 3] = value

    plan = plan_of("ddim", 8)
    done: list[int] = []
    with pytest.raises(NonFiniteError, match=r"^the model output at step 4 of 8 \(timestep \d"):
        for step in run_picard(
            plan, broken(plan, spoil), initial_noise(0, 1, SHAPE), noise_of(0), window=4, tolerance=0.0
        ):
            done.append(step.index)
    assert done == [0, 1, 2]


def test_latents_that_overflow_raise() -> None:
    plan = plan_of("ddim", 4)
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="latent after step 1 of 4"):
        side_by_side(plan, 4, 0.1, model=lambda rows, xs: [np.full_like(x, 3e38) for x in xs])


def test_noise_that_is_not_finite_raises() -> None:
    plan = plan_of("ddim", 4)
    start = np.full((1, *SHAPE), np.nan, np.float32)
    with pytest.raises(NonFiniteError, match="initial noise"):
        next(run_picard(plan, rows_of(plan), start, noise_of(0), window=2, tolerance=0.1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    plan = plan_of("euler_ancestral", 4)
    start = initial_noise(0, 1, SHAPE)
    wrong = "^the model output at step 1 of 4"
    with pytest.raises(InputError, match=wrong + r".* shape \(1, 4, 8, 7\), expected \(1, 4, 8, 8\)"):
        next(run_picard(plan, lambda rows, xs: [x[..., :7] for x in xs], start, noise_of(0), window=2, tolerance=0.1))
    with pytest.raises(InputError, match=r"noise at step 1 of 4"):
        noise = lambda row: np.zeros((2, *SHAPE), np.float32)  # noqa: E731
        next(run_picard(plan, rows_of(plan), start, noise, window=2, tolerance=0.1))
