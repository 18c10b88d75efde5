"""The whole chain: from a recipe over training and build to a picture, and a build that the gate stops."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ldm_export import build as builds
from ldm_export.build_recipe import BuildRecipe
from ldm_export.cli import verbs
from ldm_runtime import safetensors
from ldm_runtime.errors import ExportError, VerificationError
from ldm_runtime.manifest import COMPONENTS
from tests.train.conftest import RECIPES, write_pictures


def call(*arguments: str) -> str:
    result = CliRunner().invoke(verbs, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_from_a_recipe_to_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("data-cache") / "smoke")
    trained = call("train", str(RECIPES / "smoke.toml"))
    assert "runs/smoke/checkpoint" in trained
    built = call("build", "runs/smoke/checkpoint", "--out", "package")
    assert "fuse_attention" in built and "verify" in built and ": passed" in built
    call("verify", "package", "--out", "proof")
    assert {file.name for file in Path("proof").iterdir()} == {"report.json", "report.html"}
    call("run", "package", "--prompt", "red square", "--seed", "3", "--out", "square.png")
    with Image.open("square.png") as image:
        assert image.size == (32, 32)
        assert np.asarray(image).std() > 1
    rebuilt = call("build", "package", "--out", "again")  # a package is a checkpoint too
    assert ": passed" in rebuilt
    assert_same_weights(Path("package"), Path("again"))


@pytest.mark.slow
def test_a_checkpoint_in_half_precision_is_built_proven_run_and_built_again(tiny_build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ": passed" in call("build", str(tiny_build("sd15-fp16").source), "--out", "package")
    assert ": passed" in call("verify", "package")
    call("run", "package", "--prompt", "red apple", "--steps", "2", "--out", "apple.png")
    assert ": passed" in call("build", "package", "--out", "again")
    assert_same_weights(Path("package"), Path("again"))
    for component in COMPONENTS:
        header = safetensors.read_header(Path("package") / component / "model.safetensors")
        assert {info.dtype for info in header.tensors.values()} == {"F16"}


def assert_same_weights(first: Path, second: Path) -> None:
    for component in COMPONENTS:
        contents = [(package / component / "model.safetensors").read_bytes() for package in (first, second)]
        assert contents[0] == contents[1]


@pytest.mark.slow
def test_a_build_whose_weights_went_wrong_leaves_no_package(tiny_build, tmp_path, monkeypatch):
    """One channel of one convolution 1 % off, as a faulty pass would leave it."""
    optimise = builds.optimise

    def faulty(path: Path, out: Path, passes):
        weights = path.parent / "model.safetensors"
        if path.parent.name == "vae_decoder" and out.name == "model.onnx":
            info = safetensors.read_header(weights).tensors["decoder.conv_in.bias"]
            with open(weights, "r+b") as file:
                values = np.fromfile(file, np.float32, 1, offset=info.offset)
                file.seek(info.offset)
                file.write((values * np.float32(1.01)).tobytes())
        return optimise(path, out, passes)

    monkeypatch.setattr(builds, "optimise", faulty)
    with pytest.raises(VerificationError, match=r"no package is left: vae_decoder .*relative RMS"):
        builds.build_package(tiny_build("sd15").source, tmp_path / "out", recipe=BuildRecipe())
    assert list(tmp_path.iterdir()) == []


def test_memory_is_estimated_for_every_stage_and_refused_with_the_figure(tiny_build):
    checkpoint = tiny_build("sd15").checkpoint
    needs = builds.memory_needs(checkpoint, None)
    assert {name.split()[0] for name in needs} == {"exporting", "computing", "running"}
    assert all(need > 100e6 for need in needs.values())
    most = max(needs.values())
    builds.require_memory(checkpoint, None, most)
    with pytest.raises(ExportError, match=f"{most / 1e9:.1f} GB"):
        builds.require_memory(checkpoint, None, most - 1)
