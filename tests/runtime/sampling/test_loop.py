"""The sampling loop: whole runs against diffusers, what it reads, what it keeps, what it refuses."""

import dataclasses
import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from ldm_runtime.errors import InputError, NonFiniteError
from ldm_runtime.sampling.loop import guide, noised, run_plan, slerp
from ldm_runtime.sampling.plan import Plan
from ldm_runtime.sampling.schedule import NoiseSchedule
from tests.runtime.noise.philox import initial_noise, row_noise
from tests.runtime.sampling import diffusers_schedulers as oracle
from tests.runtime.sampling.compiled import compiled

SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)
SHAPE = (4, 8, 8)
ROOT = Path(__file__).parents[3]
SAMPLERS = ("ddim", "euler", "euler_ancestral", "heun", "dpmpp_sde", "lms", "plms", "dpmpp_2m", "unipc", "sa_solver")
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
    """A smooth stand-in for a model: not linear in x, and it looks at the timestep."""
    mixed = x + 0.3 * np.roll(x, 1, axis=-1) - 0.2 * x[:, ::-1]
    return (np.tanh(mixed) * np.float32(0.6 + timestep / 2000.0) + np.float32(0.2) * x).astype(np.float32)


def noise_of(seed: int, count: int = 1) -> Callable[[int], np.ndarray]:
    return lambda row: row_noise(seed, count, row, SHAPE)


def run(plan: Plan, seed: int = 0, count: int = 1) -> list[np.ndarray]:
    start = initial_noise(seed, count, SHAPE)
    return [step.latents for step in run_plan(plan, denoise, start, noise_of(seed, count))]


def run_diffusers(schedule: NoiseSchedule, sampler: str, steps: int) -> list[np.ndarray]:
    scheduler = oracle.open_scheduler(schedule, sampler, steps)
    x = torch.from_numpy(initial_noise(0, 1, SHAPE)) * scheduler.init_noise_sigma

    def output(scaled: torch.Tensor, timestep: float) -> torch.Tensor:
        return torch.from_numpy(denoise(scaled.numpy(), timestep))

    def noise(row: int) -> torch.Tensor:
        return torch.from_numpy(row_noise(0, 1, row, SHAPE))

    return [taken.after.numpy() for taken in oracle.run(scheduler, sampler, x, output, noise)]


def relative_rms(actual: np.ndarray, expected: np.ndarray) -> float:
    difference = actual.astype(np.float64) - expected
    return float(np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2)))


@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize("steps", (1, 2, 20))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_whole_run_is_that_of_diffusers(sampler: str, steps: int, prediction_type: str) -> None:
    schedule = dataclasses.replace(SD15, prediction_type=prediction_type)
    ours = run(compiled(schedule, sampler, steps))
    theirs = run_diffusers(schedule, sampler, steps)
    assert len(ours) == len(theirs) >= steps
    assert max(map(relative_rms, ours, theirs)) < 2e-5


@pytest.mark.parametrize("wrong", [name for name in SAMPLERS if name != "dpmpp_2m"])
def test_a_run_of_another_sampler_is_not(wrong: str) -> None:
    theirs = run_diffusers(SD15, "dpmpp_2m", 10)
    assert relative_rms(run(compiled(SD15, wrong, 10))[-1], theirs[-1]) > 2e-3


@pytest.mark.parametrize("sampler", ("heun", "dpmpp_sde", "sa_solver"))
def test_the_loop_of_the_documentation_runs_a_printed_plan(sampler: str) -> None:
    """The loop runs what a plan prints: rows with a history, with noise of their own, with noise that two share."""
    plan = compiled(SD15, sampler, 7)
    page = (ROOT / "docs" / "sampling.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(state = .*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {
        "plan": json.loads(json.dumps(plan.to_dict(), allow_nan=False)),
        "noise": initial_noise(3, 2, SHAPE).astype(np.float64),
        "model": lambda x, timestep: denoise(x.astype(np.float32), timestep),
        "noise_of": lambda stream: row_noise(3, 2, stream, SHAPE),
    }
    exec(block, names)
    assert relative_rms(run(plan, seed=3, count=2)[-1], names["state"][0]) < 2e-5


def test_a_batch_equals_its_singles() -> None:
    plan = compiled(SD15, "sa_solver", 4)
    batch = run(plan, seed=10, count=3)[-1]
    for image in range(3):
        np.testing.assert_array_equal(batch[image], run(plan, seed=10 + image)[-1][0])


def test_a_run_repeats_to_the_bit() -> None:
    plan = compiled(SD15, "sa_solver", 4)
    for first, second in zip(run(plan), run(plan), strict=True):
        np.testing.assert_array_equal(first, second)


def test_steps_tell_where_they_are() -> None:
    plan = compiled(SD15, "ddim", 4)
    steps = list(run_plan(plan, denoise, initial_noise(0, 1, SHAPE), noise_of(0)))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [(step.evaluations, step.ends_step) for step in steps] == [(1, True), (2, True), (3, True), (4, True)]
    assert [step.timestep for step in steps] == [751, 501, 251, 1]
    assert all(step.latents.dtype == np.float32 and step.latents.shape == (1, *SHAPE) for step in steps)


def test_the_caller_may_stop_and_no_model_runs_after() -> None:
    calls = []

    def counted(x: np.ndarray, timestep: float) -> np.ndarray:
        calls.append(timestep)
        return denoise(x, timestep)

    generator = run_plan(compiled(SD15, "dpmpp_2m", 10), counted, initial_noise(0, 1, SHAPE), noise_of(0))
    assert calls == []  # nothing before the first step is asked for
    next(generator)
    next(generator)
    generator.close()
    assert len(calls) == 2


@pytest.mark.parametrize("sampler", ("ddim", "heun", "lms", "sa_solver"))
def test_latents_of_a_step_are_kept_without_a_copy(sampler: str) -> None:
    kept, copies = [], []
    start = initial_noise(0, 1, SHAPE)
    before = start.copy()
    for step in run_plan(compiled(SD15, sampler, 6), denoise, start, noise_of(0)):
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

    plan = compiled(SD15, "ddim", 3)
    steps = list(run_plan(plan, careless, initial_noise(0, 1, SHAPE), noise_of(0)))
    np.testing.assert_array_equal(steps[-1].latents, run(plan)[-1])


def test_noise_is_asked_for_by_row_and_only_where_it_is_read() -> None:
    asked: list[int] = []

    def recorded(row: int) -> np.ndarray:
        asked.append(row)
        return row_noise(0, 1, row, SHAPE)

    for sampler in ("ddim", "euler", "euler_ancestral", "heun", "unipc"):
        list(run_plan(compiled(SD15, sampler, 4), denoise, initial_noise(0, 1, SHAPE), recorded))
    assert asked == [0, 1, 2]  # euler_ancestral alone


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("sampler", ("ddim", "heun"))
def test_a_model_that_is_not_finite_raises_and_names_the_step(sampler: str, value: float) -> None:
    plan = compiled(SD15, sampler, 5)

    def broken(x: np.ndarray, timestep: float) -> np.ndarray:
        output = denoise(x, timestep)
        if len(done) == 2:
            output[0, 1, 2, 3] = value
        return output

    done: list[int] = []
    third = 1 + sum(row.ends_step for row in plan.rows[:2])
    with pytest.raises(NonFiniteError, match=rf"model output at step {third} of 5 \(timestep \d"):
        for step in run_plan(plan, broken, initial_noise(0, 1, SHAPE), noise_of(0)):
            done.append(step.evaluations)
    assert done == [1, 2]


def test_a_latent_that_overflows_raises() -> None:
    def huge(x: np.ndarray, timestep: float) -> np.ndarray:
        return np.full_like(x, 3e38)

    generator = run_plan(compiled(SD15, "ddim", 2), huge, initial_noise(0, 1, SHAPE), noise_of(0))
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="latent after step 1 of 2"):
        next(generator)


def test_initial_noise_that_is_not_finite_raises() -> None:
    start = initial_noise(0, 1, SHAPE)
    start[0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="initial noise"):
        next(run_plan(compiled(SD15, "ddim", 2), denoise, start, noise_of(0)))


def test_a_shape_that_does_not_fit_is_refused() -> None:
    start = initial_noise(0, 1, SHAPE)
    plan = compiled(SD15, "euler_ancestral", 2)
    with pytest.raises(InputError, match=r"model output at step 1 .* shape \(1, 4, 8, 7\), expected \(1, 4, 8, 8\)"):
        next(run_plan(plan, lambda x, t: x[..., :7], start, noise_of(0)))
    with pytest.raises(InputError, match=r"noise at step 1 of 2"):
        next(run_plan(plan, denoise, start, lambda row: np.zeros((2, *SHAPE), np.float32)))


def test_the_loop_allocates_a_handful_of_latents() -> None:
    start = np.zeros((1, 4, 64, 64), np.float32)
    steps = run_plan(compiled(SD15, "dpmpp_2m", 10), lambda x, t: x, start, noise_of(0))
    next(steps)
    tracemalloc.start()
    try:
        for _ in steps:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 9 * start.nbytes


@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize(
    "sampler",
    [
        "ddpm:clip=0.3", "ddim:clip=0.3", "ddim:clip=0.3,eta=0.5", "heun:clip=0.3", "lcm:clip=0.3",
        "ddim:threshold=0.5", "ddpm:threshold=0.5,threshold_max=1.5", "dpmsolver:threshold=0.5",
        "unipc:threshold=0.5", "deis:threshold=0.5",
        "dpmsolver:threshold=0.5,algorithm=dpmsolver,final=sigma_min", "sa_solver:threshold=0.5",
        "dpmsolver_singlestep:threshold=0.5,threshold_max=2",
    ],
)  # fmt: skip
def test_clipping_is_that_of_diffusers(sampler: str, prediction_type: str) -> None:
    """What no matrix can do; the same run without the hook is far away."""
    schedule = dataclasses.replace(SD15, prediction_type=prediction_type)
    plan = compiled(schedule, sampler, 6)
    theirs = run_diffusers(schedule, sampler, 6)
    assert plan.hook is not None
    assert max(map(relative_rms, run(plan), theirs)) < 5e-5
    options = ",".join(part for part in sampler.partition(":")[2].split(",") if part[:4] not in ("clip", "thre"))
    plain = compiled(schedule, f"{sampler.partition(':')[0]}:{options}", 6)
    assert relative_rms(run(plain)[-1], theirs[-1]) > 3e-4


def test_thresholding_is_of_each_image_alone() -> None:
    plan = compiled(SD15, "ddim:threshold=0.9", 3)
    batch = run(plan, seed=10, count=2)[-1]
    for image in range(2):
        np.testing.assert_array_equal(batch[image], run(plan, seed=10 + image)[-1][0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_predicted_image_is_the_clean_one_of_a_model_that_knows_it(sampler: str) -> None:
    picture = np.random.default_rng(1).standard_normal((1, *SHAPE)).astype(np.float32)
    plan = compiled(SD15, sampler, 6)
    rows = iter(plan.rows)

    def knows(x: np.ndarray, timestep: float) -> np.ndarray:
        row = next(rows)
        return ((x - np.float32(row.alpha) * picture) / np.float32(row.sigma)).astype(np.float32)

    for step in run_plan(plan, knows, initial_noise(0, 1, SHAPE), noise_of(0)):
        np.testing.assert_allclose(step.predicted(), picture, atol=2e-3)


def test_a_run_from_an_image_starts_from_it_noised() -> None:
    plan = compiled(SD15, "euler", 10, 6)
    picture = np.random.default_rng(1).standard_normal((1, *SHAPE)).astype(np.float32)
    noise = initial_noise(0, 1, SHAPE)
    seen: list[np.ndarray] = []

    def record(x: np.ndarray, timestep: float) -> np.ndarray:
        seen.append(x.copy())
        return denoise(x, timestep)

    assert len(list(run_plan(plan, record, noise, noise_of(0), image=picture))) == 4
    row = plan.rows[0]
    np.testing.assert_allclose(seen[0], row.alpha * picture + row.sigma * noise, atol=1e-5)
    np.testing.assert_allclose(noised(row, picture, noise) * np.float32(row.input_scale), seen[0], atol=1e-6)


def test_what_blends_takes_the_place_of_the_latent() -> None:
    plan = compiled(SD15, "dpmpp_2m", 4)
    rows: list[int] = []

    def halve(row: int, x: np.ndarray) -> np.ndarray:
        rows.append(row)
        return x * np.float32(0.5)

    steps = run_plan(plan, denoise, initial_noise(0, 1, SHAPE), noise_of(0), blend=halve)
    first = next(steps)
    np.testing.assert_array_equal(first.latents, run(plan)[0] * np.float32(0.5))
    assert len(list(steps)) == 3 and rows == [0, 1, 2, 3]


@pytest.mark.parametrize("rescale", (0.3, 0.7, 1.0))
def test_rescaled_guidance_is_that_of_diffusers(rescale: float) -> None:
    uncond, cond = np.random.default_rng(0).standard_normal((2, 3, *SHAPE)).astype(np.float32)
    cond *= np.float32([0.5, 1.0, 3.0])[:, None, None, None]
    theirs = rescale_noise_cfg(torch.from_numpy(guide(uncond, cond, 7.5)), torch.from_numpy(cond), rescale)
    np.testing.assert_allclose(guide(uncond, cond, 7.5, rescale), theirs.numpy(), rtol=2e-6, atol=2e-6)


def test_slerp_starts_and_ends_at_its_ends_and_keeps_the_length() -> None:
    first, second = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    second *= np.linalg.norm(first) / np.linalg.norm(second)
    np.testing.assert_allclose(slerp(first, second, 0.0), first, atol=1e-6)
    np.testing.assert_allclose(slerp(first, second, 1.0), second, atol=1e-6)
    half = slerp(first, second, 0.5)
    assert half.dtype == np.float32 and half.shape == first.shape
    assert np.linalg.norm(half) == pytest.approx(np.linalg.norm(first), rel=1e-5)
    assert np.linalg.norm((first + second) / 2) < 0.8 * np.linalg.norm(first)
    np.testing.assert_allclose(slerp(first, first, 0.3), first, atol=1e-6)


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
        "import sys, ldm_runtime.sampling.loop, ldm_runtime.noise.philox\n"
        "heavy = {'torch', 'scipy', 'onnxruntime', 'tokenizers', 'PIL', 'onnx', 'diffusers', 'click'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    runtime = Path(__file__).parents[3] / "runtime"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=runtime)
    assert result.stdout.strip() == "[]"
