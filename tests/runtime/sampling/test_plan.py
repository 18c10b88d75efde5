"""Sampling plans against diffusers' schedulers: every coefficient, in float64.

A scheduler is linear in the first latent, the model outputs and the noise. Run on unit vectors, one for each of them,
it writes down all its coefficients; a plan run on the same vectors has to have the same.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.loop import noised
from ldm_runtime.sampling.plan import Plan, PlanRow, compile_plan
from ldm_runtime.sampling.schedule import BETA_SCHEDULES, PREDICTION_TYPES, FlowSchedule
from ldm_runtime.sampling.solvers import SAMPLERS, SOLVERS, read_sampler
from ldm_runtime.sampling.solvers.options import kinds_of
from tests.runtime.sampling import diffusers_schedulers as oracle
from tests.runtime.sampling.compiled import compiled
from tests.runtime.sampling.plan_cases import (
    CHANGES,
    DIFFUSION,
    FLOW,
    OF_DIFFUSERS,
    QUICK_FIRST,
    SD15,
    SLOW,
    STEPS,
    accepted,
    coefficient_error,
    variants,
)

pytestmark = OF_DIFFUSERS


@pytest.mark.parametrize("spacings", [(None, "trailing"), pytest.param(("leading", "linspace"), marks=SLOW)])
@pytest.mark.parametrize("sampler", QUICK_FIRST)
def test_every_coefficient_is_the_one_of_diffusers_in_float64(sampler: str, spacings: tuple[str | None, ...]) -> None:
    compared = 0
    for prediction_type, spacing in itertools.product(PREDICTION_TYPES, spacings):
        schedule = dataclasses.replace(SD15, prediction_type=prediction_type, timestep_spacing=spacing)
        if not accepted(sampler, schedule):
            continue
        for steps in STEPS:
            if "pndm" in (sampler, read_sampler(sampler).canonical) and steps < 4:
                continue  # its Runge-Kutta start
            assert coefficient_error(schedule, sampler, steps) < 1e-9, (schedule, steps)
            compared += 1
    assert compared >= 4


@SLOW
@pytest.mark.parametrize("sampler", DIFFUSION)
def test_other_schedules_too(sampler: str) -> None:
    compared = 0
    for beta_schedule, zero_snr, offset in itertools.product(BETA_SCHEDULES, (False, True), (0, 1)):
        schedule = dataclasses.replace(
            SD15,
            beta_schedule=beta_schedule,
            rescale_betas_zero_snr=zero_snr,
            steps_offset=offset,
            set_alpha_to_one=bool(offset),
            prediction_type="v_prediction",
        )
        for spacing in (None, "leading", "trailing"):
            schedule = dataclasses.replace(schedule, timestep_spacing=spacing)
            if accepted(sampler, schedule):
                assert coefficient_error(schedule, sampler, 5) < 1e-8, schedule
                compared += 1
    assert compared >= 18


# Steps and the first of them. What a model predicts is read row by row, whatever an option makes of the rows: the other
# prediction takes the last four, and every solver's own defaults take more of them in the tests above and below.
RUNS = ((1, 0), (2, 0), (3, 0), (50, 0), (4, 0), (7, 0), (16, 0), (7, 3))


@SLOW
@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize("solver", sorted({read_sampler(text).name for text in variants()}))
def test_every_option_is_that_of_diffusers(solver: str, prediction_type: str) -> None:
    schedule = dataclasses.replace(SD15, prediction_type=prediction_type)
    runs = RUNS if prediction_type == "epsilon" else RUNS[4:]
    for text in variants():
        if read_sampler(text).name == solver:
            for steps, start in runs:
                if steps > vars(read_sampler(text).options).get("original_steps", steps):
                    continue  # more than the distilled model's
                assert coefficient_error(schedule, text, steps, start) < 1e-8, (text, steps, start)


def test_the_list_of_options_is_complete() -> None:
    """Every word of every choice, and a change of every other option, is in some variant."""
    seen: dict[str, set[tuple[str, Any]]] = {}
    for text in (*variants(), *SAMPLERS):
        sampler = read_sampler(text)
        seen.setdefault(sampler.name, set()).update(vars(sampler.options).items())
    for name, solver in SOLVERS.items():
        for option, kind in kinds_of(solver.options).items():
            values = {value for key, value in seen[name] if key == option}
            if option in ("clip", "threshold", "threshold_max") or name == "flow_euler":
                continue  # not linear, or another schedule: tests of their own
            if option == "sigmas" and name == "dpmsolver":
                values.add("ays")  # a test of its own
            assert values >= set(getattr(kind, "names", ())), (name, option)
            assert len(values) > 1, (name, option)


def test_align_your_steps_are_its_ten_timesteps() -> None:
    assert [row.timestep for row in compiled(SD15, "dpmsolver:sigmas=ays", 10).rows] == oracle.AYS
    assert coefficient_error(SD15, "dpmsolver:sigmas=ays", 10) < 1e-9
    # between them, along the logarithm of sigma, as in the authors' code
    ratios = [row.sigma / row.alpha for row in compiled(SD15, "dpmsolver:sigmas=ays", 20).rows]
    bars = SD15.alphas_cumprod()
    known = np.log([np.sqrt((1 - bars[t]) / bars[t]) for t in (*oracle.AYS, 0)])
    expected = np.exp(np.interp(np.linspace(0, 1, 21), np.linspace(0, 1, 11), known))[:20]
    np.testing.assert_allclose(ratios, expected, rtol=1e-12)


@pytest.mark.parametrize("steps", (16, *(pytest.param(steps, marks=SLOW) for steps in (15, 50))))
@pytest.mark.parametrize("sampler", QUICK_FIRST)
def test_many_steps_agree_too(sampler: str, steps: int) -> None:
    schedule = dataclasses.replace(SD15, prediction_type="v_prediction")
    assert coefficient_error(schedule, sampler, steps) < 1e-9


@pytest.mark.parametrize("sampler", QUICK_FIRST)
def test_a_plan_that_starts_late_is_that_of_diffusers(sampler: str) -> None:
    """Image to image: the scheduler's begin index; what solvers remember starts anew."""
    if read_sampler(sampler).canonical == "pndm":
        with pytest.raises(InputError, match="skip_prk_steps"):
            compiled(SD15, sampler, 8, 3)
        return
    schedule = dataclasses.replace(SD15, prediction_type="v_prediction")
    for steps, start in ((2, 1), (8, 1), (8, 3), (8, 7), (20, 9)):
        plan = compiled(schedule, sampler, steps, start)
        assert coefficient_error(schedule, sampler, steps, start) < 1e-9, (steps, start)
        assert plan.identity != compiled(schedule, sampler, steps).identity


@pytest.mark.parametrize("sampler", DIFFUSION)
def test_an_image_is_noised_as_diffusers_does(sampler: str) -> None:
    start = 0 if read_sampler(sampler).canonical == "pndm" else 3
    plan = compiled(SD15, sampler, 8, start)
    picture, noise = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with oracle.float64():
        scheduler = oracle.open_scheduler(SD15, sampler, 8)
        first = start * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        expected = scheduler.add_noise(picture.double(), noise.double(), scheduler.timesteps[first : first + 1])
    actual = noised(plan.rows[0], picture.numpy(), noise.numpy())
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"shift": 3.0},
        {"shift": 0.5, "shift_terminal": 0.1},
        {"shift": 3.0, "use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"stochastic_sampling": True},
    ],
)
@pytest.mark.parametrize("steps", (2, 3, 10, 50))
def test_flow_is_that_of_diffusers(config: dict[str, Any], steps: int) -> None:
    from ldm_export.checkpoint.scheduler import read_scheduler_config

    file = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, **config}
    schedule, sampler = read_scheduler_config(file)
    assert isinstance(schedule, FlowSchedule)
    for start in (0, 1):
        plan = compile_plan(schedule, sampler, steps, start)
        generator = torch.Generator().manual_seed(steps)
        scheduler = oracle.open_flow(config, steps)
        first, rows = torch.randn(1, 1, 4, 4, 4, generator=generator)[0], len(plan.rows)
        outputs, noises = torch.randn(2, rows, 1, 4, 4, 4, generator=generator)
        taken = list(oracle.walk(scheduler, "flow_euler", start, first, outputs.__getitem__, noises.__getitem__))
        state = first.double().numpy()
        for index, (row, theirs) in enumerate(zip(plan.rows, taken, strict=True)):
            assert row.timestep == pytest.approx(theirs.timestep, rel=1e-5)
            columns = [state, outputs[index].numpy(), *(noises[stream].numpy() for stream in row.noise_rows)]
            state = sum(c * column for c, column in zip(row.matrix[0], columns, strict=True))
            np.testing.assert_allclose(state, theirs.after.numpy(), atol=2e-5)


def test_one_step_of_flow_goes_all_the_way() -> None:
    (row,) = compiled(FLOW, "flow_euler", 1).rows
    assert row.timestep == 1000.0
    np.testing.assert_allclose(row.matrix, [[1.0, -1.0]])


LOOKED_AT = {  # of the fields that not every sampler looks at, with Stable Diffusion 1.5's schedule
    "steps_offset": {"ddim", "ddpm", "pndm"},
    "set_alpha_to_one": {"ddim", "pndm"},
    "timestep_spacing": {
        "ddim", "ddpm", "pndm", "lms", "euler", "euler_ancestral", "heun", "dpm2", "dpm2_ancestral", "dpmpp_sde",
        "dpmsolver", "deis", "unipc", "sa_solver",
    },
    "rescale_betas_zero_snr": {"euler", "euler_ancestral", "dpmsolver", "unipc", "ddim", "ddpm", "lcm", "tcd"},
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("sampler", [name for name in SOLVERS if name != "flow_euler"])
def test_a_changed_field_of_the_schedule_is_noticed(sampler: str, field: str) -> None:
    changed = dataclasses.replace(SD15, **{field: CHANGES[field]})
    if field == "rescale_betas_zero_snr" and not accepted(sampler, changed):
        with pytest.raises(InputError, match="zero terminal SNR|zero signal"):
            compiled(dataclasses.replace(changed, timestep_spacing="trailing"), sampler, 7)
        return
    error = coefficient_error(SD15, sampler, 7, plan=compiled(changed, sampler, 7))
    assert (error > 1e-9) == (field not in LOOKED_AT or sampler in LOOKED_AT[field])


@pytest.mark.parametrize("wrong", [name for name in DIFFUSION if name not in ("dpmpp_2m", "dpmsolver")])
def test_another_sampler_is_noticed(wrong: str) -> None:
    """The comparison itself can fail: no other scheduler passes for DPM-Solver++ 2M."""
    assert coefficient_error(SD15, "dpmpp_2m", 5, against=wrong) > 1e-3


@pytest.mark.parametrize("index", (0, 2, 4))
@pytest.mark.parametrize("sampler", ("dpmpp_2m", "unipc", "heun", "lms", "dpmpp_sde", "sa_solver", "ddim:eta=0.5"))
def test_a_coefficient_that_is_off_is_noticed(sampler: str, index: int) -> None:
    plan = compiled(SD15, sampler, 5)
    row = plan.rows[index]
    for place in zip(*np.nonzero(row.matrix), strict=True):
        if index == len(plan.rows) - 1 and place[0] > 0:
            continue  # what is remembered after the last row is never read
        matrix = row.matrix.copy()
        matrix[place] += 1e-4
        rows = [dataclasses.replace(row, matrix=matrix) if other is row else other for other in plan.rows]
        changed = dataclasses.replace(plan, rows=tuple(rows))
        used = coefficient_error(SD15, sampler, 5, plan=changed) > 1e-9
        assert used or _never_read(plan, index, place[0] - 1), place


def _never_read(plan: Plan, index: int, slot: int) -> bool:
    """Whether no later row reads a history slot before it is written anew, or moved on."""
    following: PlanRow = plan.rows[index + 1]
    return slot >= 0 and not following.matrix[:, 1 + slot].any()
