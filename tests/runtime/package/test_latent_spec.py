"""The latent space: both directions, and the sample of the posterior, which is diffusers'."""

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from ldm_runtime.package.manifest import LatentSpec

SPEC = LatentSpec(channels=4, downsample=8, scale=0.18215, shift=0.125)


def moments(deviation: float) -> np.ndarray:
    return (deviation * np.random.default_rng(0).standard_normal((2, 8, 3, 5))).astype(np.float32)


def test_unscaling_undoes_scaling_for_arrays_of_numpy_and_torch() -> None:
    latents = np.random.default_rng(0).standard_normal((2, 4, 3, 5), np.float32)
    scaled = SPEC.scaled(latents)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, (latents - 0.125) * 0.18215, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(SPEC.unscaled(scaled), latents, rtol=1e-5, atol=1e-6)
    tensor = torch.from_numpy(latents)
    np.testing.assert_array_equal(SPEC.scaled(tensor).numpy(), scaled)
    np.testing.assert_array_equal(SPEC.unscaled(tensor).numpy(), SPEC.unscaled(latents))


@pytest.mark.parametrize("deviation", [1.0, 40.0])  # 40: log-variances beyond both bounds
def test_a_sample_is_that_of_diffusers(deviation: float) -> None:
    values = moments(deviation)
    noise = np.random.default_rng(1).standard_normal((2, 4, 3, 5), np.float32)
    oracle = DiagonalGaussianDistribution(torch.from_numpy(values))
    expected = (oracle.mean + oracle.std * torch.from_numpy(noise)).numpy()
    sample = SPEC.sample(values, noise)
    assert sample.dtype == np.float32
    np.testing.assert_allclose(sample, SPEC.scaled(expected), rtol=1e-5, atol=1e-5)
    assert not np.allclose(sample, SPEC.scaled(oracle.mean.numpy()))
