"""Paths between two points of a latent space: straight, spherical, and the one whose outputs take the shortest way.

Lengths are those of the outputs, so they are measured by the metric that the network pulls back to its inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def straight(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return the points of the straight line in equal steps, (steps + 1, …)."""
    t = np.linspace(0, 1, steps + 1).reshape(-1, *[1] * start.ndim)
    return np.asarray((1 - t) * start + t * end, np.float32)


def spherical(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return the points of the arc around zero in equal angles (Shoemake 1985), (steps + 1, …).

    The norm goes from that of the start to that of the end. The straight line where both point the same way.
    """
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    cosine = float(np.vdot(start, end) / max(lengths[0] * lengths[1], np.finfo(float).tiny))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return straight(start, end, steps)
    t = np.linspace(0, 1, steps + 1).reshape(-1, *[1] * start.ndim)
    return np.asarray((np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle), np.float32)


@dataclass(frozen=True)
class Geodesic:
    """What a search for the shortest path ended at. knots: with start and end, (K, …).

    Its energy is at most that of the straight line. Its length is an upper bound of the distance, and may be above that
    of the line: the energy sees few points of the path. converged: the energy has stopped to fall. evaluations: of
    energy and gradient.
    """

    knots: np.ndarray
    converged: bool
    evaluations: int

    def points(self, steps: int) -> np.ndarray:
        """Return the points of the path, (steps + 1, …)."""
        weights = _spline(len(self.knots), steps)
        return np.asarray(np.tensordot(weights, self.knots, 1), np.float32)


def geodesic(
    function: Callable[[Tensor], Tensor], start: np.ndarray, end: np.ndarray, *, knots: int, steps: int, most: int
) -> Geodesic:
    """Find the path of least energy between two points: a cubic spline through `knots` free points.

    The energy is Σ ‖Δ‖² over `steps` pieces of the path, Δ the difference of the outputs at their ends; its minimum has
    the least length, passed at constant speed (Arvanitidis, Hansen and Hauberg 2018, section 3). L-BFGS from the
    straight line, with about `most` evaluations. Memory is that of one point: gradients compute activations anew.
    """
    line = straight(start, end, knots + 1).astype(np.float64)
    weights = torch.from_numpy(_spline(knots + 2, steps)).float()
    outer = torch.from_numpy(line[[0, -1]]).float()
    with torch.no_grad():
        ends = [function(each[None]) for each in outer]
    scale = float((ends[1] - ends[0]).square().sum()) or 1.0

    def energy(free: np.ndarray) -> tuple[float, np.ndarray]:
        inner = torch.from_numpy(free.reshape(knots, *start.shape)).float().requires_grad_()
        path = torch.tensordot(weights, torch.cat([outer[:1], inner, outer[1:]]), 1)
        outputs = [checkpoint(function, each[None], use_reentrant=False) for each in path[1:-1]]
        passed = torch.cat([ends[0], *outputs, ends[1]])
        value = steps * passed.diff(dim=0).square().sum() / scale
        (gradient,) = torch.autograd.grad(value, inner)
        return float(value.detach()), np.asarray(gradient, np.float64).reshape(-1)

    found = minimize(
        energy, line[1:-1].reshape(-1), jac=True, method="L-BFGS-B", options={"maxfun": most, "ftol": 1e-6, "gtol": 0}
    )
    inner = found.x.reshape(knots, *start.shape)
    return Geodesic(np.concatenate([line[:1], inner, line[-1:]]), bool(found.status == 0), int(found.nfev))


def path_length(outputs: np.ndarray) -> float:
    """Return the length of the polygon through outputs (N, …), in their units."""
    steps = np.diff(outputs.reshape(len(outputs), -1).astype(np.float64), axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


def _spline(knots: int, steps: int) -> np.ndarray:
    """Return the weights of the knots in the points of the natural cubic spline through them, (steps + 1, knots)."""
    spline = CubicSpline(np.linspace(0, 1, knots), np.eye(knots), bc_type="natural")
    return np.asarray(spline(np.linspace(0, 1, steps + 1)))
