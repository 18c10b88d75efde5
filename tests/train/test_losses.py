"""Noising, targets and weights: against diffusers' scheduler and against each other."""

import pytest
import torch
from diffusers import DDPMScheduler

from ldm_export.train.losses import DiffusionLoss, loss_weights
from ldm_runtime.sampling.schedule import NoiseSchedule


def schedule(prediction: str) -> NoiseSchedule:
    return NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", prediction, "trailing", 0, True, False)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=generator)
    return clean, noise, torch.tensor([0, 500, 999])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noised_latents_and_targets_equal_diffusers(batch, prediction):
    clean, noise, timesteps = batch
    oracle = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear", prediction_type=prediction)
    loss = DiffusionLoss(schedule(prediction), 5.0, torch.device("cpu"))
    torch.testing.assert_close(loss.noised(clean, noise, timesteps), oracle.add_noise(clean, noise, timesteps))
    expected = noise if prediction == "epsilon" else oracle.get_velocity(clean, noise, timesteps)
    torch.testing.assert_close(loss.target(clean, noise, timesteps), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_zero_for_the_target_and_positive_beside_it(batch, prediction):
    clean, noise, timesteps = batch
    loss = DiffusionLoss(schedule(prediction), 5.0, torch.device("cpu"))
    target = loss.target(clean, noise, timesteps)
    assert loss(target, clean, noise, timesteps) == 0
    assert loss(target + 0.1, clean, noise, timesteps) > 0


def test_weights_mean_the_same_error_of_the_clean_latent():
    bars = torch.from_numpy(schedule("epsilon").alphas_cumprod())
    snr = bars / (1 - bars)
    in_clean_units = snr.clamp(max=5.0)
    # d x_0 = -(sigma / alpha) d eps = -sigma d v
    torch.testing.assert_close(loss_weights(bars, "epsilon", 5.0) / ((1 - bars) / bars), in_clean_units)
    torch.testing.assert_close(loss_weights(bars, "v_prediction", 5.0) / (1 - bars), in_clean_units)


def test_gamma_zero_weighs_every_timestep_alike():
    bars = torch.tensor([0.9, 0.1])
    assert loss_weights(bars, "epsilon", 0.0).tolist() == [1.0, 1.0]
    assert loss_weights(bars, "epsilon", 5.0).tolist() != [1.0, 1.0]
