"""What holds of the rows of a plan whatever the sampler: coordinates, levels, timesteps, noise."""

import dataclasses
import itertools

import numpy as np
import pytest

from ldm_runtime.sampling.solvers import read_sampler
from tests.runtime.sampling import diffusers_schedulers as oracle
from tests.runtime.sampling.compiled import compiled
from tests.runtime.sampling.plan_cases import DIFFUSION, OF_DIFFUSERS, SD15, SLOW

pytestmark = OF_DIFFUSERS


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
