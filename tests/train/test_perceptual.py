"""The perceptual distance: a distance, with gradients into the image only, from weights that are checked."""

import pytest
import torch
import torch.nn.functional as F

from ldm_export.errors import TrainingError
from ldm_export.train.perceptual import BGR_MEAN, PerceptualDistance
from ldm_runtime.package import safetensors
from tests.train.conftest import vgg_tensors


@pytest.fixture
def distance(image_folder):
    return PerceptualDistance(image_folder / "vgg16.safetensors")


@pytest.fixture
def images():
    return torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_equal_images_have_no_distance_and_others_have(distance, images):
    assert distance(images[0], images[0]) == 0
    assert distance(images[0], images[1]) > 0


def test_gradients_reach_the_image_alone(distance, images):
    image, target = images[0].requires_grad_(), images[1].clone().requires_grad_()
    distance(image, target).backward()
    assert image.grad.abs().sum() > 0
    assert target.grad is None
    assert all(not parameter.requires_grad for parameter in distance.parameters())


def test_the_first_features_are_those_of_vgg(distance, images):
    tensors = {name: torch.from_numpy(array) for name, array in vgg_tensors().items()}
    x = (images[0][:, [2, 1, 0]] + 1) / 2 * 255 - torch.tensor(BGR_MEAN)[:, None, None]
    for name in ("conv1_1", "conv1_2"):
        x = F.relu(F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1))
    expected = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-4)
    torch.testing.assert_close(distance.features(images[0])[0], expected, rtol=1e-4, atol=1e-5)


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(TrainingError, match="ldm-export data"):
        PerceptualDistance(tmp_path / "none.safetensors")


def test_weights_that_are_cut_off_keep_their_code_and_say_how_to_get_them(tmp_path):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(TrainingError, match=r"cut\.safetensors .*again with: ldm-export data") as caught:
        PerceptualDistance(file)
    assert caught.value.code == "weights.header"


def test_weights_without_a_block_are_refused(tmp_path):
    tensors = {name: array for name, array in vgg_tensors().items() if name.startswith("conv1")}
    safetensors.write(tmp_path / "one.safetensors", tensors, {})
    with pytest.raises(TrainingError, match="conv2_1"):
        PerceptualDistance(tmp_path / "one.safetensors")
