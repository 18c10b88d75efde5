"""Pipelines whose autoencoder is a tiny one: it draws no noise, and the images are diffusers'."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import ldm_runtime
from ldm_export.build import build_package
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import ConfigError
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.noise.torch_cpu import TorchGenerator
from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import Pipeline
from tests import traces
from tests.once import make_once, shared_folder
from tests.oracles import build_tiny_sd, with_tiny_autoencoder
from tests.targets import genai_oracle
from tests.targets.building import add
from tests.torch_pipeline import torch_pipeline

PROMPTS = ("a red apple, 3d style", "the smile of a blue cat! " * 30)  # the second is longer than a window
KINDS = ("sd15", "inpaint")
TASKS = {
    "text to image": "StableDiffusionPipeline",
    "image to image": "StableDiffusionImg2ImgPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),  # numpy 2, inside diffusers
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind of UNet, each with the same tiny autoencoder."""

    def make(folder: Path) -> Path:
        for kind in KINDS:
            with_tiny_autoencoder(build_tiny_sd(folder / kind, kind))
        return folder

    return make_once(tmp_path_factory, "tiny-autoencoder", make)


@pytest.fixture(scope="module")
def pipe(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with torch_pipeline(sources / "sd15", tmp_path_factory.mktemp("torch")) as opened:
        yield opened


def oracle(source: Path, task: str) -> Any:
    theirs = getattr(diffusers, TASKS[task]).from_pretrained(source)
    theirs.set_progress_bar_config(disable=True)
    return theirs


def photo(width: int = 32, height: int = 24) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 8, y * 10, (x * y) % 256], axis=2).astype(np.uint8))


def half_mask(width: int = 32, height: int = 24) -> Image.Image:
    return Image.fromarray(np.where(np.arange(width) < width // 2, 255, 0).astype(np.uint8)[None].repeat(height, 0))


def assert_same_image(found: Image.Image, expected: Image.Image) -> None:
    difference = np.abs(np.asarray(found, float) - np.asarray(expected, float))
    assert difference.max() <= 2 and difference.mean() <= 0.1
    assert np.asarray(expected).std() > 10


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_it_draws_what_diffusers_draws(pipe: Pipeline, sources: Path, prompt: str, sampler: str) -> None:
    theirs = oracle(sources / "sd15", "text to image")
    kind = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.EulerAncestralDiscreteScheduler
    theirs.scheduler = kind.from_config(theirs.scheduler.config, timestep_spacing="leading", clip_sample=False)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "width": 32, "height": 24, "negative_prompt": "blue"}
    ours: dict[str, Any] = {"steps": 4, "guidance": 5.0, "size": (32, 24), "negative": "blue", "sampler": sampler}
    expected = theirs(prompt, generator=torch.Generator().manual_seed(5), **options).images[0]
    assert_same_image(pipe(prompt, seed=5, noise="torch", **ours)[0], expected)
    if sampler == "ddim":
        latents = TorchGenerator(6).normal((1, 4, 12, 16))
        expected = theirs(prompt, latents=torch.from_numpy(latents), **options).images[0]
        assert_same_image(pipe(prompt, latents=latents, **ours)[0], expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image_draws_no_noise_for_the_encoder(pipe: Pipeline, sources: Path, strength: float) -> None:
    theirs = oracle(sources / "sd15", "image to image")
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "strength": strength}
    generator = torch.Generator().manual_seed(5)
    expected = theirs(PROMPTS[0], image=photo(), generator=generator, **options).images[0]
    found = pipe(PROMPTS[0], image=photo(), strength=strength, steps=4, guidance=5.0, seed=5, noise="torch")[0]
    assert_same_image(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_inpainting_is_diffusers(sources: Path, tmp_path: Path, kind: str) -> None:
    theirs = oracle(sources / kind, "inpainting")
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "width": 32, "height": 24, "strength": 0.75}
    generator = torch.Generator().manual_seed(3)
    expected = theirs(PROMPTS[0], image=photo(), mask_image=half_mask(), generator=generator, **options).images[0]
    ours = {"steps": 4, "guidance": 5.0, "strength": 0.75, "seed": 3, "noise": "torch"}
    with torch_pipeline(sources / kind, tmp_path) as pipe:
        assert_same_image(pipe(PROMPTS[0], image=photo(), mask=half_mask(), **ours)[0], expected)


def test_it_encodes_to_the_latents_that_it_decodes(pipe: Pipeline) -> None:
    encoded = pipe.encode(photo())
    assert encoded.shape == (1, 4, 12, 16) and not pipe.contract.encodes_moments
    assert pipe.contract.latent.scale == 1.0 and pipe.contract.latent.downsample == 2
    assert pipe.decode(encoded)[0].size == (32, 24)


def test_another_autoencoder_is_refused_by_its_name(sources: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sources / "sd15", tmp_path / "copy"))
    (copy / "vae" / "config.json").write_text(json.dumps({"_class_name": "AsymmetricAutoencoderKL"}))
    message = "has _class_name 'AsymmetricAutoencoderKL'; supported is 'AutoencoderKL' or 'AutoencoderTiny'$"
    with pytest.raises(ConfigError, match=message):
        open_checkpoint(copy)


@pytest.fixture(scope="module")
def package(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a pipeline whose own autoencoder is replaced by the tiny one; read only."""

    def make(folder: Path) -> Path:
        plain, vae = build_tiny_sd(folder / "plain"), sources / "sd15" / "vae"
        with pytest.MonkeyPatch.context() as patch:
            traces.remember_in_builds(shared_folder(tmp_path_factory) / "traces", patch)
            recipe = BuildRecipe(name="tiny vae")
            report = build_package(plain, folder / "package", recipe=recipe, parts={"vae": vae})
        assert report.proofs[0].passed
        return folder / "package"

    return make_once(tmp_path_factory, "tiny-autoencoder-package", make)


@pytest.mark.slow
def test_it_is_built_proven_drawn_with_and_a_source_again(package: Path, sources: Path, tmp_path: Path) -> None:
    manifest = read_manifest(package)
    contract = manifest.contract
    assert "vae: vae/diffusion_pytorch_model.safetensors" in manifest.provenance.source.sha256
    assert contract.tensor("vae_encoder", "latent_sample").dims == ("batch", 4, "height", "width")
    theirs = oracle(sources / "sd15", "image to image")
    generator = torch.Generator().manual_seed(5)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "strength": 0.5}
    expected = theirs(PROMPTS[0], image=photo(), generator=generator, **options).images[0]
    with ldm_runtime.load(package) as pipe:
        found = pipe(PROMPTS[0], image=photo(), strength=0.5, steps=4, guidance=5.0, seed=5, noise="torch")[0]
    assert_same_image(found, expected)
    with torch_pipeline(package, tmp_path) as pipe:
        again = pipe(PROMPTS[0], image=photo(), strength=0.5, steps=4, guidance=5.0, seed=5, noise="torch")[0]
    assert_same_image(again, expected)


@pytest.mark.slow
def test_optimum_onnx_opens_it_and_draws_the_same(package: Path, sources: Path, tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTPipelineForImage2Image

    theirs = ORTPipelineForImage2Image.from_pretrained(shutil.copytree(package, tmp_path / "package"))
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "strength": 0.5}
    images = [
        each(PROMPTS[0], image=photo(), generator=torch.Generator().manual_seed(5), **options).images[0]
        for each in (theirs, oracle(sources / "sd15", "image to image"))
    ]
    assert_same_image(*images)


@pytest.mark.slow
def test_openvino_genai_opens_it_and_draws_the_same(package: Path, tmp_path: Path) -> None:
    """GenAI knows `AutoencoderKL` alone: the folder for it says that."""
    copy = Path(shutil.copytree(package, tmp_path / "package"))
    add(copy, "openvino", genai=True)
    index = json.loads((copy / "openvino-genai" / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"] and index["text_encoder"] == ["transformers", "CLIPTextModel"]
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "width": 32, "height": 24, "negative_prompt": "blue"}
    drawn = genai_oracle.draw(copy, PROMPTS[0], 5, **options)
    with ldm_runtime.load(copy, engine="openvino") as pipe:
        found = pipe(PROMPTS[0], negative="blue", steps=4, guidance=5.0, size=(32, 24), seed=5, noise="torch")[0]
    assert np.abs(np.asarray(found, float) - drawn).max() <= 1  # GenAI cuts to whole levels, this runtime rounds
