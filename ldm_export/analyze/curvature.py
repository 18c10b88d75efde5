"""Gaussian curvature of a surface that a network makes of a plane."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp


@dataclass(frozen=True)
class Curvature:
    """Of the surface (u, v) ↦ F(point + u·a + v·b), where it touches F(point).

    gaussian: K, per squared unit of F; of a sphere of radius R, 1 / R²; negative at a saddle. area: of the image of the
    unit square of u and v, in squared units of F.
    """

    gaussian: float
    area: float


def gaussian_curvature(function: Callable[[Tensor], Tensor], point: Tensor, a: Tensor, b: Tensor) -> Curvature:
    """Measure the curvature of a slice, exactly: first and second derivatives along a and b, forwards.

    Gauss's equation: K = (⟨II(a, a), II(b, b)⟩ - |II(a, b)|²) / (EG - F²), where II is the part of a second derivative
    that is normal to the surface (do Carmo 1992, chapter 6). point, a, b: (1, …). Where the surface has no area,
    because a and b are one direction or have no effect, the curvature is NaN.
    """

    def along(direction: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda at: jvp(function, (at,), (direction,))[1]

    (along_a, second_aa), (_, second_ab), (along_b, second_bb) = (
        jvp(along(first), (point,), (second,))[:2] for first, second in ((a, a), (a, b), (b, b))
    )
    tangents = torch.stack([each.double().flatten() for each in (along_a, along_b)])
    seconds = torch.stack([each.double().flatten() for each in (second_aa, second_ab, second_bb)])
    metric = tangents @ tangents.T  # E, F; F, G
    determinant = float(metric.det())
    if not determinant > 1e-12 * float(metric[0, 0] * metric[1, 1]):
        return Curvature(float("nan"), 0.0)
    normal = seconds - seconds @ tangents.T @ metric.inverse() @ tangents
    curved = normal @ normal.T
    return Curvature(float(curved[0, 2] - curved[1, 1]) / determinant, determinant**0.5)
