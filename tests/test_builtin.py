"""The built-in package: proven, small, drawn from as the README says, and a checkpoint to build from."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_export.recipes.train import load_train_recipe
from ldm_export.verify.gate import verify_package
from ldm_runtime.pipeline import builtin_package

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "export_configs" / "emoji-128.toml"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def pipe():
    with ldm_runtime.load() as pipe:
        yield pipe


def colour(image: Image.Image) -> np.ndarray:
    """Mean red, green and blue of the middle."""
    width, height = image.size
    middle = image.crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    return np.asarray(middle, np.float64).mean(axis=(0, 1))


@pytest.mark.slow
def test_its_proof_holds_here():
    report = verify_package(builtin_package())
    assert report.passed, report.failures


def test_it_is_small_and_tells_its_origin_and_licences():
    package = builtin_package()
    assert sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) < 45 * MEGABYTE
    card = (package / "README.md").read_text()
    assert "Apache-2.0" in card and "MIT" in card and "fluent-emoji" in card
    assert (package / "recipe.toml").read_text() == RECIPE.read_text()


@pytest.mark.slow
def test_the_readmes_python_example_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ldm_runtime.load()("red apple, 3d style", seed=1)[0].save("apple.png")
    with Image.open("apple.png") as image:
        assert image.size == (128, 128)
        assert image.info["prompt"] == "red apple, 3d style" and image.info["seed"] == "1"


@pytest.mark.slow
def test_it_draws_the_colour_that_it_is_asked_for(pipe):
    for seed in range(3):
        red, green = pipe(["red apple, 3d style", "green apple, 3d style"], seed=seed)
        assert colour(red)[0] > colour(red)[1] + 40, f"seed {seed}: {colour(red)}"
        assert colour(green)[1] > colour(green)[0] + 20, f"seed {seed}: {colour(green)}"


@pytest.mark.slow
def test_it_draws_the_background_that_it_is_asked_for(pipe):
    backgrounds = {"white": (255, 255, 255), **load_train_recipe(RECIPE).data.backgrounds}
    pictures = pipe([f"red apple, 3d style, {name} background" for name in backgrounds], seed=1)
    for (name, wanted), picture in zip(backgrounds.items(), pictures, strict=True):
        corner = np.asarray(picture.crop((0, 0, 16, 16)), np.float64).mean(axis=(0, 1))
        assert np.abs(corner - wanted).max() < 30, f"{name}: {corner}"


@pytest.mark.slow
def test_the_prompt_the_style_and_the_seed_matter(pipe):
    def draw(prompt: str, seed: int = 1) -> np.ndarray:
        return np.asarray(pipe(prompt, seed=seed)[0], np.float64)

    octopus = draw("octopus, noto style")  # which it knows less by heart than an apple
    assert np.abs(octopus - draw("octopus, noto style", seed=2)).mean() > 4
    apple = draw("red apple, 3d style")
    assert np.abs(apple - draw("red apple, noto style")).mean() > 8
    assert np.abs(apple - draw("blue book, 3d style")).mean() > 20


@pytest.mark.slow
def test_an_image_from_the_start_of_the_process_stays_under_400_megabytes():
    script = (
        "import ldm_runtime\n"
        "ldm_runtime.load()('red apple, 3d style', steps=20)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    output = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert int(output) * 1024 < 400 * MEGABYTE


def test_it_is_a_checkpoint_to_build_from():
    from ldm_export.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(builtin_package())
    checkpoint.check()
    total = sum(checkpoint.parameter_count(part) for part in ("unet", "vae", "text_encoder"))
    assert 15e6 < total <= 20e6
