"""What no sampler, schedule or number of steps can be is refused by name, and nothing else."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ldm_runtime.errors import FormatError, InputError
from ldm_runtime.sampling.plan import check_steps, compile_plan
from ldm_runtime.sampling.schedule import BETA_SCHEDULES, PREDICTION_TYPES, TIMESTEP_SPACINGS, NoiseSchedule
from ldm_runtime.sampling.solvers import SOLVERS, read_sampler
from tests.runtime.sampling.compiled import compiled
from tests.runtime.sampling.plan_cases import DIFFUSION, OF_DIFFUSERS, SD15, SHORT, SLOW, variants

pytestmark = OF_DIFFUSERS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("midpoint", r"'midpoint' is not known; expected one of ddpm, ddim, .*plms"),
        ("euler:order=2", r"'order=2' is none of its options; expected sigmas=…, final=…, sigma_min=…"),
        ("euler_ancestral:sigmas=karras", "is none of its options; it has none"),
        ("dpmsolver:order=4", "order is '4', expected an integer from 1 to 3"),
        ("dpmsolver:order=two", "order is 'two', expected an integer"),
        ("dpmsolver:order=2,order=3", "'order' is given twice"),
        ("dpmsolver:order", "'order' is none of its options"),
        ("dpmsolver:", None),
        ("ddim:eta=nan", "eta is 'nan', expected a number from 0 to 1"),
        ("ddim:eta=1.5", "eta is '1.5', expected a number from 0 to 1"),
        ("dpmsolver:lower_order_final=yes", "expected true or false"),
        ("dpmsolver:sigmas=cosine", "expected one of default, karras"),
        ("dpmsolver:algorithm=dpmsolver", "cannot end at zero noise; use it with final=sigma_min"),
        ("dpmsolver:algorithm=sde-dpmsolver,order=3,final=sigma_min", "has no order 3"),
        ("unipc:predict=eps", "cannot end at zero noise"),
        ("unipc:lower_order_final=false", "cannot end at zero noise"),
        ("sa_solver:predict=eps,threshold=0.9", "predict=eps does not take a threshold"),
        ("flow_euler", r"does not take models with 'epsilon' prediction, only with flow_prediction; use one of ddpm"),
        ("lcm:original_steps=4", "7 steps of 'lcm' are not usable with original_steps 4"),
        (None, "sampler is None; expected a name"),
    ],
)
def test_what_no_sampler_can_do_is_refused_by_name(text: Any, message: str | None) -> None:
    if message is None:
        assert compiled(SD15, text, 7).sampler == read_sampler("dpmsolver")
        return
    with pytest.raises(InputError, match=message):
        compiled(SD15, text, 7)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_what_diffusers_does_not_accept_is_refused_by_name(sampler: str) -> None:
    solver = SOLVERS[sampler]
    for prediction_type in set(PREDICTION_TYPES) - set(solver.predictions):
        with pytest.raises(InputError, match=f"does not take models with '{prediction_type}' prediction"):
            compiled(dataclasses.replace(SD15, prediction_type=prediction_type), sampler, 5)
    if not solver.zero_snr and sampler not in ("flow_euler",):
        schedule = dataclasses.replace(SD15, rescale_betas_zero_snr=True, prediction_type="v_prediction")
        with pytest.raises(InputError, match=f"'{sampler}' does not take a schedule with zero terminal SNR"):
            compiled(schedule, sampler, 5)


@pytest.mark.parametrize("steps", (0, -1, 1001, True, 2.0, "20", None))
def test_unusable_steps_are_refused(steps: Any) -> None:
    with pytest.raises(InputError, match="from 1 to 1000"):
        compiled(SD15, "ddim", steps)


@pytest.mark.parametrize("start", (-1, 20, True, 1.0))
def test_an_unusable_start_is_refused(start: Any) -> None:
    with pytest.raises(InputError, match="start .* from 0 to 19"):
        compiled(SD15, "ddim", 20, start)


def test_steps_of_numpy_are_accepted() -> None:
    assert compiled(SD15, "ddim", np.int64(20)).steps == 20  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ("ddim", "euler", "euler_ancestral", "ddpm", "pndm:skip_prk_steps=true"))
def test_a_timestep_above_the_trained_ones_is_refused(sampler: str) -> None:
    leading = dataclasses.replace(SD15, timestep_spacing="leading")
    assert compiled(leading, sampler, 999).rows[0].timestep == 999
    with pytest.raises(InputError, match="reach timestep 1000, but the model was trained on 0 to 999"):
        compiled(leading, sampler, 1000)


def test_dpmpp_refuses_two_rows_at_one_timestep() -> None:
    leading = dataclasses.replace(SD15, timestep_spacing="leading", steps_offset=0)
    assert len(compiled(leading, "dpmpp_2m", 999).rows) == 999
    with pytest.raises(InputError, match="1000 steps are too many .* does not fall after step 1 "):
        compiled(leading, "dpmpp_2m", 1000)


def test_noise_that_rises_is_refused() -> None:
    """Zero terminal SNR puts 2^-24 at the last timestep, above what a linear schedule has just before it."""
    linear = dataclasses.replace(SD15, beta_schedule="linear", beta_end=0.02, rescale_betas_zero_snr=True)
    linear = dataclasses.replace(linear, timestep_spacing="trailing")
    for sampler in ("euler", "euler_ancestral", "dpmpp_2m"):
        assert len(compiled(linear, sampler, 200).rows) == 200
        with pytest.raises(InputError, match="500 steps are too many"):
            compiled(linear, sampler, 500)


@SLOW
def test_any_schedule_gives_finite_numbers_or_one_clear_refusal() -> None:
    draw = np.random.default_rng(20)
    texts = [*DIFFUSION, *variants()]
    finite = 0
    for _ in range(1500):
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
            "rescale_betas_zero_snr": bool(draw.integers(4) == 0),
        }
        text = str(draw.choice(texts))
        steps = int(draw.integers(1, min(fields["num_train_timesteps"], 60) + 1))
        start = int(draw.integers(steps)) if draw.integers(2) else 0
        try:
            plan = compiled(NoiseSchedule(**fields), text, steps, start)
        except (FormatError, InputError):
            continue
        finite += 1
        assert len(plan.rows) >= steps - start and 0.0 < plan.initial_scale < np.inf
        for row in plan.rows:
            assert np.isfinite(row.matrix).all() and 0 <= row.timestep < fields["num_train_timesteps"], (fields, text)
    assert finite > 500


def test_ddim_refuses_epsilon_at_zero_signal_and_takes_v_prediction() -> None:
    zero_snr = dataclasses.replace(SD15, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(InputError, match="zero signal with epsilon prediction"):
        compiled(zero_snr, "ddim", 10)
    plan = compiled(dataclasses.replace(zero_snr, prediction_type="v_prediction"), "ddim", 10)
    assert plan.rows[0].alpha == 0.0 and all(np.isfinite(row.matrix).all() for row in plan.rows)
    assert "inf" in plan.describe()


@pytest.mark.parametrize("sampler", [*SOLVERS, "euler:sigmas=beta", "unipc:predict=eps"])
def test_steps_are_refused_with_the_sentence_of_the_plan(sampler: str) -> None:
    for spacing, offset, steps in itertools.product(("leading", "linspace"), (1, 99), (1, 51)):
        schedule = dataclasses.replace(SHORT, timestep_spacing=spacing, steps_offset=offset)
        answers = [refusal(check, schedule, sampler, steps) for check in (check_steps, compile_plan)]
        assert answers[0] == answers[1], (spacing, offset, steps)


def refusal(check: Callable[..., object], schedule: NoiseSchedule, sampler: str, steps: int) -> str | None:
    try:
        check(schedule, read_sampler(sampler), steps)
    except InputError as error:
        return str(error)
    return None
