"""Models that are opened to be analysed, and what is said of those that torch cannot take."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ldm_export.analyze.component_inputs import axis_sizes, zeros
from ldm_export.analyze.subject import open_subject
from ldm_export.errors import CheckpointError
from ldm_runtime.errors import PackageError
from ldm_runtime.pipeline import builtin_package

pytestmark = pytest.mark.slow  # each copies or opens the built-in model


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the built-in package."""
    return Path(shutil.copytree(builtin_package(), tmp_path / "package"))


def test_a_package_that_torch_cannot_take_says_what_to_analyse(package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["provenance"]["family"] = "another"
    (package / "manifest.json").write_text(json.dumps(manifest))
    with (
        pytest.raises(
            CheckpointError, match="of the family 'another' .*: analyse the checkpoint that it was built from$"
        ),
        open_subject(package),
    ):
        pass


def test_a_package_without_weights_names_them(package: Path) -> None:
    (package / "vae_decoder" / "model.safetensors").unlink()
    with pytest.raises(PackageError, match=r"vae_decoder/model\.safetensors is missing; fetch"), open_subject(package):
        pass


def test_a_part_that_does_not_load_says_what_to_analyse(package: Path) -> None:
    with open_subject(package) as subject:
        subject.checkpoint.tensors["vae"].popitem()
        with pytest.raises(CheckpointError, match="vae.*: analyse the checkpoint that it was built from$"):
            _ = subject.codec


def test_a_checkpoint_is_not_told_of_another(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist") as caught, open_subject(tmp_path / "none"):
        pass
    assert "built from" not in str(caught.value)


def test_inputs_are_those_of_one_image_and_one_window_of_text() -> None:
    with open_subject(None) as subject:
        specs, sizes = subject.checkpoint.specs, axis_sizes(subject)
        shapes = {name: each.shape for name, each in zeros(specs["unet"], sizes).items()}
        (image,) = zeros(specs["vae_encoder"], sizes).values()
        assert image.shape == (1, 3, 128, 128)
        role = subject.contract.denoiser
        assert shapes[role.sample] == (1, 4, 16, 16) and shapes[role.timestep] == ()
        assert subject.codec.decode(torch.zeros(shapes[role.sample])).shape == (1, 3, 128, 128)
