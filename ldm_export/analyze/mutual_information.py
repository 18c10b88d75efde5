"""Bounds on the information between an image and its latents, whose posterior is a diagonal Gaussian. All in nats.

The encoder gives q(z | x) = N(mean, variance); images are equally likely. For any density r that is not fitted to the
same images, I(x; z) = E KL(q || r) - KL(q(z) || r) <= E KL(q || r) (Barber and Agakov 2003). Two are used: r = N(0, I),
and a Gaussian fitted to other images, which is the bound of a Gaussian channel.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.special import logsumexp

SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
AT_CEILING = 0.99  # of log N
PAIRS = 4  # of draws


def kl_to_standard_normal(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return KL(N(mean, variance) || N(0, 1)) of each number."""
    return np.asarray(0.5 * (mean**2 + variance - 1 - np.log(variance)))


def posterior_entropy(variance: np.ndarray) -> np.ndarray:
    """Return the entropy of each posterior, (N,), of variances (N, d)."""
    return np.asarray(0.5 * np.log(2 * math.pi * math.e * variance).sum(axis=1))


@dataclass(frozen=True)
class Marginal:
    """A Gaussian of the latents of all images: covariance diag(diagonal) + factorᵀ factor, never made as a matrix.

    mean, diagonal: (d,). factor: (n, d), a row for each image it was fitted to.
    """

    mean: np.ndarray
    diagonal: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, mean: np.ndarray, variance: np.ndarray, shrinkage: float) -> "Marginal":
        """Fit to posteriors, (n, d) both: the noise on average, and the covariance of means shrunk to its diagonal."""
        centred = (mean - mean.mean(axis=0)) / math.sqrt(len(mean))
        diagonal = shrinkage * (centred**2).sum(axis=0) + variance.mean(axis=0)
        return cls(mean.mean(axis=0), diagonal, math.sqrt(1 - shrinkage) * centred)

    def cross_entropy(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return the expectation of -log r(z) over each posterior, (N,)."""
        # By Woodbury's identity with n x n matrices: d may be far more than n.
        scaled = self.factor / self.diagonal
        inner = np.eye(len(self.factor)) + scaled @ self.factor.T
        lower = linalg.cholesky(inner, lower=True)
        whitened = linalg.solve_triangular(lower, scaled, lower=True)
        log_determinant = np.log(self.diagonal).sum() + 2 * np.log(np.diag(lower)).sum()
        trace = variance @ (1 / self.diagonal - (whitened**2).sum(axis=0))
        offset = mean - self.mean
        distance = (offset**2 / self.diagonal).sum(axis=1) - ((offset @ whitened.T) ** 2).sum(axis=1)
        dimensions = mean.shape[1]
        return np.asarray(0.5 * (dimensions * math.log(2 * math.pi) + log_determinant + trace + distance))


def choose_shrinkage(mean: np.ndarray, variance: np.ndarray) -> float:
    """Return the shrinkage whose fit to the first half says most of the second."""
    half = len(mean) // 2
    return min(
        SHRINKAGES,
        key=lambda each: float(
            Marginal.fit(mean[:half], variance[:half], each).cross_entropy(mean[half:], variance[half:]).mean()
        ),
    )


def gaussian_channel_bound(mean: np.ndarray, variance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return KL(q || r) of each image, (N,), with r fitted to the other half; its mean bounds I(x; z) from above.

    With the true covariance and the same noise for all images this is 1/2 sum log(1 + lambda / sigma^2). A sample
    covariance of fewer images than dimensions, put in there, can be far below the information: it is zero in all
    directions that the images do not span. Fitted to other images it stays a bound in expectation, however bad the fit.
    """
    order = random.permutation(len(mean))
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    bound = np.empty(len(mean))
    for fitted, measured in (halves, halves[::-1]):
        shrinkage = choose_shrinkage(mean[fitted], variance[fitted])
        marginal = Marginal.fit(mean[fitted], variance[fitted], shrinkage)
        bound[measured] = marginal.cross_entropy(mean[measured], variance[measured])
    return bound - posterior_entropy(variance)


def minibatch_bound(mean: np.ndarray, variance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return log q(z | x) - log mean q(z | x') of each image, (N,); its mean bounds I(x; z) from below.

    The mean is over all N images, its own among them, so no value is above log N (Poole et al. 2019, the bound of
    van den Oord et al. 2018 with a conditional that is known). Averaged over a few draws z, in pairs of opposite noise.
    """
    precision, log_variance = 1 / variance, np.log(variance).sum(axis=1)
    weighted, constant = (mean * precision).T, (mean**2 * precision).sum(axis=1) + log_variance
    found = np.zeros(len(mean))
    for _ in range(PAIRS):
        noise = np.sqrt(variance) * random.standard_normal(mean.shape)
        for latents in (mean + noise, mean - noise):
            # (z - m)² / v summed over dimensions, of each z with each posterior, from three products.
            distance = latents**2 @ precision.T - 2 * latents @ weighted + constant[None, :]
            density = -0.5 * distance  # its logarithm, but for a constant
            found += np.diag(density) - logsumexp(density, axis=1) + math.log(len(mean))
    return found / (2 * PAIRS)


def is_at_ceiling(bound: float, images: int) -> bool:
    """Tell whether a minibatch bound says no more than that it needs more images."""
    return bound >= AT_CEILING * math.log(images)
