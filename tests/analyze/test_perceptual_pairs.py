"""Perceptual distances of pairs are those of the network, in whatever blocks they are computed."""

import numpy as np
import pytest
import torch

from ldm_export.analyze.perceptual_pairs import BLOCK, perceptual_distances
from ldm_export.errors import TrainingError
from ldm_export.train.perceptual import PerceptualDistance
from ldm_runtime.package import safetensors
from tests.train.conftest import vgg_tensors


@pytest.mark.parametrize("count", [2, BLOCK, BLOCK + 1])
def test_pairs_are_those_of_the_network(tmp_path, count: int) -> None:
    weights = tmp_path / "vgg16.safetensors"
    safetensors.write(weights, vgg_tensors())
    images, others = np.random.default_rng(0).uniform(-1, 1, (2, count, 3, 16, 16)).astype(np.float32)
    found = perceptual_distances(weights, images, others)
    network = PerceptualDistance(weights)
    expected = [
        float(network(torch.from_numpy(image[None]), torch.from_numpy(other[None])))
        for image, other in zip(images, others, strict=True)
    ]
    assert found.shape == (count, 2)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
    assert (found[:, 1] > 0).all(), "no image is compared with itself"


def test_damaged_weights_are_refused(tmp_path) -> None:
    (tmp_path / "vgg16.safetensors").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="fetch these perceptual weights again"):
        perceptual_distances(tmp_path / "vgg16.safetensors", np.zeros((2, 3, 16, 16)), np.zeros((2, 3, 16, 16)))
