"""The autoencoder of the built-in model can be differentiated in every way that the sections do, and rightly."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.func import jvp

from ldm_export.analyze.curvature import gaussian_curvature
from ldm_export.analyze.jacobian import Jacobian
from ldm_export.analyze.subject import Codec, open_subject

pytestmark = pytest.mark.slow  # reads a package


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    with open_subject(None) as subject:
        yield subject.codec


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_products_are_finite_differences(codec, half):
    function = codec.decode if half == "decode" else lambda pixels: codec.encode(pixels)[0]
    point = normal(1, 4, 4, 4) if half == "decode" else 0.3 * normal(1, 3, 32, 32)
    step = normal(*point.shape, seed=1)
    jacobian = Jacobian(function, point)
    product = jacobian.times(step.numpy().ravel())
    with torch.no_grad():
        difference = (function(point + 3e-3 * step) - function(point - 3e-3 * step)).numpy().ravel() / 6e-3
    assert np.linalg.norm(product - difference) < 0.01 * np.linalg.norm(difference)
    forward = jvp(function, (point,), (step,))[1].numpy().ravel()
    assert np.allclose(product, forward, atol=1e-4 * np.abs(forward).max())
    steps = np.stack([step.numpy().ravel(), normal(step.numel(), seed=3).numpy()])
    several = jacobian.times(steps)
    assert np.allclose(several[0], product, atol=1e-4 * np.abs(product).max())
    assert np.allclose(several[1], jacobian.times(steps[1]), atol=1e-4 * np.abs(product).max())
    outputs = normal(2, product.size, seed=4).numpy()
    alone = np.stack([jacobian.transposed_times(each) for each in outputs])
    assert np.allclose(jacobian.transposed_times(outputs), alone, atol=1e-4 * np.abs(alone).max())
    weights = normal(product.size, seed=2).double().numpy()
    assert weights @ product == pytest.approx(jacobian.transposed_times(weights) @ step.numpy().ravel(), rel=1e-3)


def test_curvature_is_that_of_finite_differences(codec):
    point, a, b = normal(1, 4, 4, 4), normal(1, 4, 4, 4, seed=1), normal(1, 4, 4, 4, seed=2)
    found = gaussian_curvature(codec.decode, point, a, b)
    size = 0.01

    def image(u: float, v: float) -> np.ndarray:
        with torch.no_grad():
            return codec.decode(point + size * (u * a + v * b)).double().numpy().ravel() / size

    tangents = np.stack([image(1, 0) - image(-1, 0), image(0, 1) - image(0, -1)]) / 2
    seconds = np.stack(
        [
            image(1, 0) - 2 * image(0, 0) + image(-1, 0),
            (image(1, 1) - image(1, -1) - image(-1, 1) + image(-1, -1)) / 4,
            image(0, 1) - 2 * image(0, 0) + image(0, -1),
        ]
    )
    seconds /= size
    normals = seconds - (seconds @ np.linalg.pinv(tangents)) @ tangents
    curved = normals @ normals.T
    determinant = np.linalg.det(tangents @ tangents.T)
    assert found.area == pytest.approx(np.sqrt(determinant), rel=0.005)
    assert found.gaussian == pytest.approx((curved[0, 2] - curved[1, 1]) / determinant, rel=0.02)
