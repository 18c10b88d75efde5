"""Bounds of mutual information on Gaussian sources, whose information is known."""

import math

import numpy as np
import pytest

from ldm_export.analyze.mutual_information import (
    Marginal,
    gaussian_channel_bound,
    is_at_ceiling,
    kl_to_standard_normal,
    minibatch_bound,
    posterior_entropy,
)


class Source:
    """A Gaussian channel: z = mean + noise, the means Gaussian themselves."""

    def __init__(self, dimensions: int, noise: float) -> None:
        mixing = np.random.default_rng(7).normal(size=(dimensions, dimensions)) / math.sqrt(dimensions)
        self.mixing = mixing * np.exp(-np.arange(dimensions) * 10 / dimensions)[:, None]
        self.noise = noise
        ratio = self.mixing @ self.mixing.T / noise
        self.information = 0.5 * float(np.linalg.slogdet(np.eye(dimensions) + ratio)[1])

    def draw(self, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances of posteriors, (N, d) both."""
        means = np.random.default_rng(seed).standard_normal((count, len(self.mixing))) @ self.mixing.T
        return means, np.full(means.shape, self.noise)


def test_kl_by_its_closed_form_and_by_drawing() -> None:
    assert kl_to_standard_normal(np.zeros(1), np.ones(1)) == pytest.approx(0)
    assert kl_to_standard_normal(np.full(1, 2.0), np.ones(1)) == pytest.approx(2.0)
    z = 0.7 + 0.3 * np.random.default_rng(0).standard_normal(200_000)
    log_ratio = -0.5 * ((z - 0.7) / 0.3) ** 2 - math.log(0.3) + 0.5 * z**2
    assert kl_to_standard_normal(np.array(0.7), np.array(0.09)) == pytest.approx(log_ratio.mean(), abs=0.01)


def test_a_marginal_s_cross_entropy_is_that_of_its_matrix() -> None:
    means, variances = Source(20, 0.3).draw(12)  # fewer images than dimensions
    marginal = Marginal.fit(means, variances, 0.2)
    covariance = np.diag(marginal.diagonal) + marginal.factor.T @ marginal.factor
    inverse, offset = np.linalg.inv(covariance), means - marginal.mean
    expected = 0.5 * (
        20 * math.log(2 * math.pi)
        + np.linalg.slogdet(covariance)[1]
        + variances @ np.diag(inverse)
        + np.einsum("ni,ij,nj->n", offset, inverse, offset)
    )
    assert marginal.cross_entropy(means, variances) == pytest.approx(expected)


@pytest.mark.parametrize("count", [80, 400])
def test_the_bound_stays_above_the_information_with_few_images_and_the_plain_formula_does_not(count: int) -> None:
    source = Source(200, 0.05)
    bounds, plain = [], []
    for seed in range(6):
        means, variances = source.draw(count, seed)
        bounds.append(gaussian_channel_bound(means, variances, np.random.default_rng(seed)).mean())
        plain.append(0.5 * np.linalg.slogdet(np.eye(200) + np.cov(means.T) / source.noise)[1])
    error = np.std(bounds) / math.sqrt(len(bounds))
    assert source.information - 2 * error < np.mean(bounds) < 1.25 * source.information
    if count < 200:
        assert np.mean(plain) < 0.98 * source.information, "the negative twin: a sample covariance understates it"


def test_the_bound_is_tight_for_one_dimension_and_many_images() -> None:
    random = np.random.default_rng(3)
    means, variances = random.normal(0, 2, (1000, 1)), np.full((1000, 1), 0.25)
    bound = gaussian_channel_bound(means, variances, random).mean()
    assert bound == pytest.approx(0.5 * math.log(1 + 16), abs=0.06)


def test_noise_that_differs_between_images_leaves_the_bound_above() -> None:
    random = np.random.default_rng(4)
    means = random.normal(size=(1000, 1))
    variances = np.where(np.arange(1000) % 2, 0.01, 1.0)[:, None]
    bound = gaussian_channel_bound(means, variances, random).mean()
    jensen = 0.5 * (math.log(variances.mean()) - np.log(variances).mean())
    assert bound == pytest.approx(0.5 * math.log(1 + 1 / variances.mean()) + jensen, abs=0.08)
    assert minibatch_bound(means, variances, random).mean() < bound


def test_the_minibatch_bound_is_below_the_information_and_near_it() -> None:
    random = np.random.default_rng(5)
    means, variances = random.normal(size=(1000, 1)), np.full((1000, 1), 0.5)
    information = 0.5 * math.log(3)
    bound = minibatch_bound(means, variances, random).mean()
    assert information - 0.06 < bound < information + 0.03
    assert not is_at_ceiling(bound, 1000)


def test_posteriors_that_say_nothing_give_nothing() -> None:
    random = np.random.default_rng(6)
    means, variances = np.zeros((200, 3)), np.ones((200, 3))
    assert minibatch_bound(means, variances, random).mean() == pytest.approx(0, abs=1e-9)
    assert gaussian_channel_bound(means, variances, random).mean() == pytest.approx(0, abs=1e-9)


def test_the_minibatch_bound_has_a_ceiling() -> None:
    source = Source(60, 0.001)
    means, variances = source.draw(100)
    bound = minibatch_bound(means, variances, np.random.default_rng(0)).mean()
    assert source.information > 3 * math.log(100)
    assert bound <= math.log(100) and is_at_ceiling(float(bound), 100)


def test_posterior_entropy() -> None:
    variances = np.array([[1.0, 4.0]])
    assert posterior_entropy(variances) == pytest.approx(math.log(2 * math.pi * math.e) + math.log(2))
