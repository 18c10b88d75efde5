"""How far from independent the numbers of latents are, as far as covariances tell. In nats.

Both begin with a few moments of each image, of which a bootstrap resamples images.
"""

import numpy as np

LEAST = 1e-12  # of 1 - correlation²


def cell_moments(latents: np.ndarray) -> np.ndarray:
    """Return mean products and means of channels over each image's cells, (N, C, C + 1), of latents (N, C, h, w)."""
    flat = latents.reshape(*latents.shape[:2], -1)
    products = flat @ flat.swapaxes(1, 2) / flat.shape[2]
    return np.concatenate([products, flat.mean(axis=2, keepdims=True)], axis=2)


def cell_covariance(moments: np.ndarray) -> np.ndarray:
    """Return the covariance of a cell's channels, (C, C), all cells of all images as one, from `cell_moments`."""
    mean = moments.mean(axis=0)
    return np.asarray(mean[:, :-1] - np.outer(mean[:, -1], mean[:, -1]))


def total_correlation(covariance: np.ndarray) -> float:
    """Return the total correlation of a Gaussian (Watanabe 1960): its numbers' entropies less that of all together."""
    sign, log_determinant = np.linalg.slogdet(covariance)
    return 0.5 * (float(np.log(np.diag(covariance)).sum()) - log_determinant) if sign > 0 else float("inf")


def neighbour_moments(latents: np.ndarray) -> np.ndarray:
    """Return the moments x, y, xx, yy, xy of cells with those to the right and below, (N, C, 5), of (N, C, h, w).

    Raises ValueError for latents that are one cell.
    """
    if latents.shape[2] * latents.shape[3] < 2:
        raise ValueError("latents of one cell have no neighbours")
    count, channels = latents.shape[:2]
    first, second = (
        np.concatenate([each.reshape(count, channels, -1) for each in pair], axis=2)
        for pair in (
            (latents[..., :-1], latents[..., :-1, :]),
            (latents[..., 1:], latents[..., 1:, :]),
        )
    )
    products = (first, second, first**2, second**2, first * second)
    return np.stack([each.mean(axis=2) for each in products], axis=2)


def neighbour_information(moments: np.ndarray) -> np.ndarray:
    """Return the information between Gaussian neighbours of each channel, (C,): -1/2 log(1 - correlation²)."""
    x, y, xx, yy, xy = moments.mean(axis=0).T
    power = (xx - x**2) * (yy - y**2)
    squared = np.divide((xy - x * y) ** 2, power, out=np.zeros_like(power), where=power > 0)
    return np.asarray(-0.5 * np.log(np.maximum(1 - squared, LEAST)))
