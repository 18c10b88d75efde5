"""Paths of the probability flow from noise to data, in the scaling where a line is what one step can follow.

A sampler's state x = alpha x0 + sigma noise is divided by alpha + sigma, and its time is sigma / (alpha + sigma): 1 is
noise, 0 is data (Liu et al. 2022, "Flow straight and fast"). There, where the prediction of the image stays the same
all the way, the path is a line walked at one speed, and one step of DDIM or Euler is exact.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Paths:
    """Points of N paths: float (N, K + 1, D), and their times (K + 1,), which fall."""

    points: np.ndarray
    times: np.ndarray

    def thinned(self) -> "Paths":
        """Return the paths through every second point."""
        return Paths(self.points[:, ::2], self.times[::2])


def chords(paths: Paths) -> np.ndarray:
    """Return the distance from the first point to the last one, (N,)."""
    return np.asarray(np.linalg.norm(paths.points[:, -1].astype(np.float64) - paths.points[:, 0], axis=1))


def lengths(paths: Paths) -> np.ndarray:
    """Return the length of each path, (N,). Points that are far apart cut corners: it is at least that."""
    return np.asarray(np.sqrt(_squares(paths)).sum(axis=1))


def energies(paths: Paths) -> np.ndarray:
    """Return the integral of the squared speed over the time, (N, K): of each piece."""
    return np.asarray(_squares(paths) / np.abs(np.diff(paths.times)))


def bending(paths: Paths) -> np.ndarray:
    """Return 1 - chord² / (time x energy) of each path, (N,): the share of its motion that does not go straight.

    0 is a line that is walked at one speed. It is Liu's straightness, E of the integral of |chord rate - velocity|²,
    over the integral of the velocity's square, so that it is at most 1: a path that comes back to where it began.
    """
    whole = energies(paths).sum(axis=1) * (paths.times[0] - paths.times[-1])
    return np.asarray(1 - chords(paths) ** 2 / np.where(whole > 0, whole, 1)) * (whole > 0)


def bending_by_time(paths: Paths) -> np.ndarray:
    """Return the mean of |velocity - chord rate|² at each piece over the mean square of the chord rate, (K,)."""
    steps = np.diff(paths.times)
    rate = (paths.points[:, -1].astype(np.float64) - paths.points[:, 0]) / (paths.times[-1] - paths.times[0])
    velocity = np.diff(paths.points.astype(np.float64), axis=1) / steps[:, None]
    off = ((velocity - rate[:, None]) ** 2).sum(axis=2).mean(axis=0)
    return np.asarray(off / (rate**2).sum(axis=1).mean())


def gaussian_paths(noise: np.ndarray, means: np.ndarray, deviations: np.ndarray, times: np.ndarray) -> Paths:
    """Return the exact paths from noise (N, D) to Gaussian data with these means and deviations, (D,) both.

    The flow keeps each number's place in its distribution, which at t is that of (1 - t) data + t noise: around
    (1 - t) mean, with a deviation of sqrt(((1 - t) deviation)² + t²).
    """
    centre = (1 - times[:, None]) * means  # (K + 1, D)
    scale = np.sqrt(((1 - times[:, None]) * deviations) ** 2 + times[:, None] ** 2)
    place = (noise - centre[0]) / np.where(scale[0] > 0, scale[0], 1)
    return Paths(centre + place[:, None] * scale, times)


def _squares(paths: Paths) -> np.ndarray:
    """Return the squared length of each piece, (N, K)."""
    return np.asarray((np.diff(paths.points.astype(np.float64), axis=1) ** 2).sum(axis=2))
