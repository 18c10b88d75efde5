"""Each contender is told to draw the same image, and who cannot is in the table with the reason."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.start.contenders import (
    COPYING,
    RUNTIME,
    TOOL,
    Contender,
    Drawing,
    Programs,
    contenders,
    genai,
    ours,
    stable_diffusion_cpp,
)
from benchmarks.start.measure import measure
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package

PROGRAM = Path("/programs/theirs")


@pytest.fixture
def drawing():
    return Drawing(open_package(builtin_package()), (128, 128), 2, 1)


def test_the_runtime_in_python_draws_as_it_is_told(drawing, tmp_path):
    measured = measure(RUNTIME, ours(drawing, PROGRAM, tmp_path)[RUNTIME], (128, 128))
    assert measured.first is not None and measured.first < measured.image


def test_weights_are_those_of_a_drawing(drawing):
    names = {file.parent.name for file in drawing.weights()}
    assert names == {"text_encoder", "unet", "vae_decoder"}


def test_programs_that_are_not_there_have_reasons(drawing, tmp_path):
    table = contenders(drawing, Programs(PROGRAM, None, PROGRAM), None, tmp_path, (TOOL,))
    assert list(table) == [TOOL, "OpenVINO GenAI, C++", "stable-diffusion.cpp"]
    assert table["OpenVINO GenAI, C++"] == "no `--genai`, which is built from benchmarks/start/programs/genai.cpp"
    assert table["stable-diffusion.cpp"] == (
        "it draws with the published architectures only, and a UNet of widths [96, 160, 192] is none"
    )


def test_a_package_without_the_folder_of_genai_is_said(drawing, tmp_path):
    assert genai(drawing, PROGRAM, tmp_path) == (
        "the package has no folder openvino-genai; build it with `--target openvino --genai`"
    )


def published(drawing: Drawing, folder: Path) -> Drawing:
    """Return the drawing with a package that has the UNet's config of Stable Diffusion 1.5."""
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text('{"block_out_channels": [320, 640, 1280, 1280]}', encoding="utf-8")

    class Elsewhere:
        path, manifest = folder, drawing.package.manifest

    return replace(drawing, package=Elsewhere())


def test_stable_diffusion_cpp_needs_a_program_and_a_checkpoint(drawing, tmp_path):
    large = published(drawing, tmp_path / "package")
    assert stable_diffusion_cpp(large, None, tmp_path, tmp_path) == "no `--sd-cli`"
    assert stable_diffusion_cpp(large, PROGRAM, None, tmp_path) == "no `--checkpoint`"


def test_all_are_told_of_the_same_image(drawing, tmp_path):
    large = replace(published(drawing, tmp_path / "package"), size=(256, 192), steps=7, threads=3)
    genai_folder = tmp_path / "package" / "openvino-genai"
    genai_folder.mkdir()
    (genai_folder / "model_index.json").write_text("{}", encoding="utf-8")
    found = {
        **ours(large, PROGRAM, tmp_path),
        "genai": genai(large, PROGRAM, tmp_path),
        "sd.cpp": stable_diffusion_cpp(large, PROGRAM, tmp_path, tmp_path),
    }
    for title, contender in found.items():
        assert isinstance(contender, Contender), title
        for value in ("7", "3"):
            assert value in contender.command, title
        assert "256x192" in contender.command or {"256", "192"} <= set(contender.command), title
        assert "euler" in contender.command or title == "genai"  # whose program has it
    assert "--no-map-weights" in found[COPYING].command
