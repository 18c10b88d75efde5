"""The sampling loop: whole runs against diffusers, what it reads, what it keeps, what it refuses."""

import dataclasses
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm_runtime.errors import InputError, NonFiniteError
from ldm_runtime.plan import SAMPLERS, Plan, compile_plan
from ldm_runtime.rng import initial_noise, row_noise
from ldm_runtime.sampler import guide, run_plan
from ldm_runtime.schedule import NoiseSchedule
from tests.runtime import diffusers_schedulers as oracle

SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)
SHAPE = (4, 8, 8)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
    """A smooth stand-in for a model: not linear in x, and it looks at the timestep."""
    mixed = x + 0.3 * np.roll(x, 1, axis=-1) - 0.2 * x[:, ::-1]
    return (np.tanh(mixed) * np.float32(0.6 + timestep / 2000.0) + np.float32(0.2) * x).astype(np.float32)


def noise_of(seed: int, count: int = 1) -> Callable[[int], np.ndarray]:
    return lambda row: row_noise(seed, count, row, SHAPE)


def run(plan: Plan, seed: int = 0, count: int = 1) -> list[np.ndarray]:
    start = initial_noise(seed, count, SHAPE)
    return [step.latents for step in run_plan(plan, denoise, start, noise_of(seed, count))]


def run_diffusers(
    monkeypatch: pytest.MonkeyPatch, schedule: NoiseSchedule, sampler: str, steps: int
) -> list[np.ndarray]:
    scheduler = oracle.open_scheduler(schedule, sampler, steps)
    x = torch.from_numpy(initial_noise(0, 1, SHAPE)) * scheduler.init_noise_sigma
    trajectory = []
    for row, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, timestep)
        output = torch.from_numpy(denoise(scaled.numpy(), float(timestep)))
        noise = torch.from_numpy(row_noise(0, 1, row, SHAPE))
        _, x = oracle.take_step(monkeypatch, scheduler, row, x, output, noise)
        trajectory.append(x.numpy())
    return trajectory


def relative_rms(actual: np.ndarray, expected: np.ndarray) -> float:
    difference = actual.astype(np.float64) - expected
    return float(np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2)))


@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize("steps", (1, 2, 20))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_whole_run_is_that_of_diffusers(
    sampler: str, steps: int, prediction_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = dataclasses.replace(SD15, prediction_type=prediction_type)
    ours = run(compile_plan(schedule, sampler, steps))
    theirs = run_diffusers(monkeypatch, schedule, sampler, steps)
    assert len(ours) == len(theirs) == steps
    assert max(map(relative_rms, ours, theirs)) < 2e-5


@pytest.mark.parametrize("wrong", [name for name in SAMPLERS if name != "dpmpp_2m"])
def test_a_run_of_another_sampler_is_not(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = run_diffusers(monkeypatch, SD15, "dpmpp_2m", 10)
    assert relative_rms(run(compile_plan(SD15, wrong, 10))[-1], theirs[-1]) > 1e-2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_loop_is_the_matrix_applied(sampler: str) -> None:
    plan = compile_plan(SD15, sampler, 7)
    state = [initial_noise(3, 2, SHAPE).astype(np.float64) * plan.initial_scale]
    state += [np.zeros_like(state[0])] * plan.history
    for row, latents in zip(plan.rows, run(plan, seed=3, count=2), strict=True):
        output = denoise((state[0] * row.input_scale).astype(np.float32), row.timestep)
        columns = [*state, output, *(row_noise(3, 2, stream, SHAPE) for stream in row.noise_rows)]
        state = [sum(c * column for c, column in zip(line, columns, strict=True)) for line in row.matrix]
        assert relative_rms(latents, state[0]) < 2e-5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_equals_its_singles(sampler: str) -> None:
    plan = compile_plan(SD15, sampler, 4)
    batch = run(plan, seed=10, count=3)[-1]
    for image in range(3):
        np.testing.assert_array_equal(batch[image], run(plan, seed=10 + image)[-1][0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_run_repeats_to_the_bit(sampler: str) -> None:
    plan = compile_plan(SD15, sampler, 4)
    for first, second in zip(run(plan), run(plan), strict=True):
        np.testing.assert_array_equal(first, second)


def test_steps_tell_where_they_are() -> None:
    plan = compile_plan(SD15, "ddim", 4)
    steps = list(run_plan(plan, denoise, initial_noise(0, 1, SHAPE), noise_of(0)))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [step.timestep for step in steps] == [751, 501, 251, 1]
    assert all(step.latents.dtype == np.float32 and step.latents.shape == (1, *SHAPE) for step in steps)


def test_the_caller_may_stop_and_no_model_runs_after() -> None:
    calls = []

    def counted(x: np.ndarray, timestep: float) -> np.ndarray:
        calls.append(timestep)
        return denoise(x, timestep)

    generator = run_plan(compile_plan(SD15, "dpmpp_2m", 10), counted, initial_noise(0, 1, SHAPE), noise_of(0))
    assert calls == []  # nothing before the first step is asked for
    next(generator)
    next(generator)
    generator.close()
    assert len(calls) == 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_latents_of_a_step_are_kept_without_a_copy(sampler: str) -> None:
    kept, copies = [], []
    start = initial_noise(0, 1, SHAPE)
    before = start.copy()
    for step in run_plan(compile_plan(SD15, sampler, 6), denoise, start, noise_of(0)):
        kept.append(step.latents)
        copies.append(step.latents.copy())
    for latents, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(latents, copy)
    np.testing.assert_array_equal(start, before)


def test_a_model_that_writes_into_its_input_does_no_harm() -> None:
    def careless(x: np.ndarray, timestep: float) -> np.ndarray:
        output = denoise(x, timestep)
        x[:] = 0
        return output

    plan = compile_plan(SD15, "ddim", 3)
    steps = list(run_plan(plan, careless, initial_noise(0, 1, SHAPE), noise_of(0)))
    np.testing.assert_array_equal(steps[-1].latents, run(plan)[-1])


def test_noise_is_asked_for_by_row_and_only_where_it_is_read() -> None:
    asked: list[int] = []

    def recorded(row: int) -> np.ndarray:
        asked.append(row)
        return row_noise(0, 1, row, SHAPE)

    for sampler in SAMPLERS:
        list(run_plan(compile_plan(SD15, sampler, 4), denoise, initial_noise(0, 1, SHAPE), recorded))
    assert asked == [0, 1, 2]  # euler_ancestral alone


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_model_that_is_not_finite_raises_and_names_the_step(sampler: str, value: float) -> None:
    plan = compile_plan(SD15, sampler, 5)

    def broken(x: np.ndarray, timestep: float) -> np.ndarray:
        output = denoise(x, timestep)
        if timestep == plan.rows[2].timestep:
            output[0, 1, 2, 3] = value
        return output

    done = []
    with pytest.raises(NonFiniteError, match=r"model output at step 3 of 5 \(timestep \d"):
        for step in run_plan(plan, broken, initial_noise(0, 1, SHAPE), noise_of(0)):
            done.append(step.index)
    assert done == [0, 1]


def test_a_latent_that_overflows_raises() -> None:
    def huge(x: np.ndarray, timestep: float) -> np.ndarray:
        return np.full_like(x, 3e38)

    generator = run_plan(compile_plan(SD15, "ddim", 2), huge, initial_noise(0, 1, SHAPE), noise_of(0))
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="latent after step 1 of 2"):
        next(generator)


def test_initial_noise_that_is_not_finite_raises() -> None:
    start = initial_noise(0, 1, SHAPE)
    start[0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="initial noise"):
        next(run_plan(compile_plan(SD15, "ddim", 2), denoise, start, noise_of(0)))


def test_a_shape_that_does_not_fit_is_refused() -> None:
    start = initial_noise(0, 1, SHAPE)
    plan = compile_plan(SD15, "euler_ancestral", 2)
    with pytest.raises(InputError, match=r"model output at step 1 .* shape \(1, 4, 8, 7\), expected \(1, 4, 8, 8\)"):
        next(run_plan(plan, lambda x, t: x[..., :7], start, noise_of(0)))
    with pytest.raises(InputError, match=r"noise at step 1 of 2"):
        next(run_plan(plan, denoise, start, lambda row: np.zeros((2, *SHAPE), np.float32)))


def test_the_loop_allocates_a_handful_of_latents() -> None:
    start = np.zeros((1, 4, 64, 64), np.float32)
    steps = run_plan(compile_plan(SD15, "dpmpp_2m", 10), lambda x, t: x, start, noise_of(0))
    next(steps)
    tracemalloc.start()
    try:
        for _ in steps:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * start.nbytes


def test_guidance_extrapolates_from_the_unconditional_output() -> None:
    rng = np.random.default_rng(0)
    uncond, cond = rng.standard_normal((2, 1, *SHAPE)).astype(np.float32)
    kept = uncond.copy(), cond.copy()
    guided = guide(uncond, cond, 7.5)
    assert guided.dtype == np.float32
    np.testing.assert_allclose(guided, -6.5 * uncond.astype(float) + 7.5 * cond, atol=1e-5)
    np.testing.assert_array_equal(guide(uncond, cond, 0.0), uncond)
    np.testing.assert_allclose(guide(uncond, cond, 1.0), cond, atol=1e-6)
    np.testing.assert_array_equal((uncond, cond), kept)


def test_numbers_need_numpy_alone() -> None:
    code = (
        "import sys, ldm_runtime.sampler, ldm_runtime.rng\n"
        "heavy = {'torch', 'scipy', 'onnxruntime', 'tokenizers', 'PIL', 'onnx', 'diffusers', 'click'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    runtime = Path(__file__).parents[2] / "runtime"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=runtime)
    assert result.stdout.strip() == "[]"
