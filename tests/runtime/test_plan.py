"""Sampling plans against diffusers' schedulers: every coefficient in float64, every step in float32."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ldm_runtime.errors import ConfigError, InputError
from ldm_runtime.plan import SAMPLERS, Plan, compile_plan
from ldm_runtime.schedule import BETA_SCHEDULES, PREDICTION_TYPES, TIMESTEP_SPACINGS, NoiseSchedule
from tests.runtime import diffusers_schedulers as oracle

SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)
STEPS = (1, 2, 3, 10)

# numpy 2 about an old call inside diffusers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def schedules(sampler: str, beta_schedule: str) -> Iterator[NoiseSchedule]:
    """Every combination of the fields that the sampler looks at."""
    spacings = (None,) if sampler == "dpmpp_2m_karras" else (None, "leading", "linspace", "trailing")
    finals = (False, True) if sampler == "ddim" else (True,)
    for prediction_type, spacing, zero_snr in itertools.product(PREDICTION_TYPES, spacings, (False, True)):
        offsets = (0, 1) if spacing == "leading" else (1,)
        for offset, final in itertools.product(offsets, finals):
            yield NoiseSchedule(
                num_train_timesteps=1000,
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule=beta_schedule,
                prediction_type=prediction_type,
                timestep_spacing=spacing,
                steps_offset=offset,
                set_alpha_to_one=final,
                rescale_betas_zero_snr=zero_snr,
            )


def has_an_oracle(schedule: NoiseSchedule, sampler: str) -> bool:
    if sampler == "euler_ancestral" and schedule.prediction_type == "sample":
        return False  # diffusers: "prediction_type not implemented yet"
    return not divides_by_zero(schedule, sampler)


def divides_by_zero(schedule: NoiseSchedule, sampler: str) -> bool:
    """DDIM with epsilon prediction at zero signal: diffusers gives infinities there, we refuse."""
    starts_at_the_end = schedule.timestep_spacing in ("linspace", "trailing")
    at_zero = schedule.rescale_betas_zero_snr and starts_at_the_end
    return sampler == "ddim" and schedule.prediction_type == "epsilon" and at_zero


def probe(monkeypatch: pytest.MonkeyPatch, scheduler: Any, row: int, history: int) -> np.ndarray:
    """Read a row's matrix off a scheduler: x, previous x0, model output and noise are unit vectors.

    Returns float64 (1 + history, 4): coefficients of x, previous x0, model output, noise.
    """
    x, before, output, noise = torch.eye(4, dtype=torch.float64).reshape(4, 1, 4, 1, 1)
    if history:
        scheduler.model_outputs[-1] = before
    _, after = oracle.take_step(monkeypatch, scheduler, row, x, output, noise)
    lines = [after, oracle.previous_x0(scheduler)] if history else [after]
    return torch.stack(lines).reshape(len(lines), 4).numpy()


def widen(matrix: np.ndarray, history: int) -> np.ndarray:
    """A plan row's matrix with a column for the previous x0 and one for noise, used or not."""
    full = np.zeros((len(matrix), 4))
    full[:, 0] = matrix[:, 0]
    if history:
        full[:, 1] = matrix[:, 1]
    full[:, 2] = matrix[:, 1 + history]
    if matrix.shape[1] > 2 + history:
        full[:, 3] = matrix[:, 2 + history]
    return full


def coefficient_error(monkeypatch: pytest.MonkeyPatch, plan: Plan, scheduler: Any) -> float:
    """Largest difference of any number of the plan from the scheduler's, relative to its matrix line."""
    errors = [abs(oracle.initial_scale(scheduler) / plan.initial_scale - 1.0)]
    assert len(scheduler.timesteps) == len(plan.rows)
    for index, row in enumerate(plan.rows):
        errors.append(abs(float(scheduler.timesteps[index]) - row.timestep))
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        scaled = scheduler.scale_model_input(one, scheduler.timesteps[index])
        errors.append(abs(float(scaled) / row.input_scale - 1.0))
        expected = probe(monkeypatch, scheduler, index, plan.history)
        actual = widen(row.matrix, plan.history)
        errors.append(float((np.abs(actual - expected).max(1) / np.abs(expected).max(1)).max()))
    return max(errors)


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_coefficient_is_the_one_of_diffusers_in_float64(
    sampler: str, beta_schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle.run_in_float64(monkeypatch)
    compared = 0
    for schedule, steps in itertools.product(schedules(sampler, beta_schedule), STEPS):
        if has_an_oracle(schedule, sampler):
            plan = compile_plan(schedule, sampler, steps)
            scheduler = oracle.open_scheduler(schedule, sampler, steps)
            assert coefficient_error(monkeypatch, plan, scheduler) < 1e-9, (schedule, steps)
            compared += 1
    assert compared >= 24


@pytest.mark.parametrize("steps", (4, 15, 16, 50, 333))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_many_steps_agree_too(sampler: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle.run_in_float64(monkeypatch)
    plan = compile_plan(SD15, sampler, steps)
    scheduler = oracle.open_scheduler(SD15, sampler, steps)
    assert coefficient_error(monkeypatch, plan, scheduler) < 1e-9


CHANGES = {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 2,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": True,
    "beta_end": 0.0121,
    "beta_schedule": "linear",
    "num_train_timesteps": 999,
}
WITHOUT_EFFECT = {  # fields that the sampler does not look at, with Stable Diffusion 1.5's schedule
    "ddim": (),
    "euler": ("steps_offset", "set_alpha_to_one"),
    "euler_ancestral": ("steps_offset", "set_alpha_to_one"),
    "dpmpp_2m": ("steps_offset", "set_alpha_to_one"),
    "dpmpp_2m_karras": ("steps_offset", "set_alpha_to_one", "timestep_spacing"),
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_changed_field_of_the_schedule_is_noticed(sampler: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle.run_in_float64(monkeypatch)
    changed = dataclasses.replace(SD15, **{field: CHANGES[field]})
    scheduler = oracle.open_scheduler(SD15, sampler, 7)
    error = coefficient_error(monkeypatch, compile_plan(changed, sampler, 7), scheduler)
    assert (error < 1e-9) == (field in WITHOUT_EFFECT[sampler])


@pytest.mark.parametrize("wrong", [name for name in SAMPLERS if name != "dpmpp_2m"])
def test_another_sampler_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself can fail: no other scheduler passes for DPM-Solver++ 2M."""
    oracle.run_in_float64(monkeypatch)
    plan = compile_plan(SD15, "dpmpp_2m", 5)
    without_history = dataclasses.replace(
        plan,
        history=0,
        rows=tuple(dataclasses.replace(row, matrix=row.matrix[:1, [0, 2]]) for row in plan.rows),
    )
    same_state = plan if SAMPLERS[wrong].history else without_history
    assert coefficient_error(monkeypatch, same_state, oracle.open_scheduler(SD15, wrong, 5)) > 1e-3


def step_error(monkeypatch: pytest.MonkeyPatch, schedule: NoiseSchedule, sampler: str, steps: int) -> float:
    """Worst relative RMS of one step's latents, each step fed the state of diffusers as shipped (float32)."""
    plan = compile_plan(schedule, sampler, steps)
    scheduler = oracle.open_scheduler(schedule, sampler, steps)
    draw = torch.Generator().manual_seed(steps)
    x = torch.randn(2, 4, 8, 8, generator=draw) * scheduler.init_noise_sigma
    before = torch.zeros_like(x)
    errors = []
    for index, row in enumerate(plan.rows):
        output, noise = torch.randn(2, 2, 4, 8, 8, generator=draw)
        scaled, after = oracle.take_step(monkeypatch, scheduler, index, x, output, noise)
        columns = [x, before, output, noise]
        coefficients = widen(row.matrix, plan.history)[0]
        ours = sum(float(c) * column.double() for c, column in zip(coefficients, columns, strict=True))
        errors.append(relative_rms(ours, after))
        errors.append(relative_rms(row.input_scale * x.double(), scaled))
        x = after
        if plan.history:
            before = oracle.previous_x0(scheduler)
    return max(errors)


def relative_rms(actual: torch.Tensor, expected: torch.Tensor) -> float:
    difference = actual.double() - expected.double()
    return float((difference.square().mean() / expected.double().square().mean()).sqrt())


@pytest.mark.parametrize("steps", (1, 2, 3, 10, 50))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_is_that_of_diffusers_as_shipped(sampler: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for schedule in schedules(sampler, "scaled_linear"):
        if has_an_oracle(schedule, sampler) and schedule.prediction_type != "sample":
            # Under zero terminal SNR (sigma 4096) Euler in float32 is itself off by 2e-4.
            loose = schedule.rescale_betas_zero_snr and sampler.startswith("euler")
            assert step_error(monkeypatch, schedule, sampler, steps) < (3e-4 if loose else 1e-5), schedule


@pytest.mark.parametrize("prediction_type", ("v_prediction", "sample"))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_prediction_types_are_one_sampler_in_other_coordinates(sampler: str, prediction_type: str) -> None:
    """Also the only oracle of Euler ancestral with sample prediction, which diffusers lacks."""
    epsilon = compile_plan(SD15, sampler, 6)
    other = compile_plan(dataclasses.replace(SD15, prediction_type=prediction_type), sampler, 6)
    column = 1 + epsilon.history
    for row, actual in zip(epsilon.rows, other.rows, strict=True):
        # epsilon = a * x + b * the other model output
        if prediction_type == "sample":
            a, b = row.input_scale / row.sigma, -row.alpha / row.sigma
        else:
            a, b = row.sigma * row.input_scale, row.alpha
        expected = row.matrix.copy()
        expected[:, 0] += a * row.matrix[:, column]
        expected[:, column] = b * row.matrix[:, column]
        np.testing.assert_allclose(actual.matrix, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_levels_are_normalised_and_fall_to_the_final_one(sampler: str) -> None:
    plan = compile_plan(SD15, sampler, 20)
    for row, following in itertools.pairwise(plan.rows):
        assert row.alpha**2 + row.sigma**2 == pytest.approx(1.0, abs=1e-12)
        assert row.sigma_next < row.sigma
        assert (row.alpha_next, row.sigma_next) == pytest.approx((following.alpha, following.sigma), abs=1e-12)
    final = float(np.sqrt(1.0 - SD15.alphas_cumprod()[0])) if sampler == "ddim" else 0.0
    assert plan.rows[-1].sigma_next == pytest.approx(final, abs=1e-15)


@pytest.mark.parametrize("spacing", ("leading", "linspace", "trailing"))
@pytest.mark.parametrize("sampler", ("ddim", "euler", "dpmpp_2m"))
def test_timesteps_are_those_of_diffusers_for_any_number_of_steps(sampler: str, spacing: str) -> None:
    schedule = dataclasses.replace(SD15, timestep_spacing=spacing)
    for steps in (*range(1, 130), 200, 250, 256, 300, 333, 400, 499):
        scheduler = oracle.open_scheduler(schedule, sampler, steps)
        expected = scheduler.timesteps.tolist()
        if len(expected) == steps + 1:  # 61, 103, … trailing: a row too many
            assert expected.pop() == -1
        assert [row.timestep for row in compile_plan(schedule, sampler, steps).rows] == expected, steps


def test_only_euler_ancestral_reads_noise_and_never_on_its_last_row() -> None:
    for sampler in SAMPLERS:
        rows = compile_plan(SD15, sampler, 5).rows
        streams = [row.noise_rows for row in rows]
        ancestral = sampler == "euler_ancestral"
        assert streams == ([(0,), (1,), (2,), (3,), ()] if ancestral else [()] * 5)
        assert all(row.matrix.shape[1] == row.matrix.shape[0] + 1 + len(row.noise_rows) for row in rows)


def test_an_unknown_sampler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'pndm' is not known; expected one of ddim, euler, .*dpmpp_2m_karras"):
        compile_plan(SD15, "pndm", 20)


@pytest.mark.parametrize("steps", (0, -1, 1001, True, 2.0, "20", None))
def test_unusable_steps_are_refused(steps: Any) -> None:
    with pytest.raises(InputError, match="from 1 to 1000"):
        compile_plan(SD15, "ddim", steps)


def test_steps_of_numpy_are_accepted() -> None:
    assert compile_plan(SD15, "ddim", np.int64(20)).steps == 20  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ("ddim", "euler", "euler_ancestral"))
def test_a_timestep_above_the_trained_ones_is_refused(sampler: str) -> None:
    leading = dataclasses.replace(SD15, timestep_spacing="leading")
    assert compile_plan(leading, sampler, 999).rows[0].timestep == 999
    with pytest.raises(InputError, match="reach timestep 1000, but the model was trained on 0 to 999"):
        compile_plan(leading, sampler, 1000)


def test_dpmpp_refuses_two_rows_at_one_timestep() -> None:
    leading = dataclasses.replace(SD15, timestep_spacing="leading", steps_offset=0)
    assert len(compile_plan(leading, "dpmpp_2m", 999).rows) == 999
    with pytest.raises(InputError, match="1000 steps are too many .* does not fall after row 0 "):
        compile_plan(leading, "dpmpp_2m", 1000)


def test_noise_that_rises_is_refused() -> None:
    """Zero terminal SNR puts 2^-24 at the last timestep, above what a linear schedule has just before it."""
    linear = dataclasses.replace(SD15, beta_schedule="linear", beta_end=0.02, rescale_betas_zero_snr=True)
    linear = dataclasses.replace(linear, timestep_spacing="trailing")
    for sampler in ("euler", "euler_ancestral", "dpmpp_2m"):
        assert len(compile_plan(linear, sampler, 200).rows) == 200
        with pytest.raises(InputError, match="500 steps are too many"):
            compile_plan(linear, sampler, 500)


def test_any_schedule_gives_finite_numbers_or_one_clear_refusal() -> None:
    draw = np.random.default_rng(20)
    compiled = 0
    for _ in range(400):
        low, high = sorted(10.0 ** draw.uniform(-8, -0.5, 2))
        fields = {
            "num_train_timesteps": int(draw.choice([2, 3, 10, 50, 1000])),
            "beta_start": low,
            "beta_end": high,
            "beta_schedule": str(draw.choice(BETA_SCHEDULES)),
            "prediction_type": str(draw.choice(PREDICTION_TYPES)),
            "timestep_spacing": [None, *TIMESTEP_SPACINGS][draw.integers(4)],
            "steps_offset": int(draw.integers(2)),
            "set_alpha_to_one": bool(draw.integers(2)),
            "rescale_betas_zero_snr": bool(draw.integers(2)),
        }
        sampler = str(draw.choice(list(SAMPLERS)))
        steps = int(draw.integers(1, fields["num_train_timesteps"] + 1))
        try:
            plan = compile_plan(NoiseSchedule.from_dict(fields), sampler, steps)
        except (ConfigError, InputError) as error:
            assert "fewer" in str(error) or "zero signal" in str(error), (fields, sampler, steps)
            continue
        compiled += 1
        assert len(plan.rows) == steps and 0.0 < plan.initial_scale < np.inf
        for row in plan.rows:
            assert np.isfinite(row.matrix).all() and 0 <= row.timestep < fields["num_train_timesteps"]
    assert compiled > 150


def test_ddim_refuses_epsilon_at_zero_signal_and_takes_v_prediction() -> None:
    zero_snr = dataclasses.replace(SD15, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(InputError, match="zero signal with epsilon prediction"):
        compile_plan(zero_snr, "ddim", 10)
    plan = compile_plan(dataclasses.replace(zero_snr, prediction_type="v_prediction"), "ddim", 10)
    assert plan.rows[0].alpha == 0.0 and all(np.isfinite(row.matrix).all() for row in plan.rows)
    assert "inf" in plan.describe()


def test_the_identity_is_of_the_inputs_and_fixed() -> None:
    assert compile_plan(SD15, "ddim", 20).identity == compile_plan(SD15, "ddim", 20).identity
    plans = [compile_plan(SD15, "ddim", 20), compile_plan(SD15, "ddim", 21), compile_plan(SD15, "euler", 20)]
    plans += [compile_plan(dataclasses.replace(SD15, **{name: CHANGES[name]}), "ddim", 20) for name in CHANGES]
    assert len({plan.identity for plan in plans}) == len(plans)
    # SHA-256 of "beta_end=0.012\nbeta_schedule=scaled_linear\n…": any implementation must find it
    assert plans[0].identity == "e9717a4ab4077d038401bb754f291bbd80bcc9db50f7e8cd9d81bfb38f216355"


def test_the_table_shows_every_row() -> None:
    plan = compile_plan(SD15, "euler_ancestral", 3)
    lines = plan.describe().splitlines()
    assert len(lines) == 2 + 3
    assert "euler_ancestral, 3 steps" in lines[0] and plan.identity[:16] in lines[0]
    assert "499.5" in lines[3] and "noise of row 1" in lines[3] and "noise" not in lines[4]


def test_a_new_sampler_is_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    again = dataclasses.replace(SAMPLERS["ddim"], spacing="trailing")
    monkeypatch.setitem(SAMPLERS, "ddim_trailing", again)
    rows = compile_plan(SD15, "ddim_trailing", 4).rows
    assert [row.timestep for row in rows] == [999, 749, 499, 249]
