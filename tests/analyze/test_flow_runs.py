"""The flow of exact denoisers, run by the runtime's own sampler; and the model's, begun at the last timestep."""

from types import SimpleNamespace

import numpy as np
import pytest

from ldm_export.analyze.flow_path import Paths, bending, gaussian_paths
from ldm_export.analyze.flow_runs import (
    even_steps,
    flow_pipeline,
    flow_times,
    follow,
    is_deterministic,
    plain_guidance,
    result,
)
from ldm_export.analyze.pairing import pairing
from ldm_export.analyze.subject import open_subject
from ldm_runtime.sampling.schedule import FlowSchedule
from tests.analyze.flow_pipe import MixturePipe

SHAPE = (3, 4, 4)
SIZE = 48


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *SHAPE), np.float32)


def paths(pipe: MixturePipe, start: np.ndarray, steps: int) -> Paths:
    points = follow(pipe, [""] * len(start), start, steps, 1.0)  # type: ignore[arg-type]
    return Paths(points, flow_times(pipe.contract, steps))  # type: ignore[arg-type]


def test_the_way_to_one_image_is_a_line_and_one_step_is_exact() -> None:
    image = np.random.default_rng(1).normal(size=(1, SIZE))
    pipe = MixturePipe(image, 0.0)
    assert bending(paths(pipe, noise(4), 50)).max() < 1e-6
    (drawn, many) = (result(pipe, [""] * 4, noise(4), steps, "ddim", 1.0) for steps in (1, 50))  # type: ignore[arg-type]
    np.testing.assert_allclose(drawn, many, atol=1e-4)
    np.testing.assert_allclose(drawn.reshape(4, -1), np.repeat(image, 4, axis=0), atol=1e-4)


def test_the_way_to_a_gaussian_is_the_closed_form() -> None:
    pipe = MixturePipe(np.zeros((1, SIZE)), 0.5)
    start = noise(4)
    found = paths(pipe, start, 500)
    scale = np.hypot((1 - found.times[0]) * 0.5, found.times[0])
    exact = gaussian_paths(found.points[:, 0].astype(np.float64), np.zeros(SIZE), np.full(SIZE, 0.5), found.times)
    np.testing.assert_allclose(found.points[:, 0] * scale, exact.points[:, 0] * scale, rtol=1e-6)
    np.testing.assert_allclose(found.points, exact.points, atol=0.02)
    assert bending(found) == pytest.approx(bending(exact), abs=0.02)


def test_a_mixture_bends_and_its_pairs_are_the_best() -> None:
    """Two images, far apart: each noise goes to the nearer one, which no other pairing does at a lower cost."""
    image = np.random.default_rng(1).normal(size=SIZE)
    pipe = MixturePipe(np.stack([image, -image]), 0.05)
    start = noise(32)
    found = paths(pipe, start, 100)
    assert 0.001 < bending(found).mean() < 0.5
    ends = found.points[:, -1]
    side = np.sign(start.reshape(32, -1) @ image)
    assert (np.sign(ends @ image) == side).mean() > 0.9
    share = pairing(start, ends).share_saved
    assert share is not None and share > 0.95
    shuffled = pairing(start, np.roll(ends, 1, axis=0)).share_saved
    assert shuffled is not None and shuffled < 0.5


def test_a_denoiser_that_turns_its_paths_is_seen() -> None:
    image = np.random.default_rng(1).normal(size=(1, SIZE))
    assert bending(paths(MixturePipe(image, 0.0, turn=0.2), noise(4), 50)).min() > 0.01


def test_steps_divide_the_training_steps() -> None:
    thousand = SimpleNamespace(schedule=SimpleNamespace(num_train_timesteps=1000))
    assert even_steps(thousand, (1, 2, 4, 8, 16)) == [1, 2, 4, 8, 20]  # type: ignore[arg-type]
    assert even_steps(thousand, (3, 4)) == [4], "two that are near one divisor"  # type: ignore[arg-type]


def test_samplers_that_add_noise_do_not_follow_the_flow() -> None:
    contract = MixturePipe(np.zeros((1, SIZE)), 1.0).contract
    for sampler, expected in (("ddim", True), ("dpmpp_2m", True), ("ddim:eta=1", False), ("euler_ancestral", False)):
        assert is_deterministic(contract, sampler) is expected  # type: ignore[arg-type]
    assert not is_deterministic(contract, "flow_euler"), "it does not take the schedule"  # type: ignore[arg-type]


def test_a_model_that_reads_the_guidance_is_told_its_own() -> None:
    contract = MixturePipe(np.zeros((1, SIZE)), 1.0, guidance=3.5).contract
    assert plain_guidance(contract) == 1  # type: ignore[arg-type]
    contract.embeds_guidance = True
    assert plain_guidance(contract) == 3.5  # type: ignore[arg-type]


def test_the_times_of_a_flow_model_are_its_sigmas() -> None:
    contract = SimpleNamespace(schedule=FlowSchedule(1000, 1.0, None))
    np.testing.assert_allclose(flow_times(contract, 4)[[0, -1]], [1, 0])  # type: ignore[arg-type]
    assert (np.diff(flow_times(contract, 4)) < 0).all()  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_model_begins_at_the_last_timestep_however_few_the_steps() -> None:
    with open_subject(None) as subject:
        pipe = flow_pipeline(subject)
        start = np.random.default_rng(0).standard_normal((2, 4, 16, 16), np.float32)
        found = [flow_times(pipe.contract, steps)[0] for steps in (1, 2, 25)]
        assert found == pytest.approx([found[0]] * 3) and found[0] > 0.9
        same = Paths(follow(pipe, ["a", "b"], start, 4, 1.0), flow_times(pipe.contract, 4))
        assert same.points.shape == (2, 5, 1024)
        np.testing.assert_array_equal(
            same.points[:, -1].reshape(start.shape), result(pipe, ["a", "b"], start, 4, "ddim", 1.0)
        )
        assert subject.pipe.sample(["a"], steps=1, seed=0).total == 1, "the subject's own pipeline still runs"
