"""Sampling plans against diffusers' schedulers: every coefficient in float64, every step in float32.

A scheduler is linear in the first latent, the model outputs and the noise. Run on unit vectors, one for each of them,
it writes down all its coefficients; a plan run on the same vectors has to have the same.
"""

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ldm_runtime.errors import FormatError, InputError
from ldm_runtime.sampling.loop import noised
from ldm_runtime.sampling.plan import Plan, PlanRow, check_steps, compile_plan
from ldm_runtime.sampling.schedule import (
    BETA_SCHEDULES,
    PREDICTION_TYPES,
    TIMESTEP_SPACINGS,
    FlowSchedule,
    NoiseSchedule,
)
from ldm_runtime.sampling.solvers import PRESETS, SAMPLERS, SOLVERS, Sampler, read_sampler
from ldm_runtime.sampling.solvers.diffusion import DdimOptions, TcdOptions
from ldm_runtime.sampling.solvers.options import kinds_of
from tests.runtime.sampling import diffusers_schedulers as oracle
from tests.runtime.sampling.compiled import compiled

SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)
SHORT = dataclasses.replace(SD15, num_train_timesteps=100, beta_end=0.1)
STEPS = (1, 2, 3, 4, 10)
SLOW = pytest.mark.slow
# Every solver, and of what options make of one: PLMS, and sigma schedules by each way to choose levels.
DIFFUSION = [
    *(name for name in SOLVERS if name != "flow_euler"),
    "plms", "euler_karras", "dpm2_karras", "dpmpp_2m_sde_karras",
]  # fmt: skip
QUICK_FIRST = [name if name in SOLVERS else pytest.param(name, marks=SLOW) for name in DIFFUSION]
FLOW = FlowSchedule(1000, 3.0, None)

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),  # numpy 2, inside diffusers
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Schedulers log what they change in their own configuration."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def accepted(text: str, schedule: NoiseSchedule) -> bool:
    """Whether the sampler takes such a model at all, and has something to compare with."""
    solver = read_sampler(text).solver
    if schedule.prediction_type not in solver.predictions or (schedule.rescale_betas_zero_snr and not solver.zero_snr):
        return False
    divides = read_sampler(text).name in ("ddim", "ddpm", "lcm", "tcd") and schedule.prediction_type == "epsilon"
    return not (divides and schedule.rescale_betas_zero_snr)  # infinities there, which we refuse


def coefficient_error(
    schedule: Any, text: str, steps: int, start: int = 0, *, plan: Plan | None = None, against: str | None = None
) -> float:
    """See the oracle's: of this sampler's plan, or of `plan`, from its scheduler, or from that of `against`."""
    plan = compiled(schedule, text, steps, start) if plan is None else plan
    other = text if against is None else against
    return oracle.coefficient_error(plan, lambda: oracle.open_scheduler(schedule, other, steps), other)


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


def variants() -> list[str]:
    """Every option of every solver, alone and where it meets others."""
    texts = ["ddpm:variance=fixed_large", "ddim:eta=0.7", "ddim:eta=1", "euler:final=sigma_min"]
    texts += ["euler:sigmas=karras,sigma_min=0.1,sigma_max=10", "euler:sigmas=beta,sigma_max=9"]
    texts += ["lcm:original_steps=100", "lcm:timestep_scaling=5", "tcd:eta=0.3", "tcd:eta=1", "tcd:original_steps=25"]
    texts += ["lcm:reach=1", "lcm:original_steps=90,reach=0.667"]
    spreads = ("karras", "exponential", "beta")
    for solver in ("lms", "euler", "heun", "dpm2", "dpm2_ancestral", "dpmpp_sde"):
        texts += [f"{solver}:sigmas={kind}" for kind in spreads]
    for order, final in itertools.product((1, 2, 3), ("zero", "sigma_min")):
        for algorithm, kind in itertools.product(
            ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"), ("midpoint", "heun")
        ):
            if final == "zero" and not algorithm.endswith("++"):
                continue
            options = f"order={order},algorithm={algorithm},solver_type={kind},final={final}"
            if (algorithm, order) != ("sde-dpmsolver", 3):
                texts.append(f"dpmsolver:{options}")
            if algorithm != "sde-dpmsolver":
                texts += [f"dpmsolver_singlestep:{options}", f"dpmsolver_singlestep:{options},lower_order_final=true"]
        for kind, predict in itertools.product(("bh1", "bh2"), ("x0", "eps")):
            if final == "zero" and predict == "eps":
                continue
            options = f"order={order},solver_type={kind},predict={predict},final={final}"
            texts.append(f"unipc:{options}")
            if final != "zero":
                texts.append(f"unipc:{options},lower_order_final=false")
    for order in (1, 2, 3):
        for kind in spreads:
            texts += [f"{solver}:order={order},sigmas={kind}" for solver in ("deis", "unipc", "sa_solver")]
            texts += [f"dpmsolver:order={order},sigmas={kind}", f"dpmsolver_singlestep:order={order},sigmas={kind}"]
            texts.append(f"unipc:order={order},sigmas={kind},final=sigma_min")
        texts += [f"deis:order={order}", f"deis:order={order},lower_order_final=false"]
        texts.append(f"dpmsolver:order={order},final=sigma_min,lower_order_final=false")
        texts.append(f"dpmsolver:order={order},final=sigma_min,euler_at_final=true")
        for corrector, predict in itertools.product((1, 2, 3, 4), ("x0", "eps")):
            options = f"order={order},corrector_order={corrector},predict={predict}"
            texts += [f"sa_solver:{options}", f"sa_solver:{options},tau=0.5,lower_order_final=false"]
    texts += ["dpmsolver:sigmas=lu", "dpmsolver:lambda_min=-2", "dpmsolver_singlestep:lambda_min=-2"]
    return [*texts, "sa_solver:lambda_min=-2", "sa_solver:order=4,corrector_order=4", "unipc:order=4"]


@SLOW
@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize("solver", sorted({read_sampler(text).name for text in variants()}))
def test_every_option_is_that_of_diffusers(solver: str, prediction_type: str) -> None:
    schedule = dataclasses.replace(SD15, prediction_type=prediction_type)
    for text in variants():
        if read_sampler(text).name == solver:
            for steps, start in ((1, 0), (2, 0), (3, 0), (4, 0), (7, 0), (16, 0), (50, 0), (7, 3)):
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


def step_error(schedule: NoiseSchedule, sampler: str, steps: int) -> float:
    """Worst relative RMS of one step's latents, each step fed the state of diffusers as shipped (float32)."""
    plan = compiled(schedule, sampler, steps)
    scheduler = oracle.open_scheduler(schedule, sampler, steps)
    draw = torch.Generator().manual_seed(steps)
    x = torch.randn(2, 4, 8, 8, generator=draw) * scheduler.init_noise_sigma
    rows = len(plan.rows)
    outputs, noises = torch.randn(2, rows, 2, 4, 8, 8, generator=draw)
    history = [np.zeros(x.shape)] * plan.history
    errors = []
    walk = oracle.walk(scheduler, sampler, 0, x, lambda row: outputs[row], lambda row: noises[row])
    for index, (row, theirs) in enumerate(zip(plan.rows, walk, strict=True)):
        start = x.double().numpy()
        errors.append(relative_rms(row.input_scale * start, theirs.scaled.numpy()))
        columns = [start, *history, outputs[index].numpy(), *(noises[stream].numpy() for stream in row.noise_rows)]
        ours, *history = [sum(c * column for c, column in zip(line, columns, strict=True)) for line in row.matrix]
        errors.append(relative_rms(ours, theirs.after.numpy()))
        x = theirs.after
    return max(errors)


def relative_rms(actual: np.ndarray, expected: np.ndarray) -> float:
    difference = actual - expected.astype(np.float64)
    scale = max(np.square(expected.astype(np.float64)).mean(), 1e-30)
    return float(np.sqrt(np.square(difference).mean() / scale))


# diffusers computes their coefficients in float32: sqrt(s'^2 - up^2) where both are near, and a numerical integral
LOOSE = {("dpm2_ancestral", 2): 2e-4, ("lms", 50): 3e-5}  # (solver, steps)
AS_SHIPPED = {("sa_solver", 50): 1.2e-5}  # the same, of options of low order: up to 1.01e-5 where torch has AVX-512


@pytest.mark.parametrize("steps", (1, 4, 10, *(pytest.param(steps, marks=SLOW) for steps in (2, 3, 50))))
@pytest.mark.parametrize("sampler", QUICK_FIRST)
def test_every_step_is_that_of_diffusers_as_shipped(sampler: str, steps: int) -> None:
    if read_sampler(sampler).canonical == "pndm" and steps < 4:
        return
    for prediction_type, spacing in itertools.product(("epsilon", "v_prediction"), (None, "trailing")):
        schedule = dataclasses.replace(SD15, prediction_type=prediction_type, timestep_spacing=spacing)
        if accepted(sampler, schedule):
            assert step_error(schedule, sampler, steps) < LOOSE.get((read_sampler(sampler).name, steps), 1e-5), schedule


@SLOW
@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize("solver", sorted({read_sampler(text).name for text in variants()}))
def test_every_option_is_that_of_diffusers_as_shipped(solver: str, prediction_type: str) -> None:
    """Where levels are close, high orders divide by small differences, and diffusers does so in float32: with 50 steps
    it is up to 3e-2 from itself in float64, which is what such plans are compared with above, to 1e-8."""
    schedule = dataclasses.replace(SD15, prediction_type=prediction_type)
    compared = 0
    for text in variants():
        sampler = read_sampler(text)
        if sampler.name != solver or not accepted(text, schedule):
            continue
        even = vars(sampler.options).get("sigmas", "default") == "default"
        low = max(vars(sampler.options).get(name, 1) for name in ("order", "corrector_order")) <= 2
        for steps in (1, 2, 3, 4, 10, 50):
            if steps > vars(sampler.options).get("original_steps", steps) or (steps == 50 and not (even and low)):
                continue
            bound = AS_SHIPPED.get((solver, steps), 1e-5) if even and low else 2e-4
            assert step_error(schedule, text, steps) < bound, (text, steps)
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize("steps", (1, 2, 3, 10, 50))
@pytest.mark.parametrize("sampler", [name for name in DIFFUSION if read_sampler(name).solver.zero_snr])
def test_zero_terminal_snr_as_shipped(sampler: str, steps: int) -> None:
    """At sigma 4096 a float32 latent resolves 2e-4 of the picture: Euler in float32 is itself off by that."""
    schedule = dataclasses.replace(
        SD15, prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    )
    loose = sampler.startswith("euler")
    assert step_error(schedule, sampler, steps) < (5e-4 if loose else 1e-5)


@pytest.mark.parametrize("prediction_type", ("v_prediction", "sample"))
@pytest.mark.parametrize("sampler", DIFFUSION)
def test_prediction_types_are_one_sampler_in_other_coordinates(sampler: str, prediction_type: str) -> None:
    predictions = read_sampler(sampler).solver.predictions
    if not {"epsilon", prediction_type} <= set(predictions):
        return
    epsilon = compiled(SD15, sampler, 6)
    other = compiled(dataclasses.replace(SD15, prediction_type=prediction_type), sampler, 6)
    column = 1 + epsilon.history
    if "pndm" in read_sampler(sampler).name:
        return  # it remembers raw outputs, not eps
    for row, actual in zip(epsilon.rows, other.rows, strict=True):
        # epsilon = a * x + b * the other model output
        if prediction_type == "sample":
            a, b = row.input_scale / row.sigma, -row.alpha / row.sigma
        else:
            a, b = row.sigma * row.input_scale, row.alpha
        expected = row.matrix.copy()
        expected[:, 0] += a * row.matrix[:, column]
        expected[:, column] = b * row.matrix[:, column]
        np.testing.assert_allclose(actual.matrix, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sampler", [name for name in DIFFUSION if "pndm" not in read_sampler(name).name])
def test_levels_are_normalised_and_fall(sampler: str) -> None:
    plan = compiled(SD15, sampler, 20)
    for row, following in itertools.pairwise(plan.rows):
        assert row.alpha**2 + row.sigma**2 == pytest.approx(1.0, abs=1e-12)
        assert following.sigma < row.sigma or len(plan.rows) > 20  # a step of two rows goes to its end and back
        if plan.steps == len(plan.rows) and not sampler.startswith("tcd"):
            assert (row.alpha_next, row.sigma_next) == pytest.approx((following.alpha, following.sigma), abs=1e-12)


@pytest.mark.parametrize("sampler", DIFFUSION)
def test_the_predicted_image_is_in_every_row(sampler: str) -> None:
    """data_x and data_output give x0 of a latent whose noise the model knows exactly."""
    schedule = dataclasses.replace(SD15, prediction_type="v_prediction")
    for row in compiled(schedule, sampler, 6).rows:
        x0, eps = 0.3, -1.7
        x = (row.alpha * x0 + row.sigma * eps) / row.input_scale
        assert row.data_x * x + row.data_output * (row.alpha * eps - row.sigma * x0) == pytest.approx(x0, abs=1e-9)


@SLOW
@pytest.mark.parametrize("spacing", ("leading", "linspace", "trailing"))
@pytest.mark.parametrize("sampler", ("ddim", "euler", "dpmpp_2m"))
def test_timesteps_are_those_of_diffusers_for_any_number_of_steps(sampler: str, spacing: str) -> None:
    schedule = dataclasses.replace(SD15, timestep_spacing=spacing)
    for steps in (*range(1, 130), 200, 250, 256, 300, 333, 400, 499):
        scheduler = oracle.open_scheduler(schedule, sampler, steps)
        expected = scheduler.timesteps.tolist()
        if len(expected) == steps + 1:  # 61, 103, … trailing: a row too many
            assert expected.pop() == -1
        assert [row.timestep for row in compiled(schedule, sampler, steps).rows] == expected, steps


def test_which_rows_read_noise() -> None:
    def streams(sampler: str) -> list[tuple[int, ...]]:
        return [row.noise_rows for row in compiled(SD15, sampler, 3).rows]

    for sampler in ("ddim", "euler", "heun", "lms", "dpmpp_2m", "unipc", "deis"):
        assert not any(streams(sampler)), sampler
    assert streams("euler_ancestral") == [(0,), (1,), ()]
    assert streams("dpm2_ancestral") == [(), (1,), (), (3,), ()]
    assert streams("dpmpp_sde") == [(0,), (0, 1), (2,), (2, 3), ()]
    assert streams("lcm") == [(0,), (1,), ()]
    assert streams("dpmpp_2m_sde") == [(0,), (1,), ()]
    for sampler in DIFFUSION:
        schedule = dataclasses.replace(SD15, prediction_type="v_prediction")
        for row in compiled(schedule, sampler, 5).rows:
            assert row.matrix.shape[1] == row.matrix.shape[0] + 1 + len(row.noise_rows)


# --- what is refused ---


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


# --- names, identity, table ---


@pytest.mark.parametrize(("preset", "meaning"), PRESETS.items())
def test_a_short_name_is_a_solver_with_options(preset: str, meaning: str) -> None:
    assert read_sampler(preset) == read_sampler(meaning) and preset not in SOLVERS
    assert read_sampler(meaning).canonical == meaning


def test_a_sampler_has_one_canonical_name() -> None:
    assert read_sampler("dpmpp_2m").canonical == "dpmsolver"
    assert read_sampler("dpmpp_2m_karras:order=3").canonical == "dpmsolver:order=3,sigmas=karras"
    assert read_sampler("dpmsolver:sigmas=karras,order=3").canonical == "dpmsolver:order=3,sigmas=karras"
    assert read_sampler("ddim:eta=0").canonical == "ddim"
    assert read_sampler("ddim:eta=5e-1").canonical == "ddim:eta=0.5"
    for text in (*SAMPLERS, *variants()):
        assert read_sampler(read_sampler(text).canonical) == read_sampler(text)


def test_options_are_values_that_check_themselves() -> None:
    options = DdimOptions(eta=1)
    assert options == DdimOptions(eta=1.0) and hash(options) == hash(DdimOptions(eta=1.0)) and options.clip == 0.0
    assert options != DdimOptions() and options != TcdOptions(eta=1.0)
    assert Sampler("ddim", options) == read_sampler("ddim:eta=1") != read_sampler("ddim")
    assert "eta=1.0" in repr(options)
    for change in (lambda: setattr(options, "eta", 0.5), lambda: delattr(options, "eta")):
        with pytest.raises(AttributeError, match="make another"):
            change()
    for eta in (1.5, float("nan"), "0.5", True, None, 10**400):
        with pytest.raises(InputError, match="^eta is .*, expected a number from 0 to 1$"):
            DdimOptions(eta=eta)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="DdimOptions has no option beta"):
        DdimOptions(beta=1)  # type: ignore[call-arg]


def test_the_identity_is_of_the_inputs_and_fixed() -> None:
    assert compiled(SD15, "ddim", 20).identity == compiled(SD15, "ddim", 20).identity
    assert compiled(SD15, "dpmpp_2m", 20).identity == compiled(SD15, "dpmsolver", 20).identity
    plans = [compiled(SD15, "ddim", 20), compiled(SD15, "ddim", 21), compiled(SD15, "euler", 20)]
    plans += [compiled(SD15, "ddim", 20, 1), compiled(SD15, "ddim:eta=1", 20)]
    plans += [compiled(dataclasses.replace(SD15, **{name: CHANGES[name]}), "ddim", 20) for name in CHANGES]
    assert len({plan.identity for plan in plans}) == len(plans)
    # any implementation must find it
    lines = (
        "beta_end=0.012\nbeta_schedule=scaled_linear\nbeta_start=0.00084999999999999995\nnum_train_timesteps=1000\n"
        "prediction_type=epsilon\nrescale_betas_zero_snr=false\nsampler=ddim\nset_alpha_to_one=false\nstart=0\n"
        "steps=20\nsteps_offset=1\ntimestep_spacing=none\n"
    )
    assert plans[0].identity == hashlib.sha256(lines.encode()).hexdigest()


def test_caching_is_in_a_plan_only_where_it_is_asked_for() -> None:
    plan, cached = (compile_plan(SD15, read_sampler("ddim"), 20, caching=caching) for caching in (None, 2))
    assert plan.to_dict() == compiled(SD15, "ddim", 20).to_dict() and "caching" not in plan.to_dict()
    assert cached.to_dict() == {**plan.to_dict(), "caching": 2, "identity": cached.identity}
    lines = (
        "beta_end=0.012\nbeta_schedule=scaled_linear\nbeta_start=0.00084999999999999995\ncaching=2\n"
        "num_train_timesteps=1000\nprediction_type=epsilon\nrescale_betas_zero_snr=false\nsampler=ddim\n"
        "set_alpha_to_one=false\nstart=0\nsteps=20\nsteps_offset=1\ntimestep_spacing=none\n"
    )
    assert cached.identity == hashlib.sha256(lines.encode()).hexdigest()
    assert [cached.is_whole(row) for row in range(5)] == [True, False, True, False, True]
    assert all(plan.is_whole(row) for row in range(5))
    assert "every row that 2 divides" in cached.describe() and "divides" not in plan.describe()


@pytest.mark.parametrize("caching", [0, 101, 2.0, True])
def test_an_interval_that_no_plan_has_is_refused(caching: Any) -> None:
    with pytest.raises(InputError, match=r"caching is .*; expected an integer from 1 to 100"):
        compile_plan(SD15, read_sampler("ddim"), 20, caching=caching)


def test_the_table_shows_every_row() -> None:
    plan = compiled(SD15, "euler_ancestral", 3)
    lines = plan.describe().splitlines()
    assert len(lines) == 2 + 3
    assert "euler_ancestral, 3 steps" in lines[0] and plan.identity[:16] in lines[0]
    assert "499.5" in lines[3] and "noise of row 1" in lines[3] and "noise" not in lines[4]


def test_a_new_sampler_is_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    again = dataclasses.replace(SOLVERS["ddim"], spacing="trailing")
    monkeypatch.setitem(SOLVERS, "ddim_trailing", again)
    monkeypatch.setitem(SAMPLERS, "ddim_trailing", again.summary)
    rows = compiled(SD15, "ddim_trailing", 4).rows
    assert [row.timestep for row in rows] == [999, 749, 499, 249]


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
