"""Latent consistency models that read the guidance scale: embedded as diffusers does, in its pipelines' images."""

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
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import InputError
from ldm_runtime.extra_inputs import guidance_embedding
from ldm_runtime.noise.torch_cpu import TorchGenerator
from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import Pipeline
from tests import traces
from tests.once import make_once, shared_folder
from tests.oracles import build_tiny_sd
from tests.runtime.notices import said
from tests.targets import genai_oracle
from tests.targets.building import add
from tests.torch_pipeline import torch_pipeline

PROMPTS = ("a red apple, 3d style", "the smile of a blue cat! " * 30)  # the second is longer than a window
CLASSES = ("LatentConsistencyModelPipeline", "StableDiffusionPipeline")
SCHEDULER = {"_class_name": "LCMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "original_inference_steps": 50}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each class of pipeline that is saved with such a UNet."""

    def make(folder: Path) -> Path:
        build_tiny_sd(folder / CLASSES[1], unet={"time_cond_proj_dim": 32}, scheduler=SCHEDULER)
        plain = diffusers.StableDiffusionPipeline.from_pretrained(folder / CLASSES[1])
        consistent = diffusers.LatentConsistencyModelPipeline(**plain.components, requires_safety_checker=False)
        consistent.save_pretrained(folder / CLASSES[0])
        return folder

    return make_once(tmp_path_factory, "latent-consistency", make)


@pytest.fixture(scope="module", params=CLASSES)
def source(request: pytest.FixtureRequest, sources: Path) -> Path:
    return sources / request.param


@pytest.fixture(scope="module")
def pipe(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with torch_pipeline(source, tmp_path_factory.mktemp("torch")) as opened:
        yield opened


def oracle(source: Path, task: str = "") -> Any:
    """diffusers' pipeline of a folder, or that for another task with the same parts."""
    theirs = getattr(diffusers, source.name).from_pretrained(source)
    if task:
        theirs = getattr(diffusers, source.name.replace("Pipeline", f"{task}Pipeline")).from_pipe(theirs)
    theirs.set_progress_bar_config(disable=True)
    return theirs


def assert_same_image(found: Image.Image, expected: Image.Image) -> None:
    difference = np.abs(np.asarray(found, float) - np.asarray(expected, float))
    assert difference.max() <= 2 and difference.mean() <= 0.1
    assert np.asarray(expected).std() > 10


def photo(width: int = 32, height: int = 24) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 8, y * 10, (x * y) % 256], axis=2).astype(np.uint8))


@pytest.mark.parametrize("width", [4, 6, 32, 256, 512])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.7, 7.5, 8.5, 14.0])
def test_the_embedding_is_diffusers(width: int, guidance: float) -> None:
    embed = diffusers.LatentConsistencyModelPipeline.get_guidance_scale_embedding
    expected = embed(None, torch.tensor(guidance - 1).repeat(1), embedding_dim=width).numpy()[0]
    np.testing.assert_allclose(guidance_embedding(guidance, width), expected, atol=1e-3)
    found = guidance_embedding(guidance, width)
    assert np.abs(found - expected).mean() < 2e-5  # a last bit of a frequency moves an angle of thousands by 5e-4


def test_a_frequency_that_is_off_is_noticed() -> None:
    """As the UNet embeds timesteps, over half the width: another embedding."""
    angles = 7500.0 * 10000.0 ** (-np.arange(128) / 128)
    other = np.concatenate([np.sin(angles), np.cos(angles)])
    assert np.abs(guidance_embedding(8.5, 256) - other).mean() > 0.1


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("guidance", [1.0, 8.5])
def test_it_draws_what_diffusers_draws(pipe: Pipeline, source: Path, prompt: str, guidance: float) -> None:
    theirs = oracle(source)
    options = {"num_inference_steps": 4, "guidance_scale": guidance, "width": 32, "height": 24}
    expected = theirs(prompt, generator=torch.Generator().manual_seed(5), **options).images[0]
    found = pipe(prompt, steps=4, guidance=guidance, size=(32, 24), seed=5, noise="torch")[0]
    assert_same_image(found, expected)
    latents = TorchGenerator(6).normal((1, 4, 12, 16))
    # the later noise of LCM comes from the generator
    expected = theirs(prompt, latents=torch.from_numpy(latents), **{**options, "num_inference_steps": 1}).images[0]
    found = pipe(prompt, steps=1, guidance=guidance, size=(32, 24), latents=latents)[0]
    assert_same_image(found, expected)


@pytest.mark.parametrize("strength", [0.3, 0.77, 1.0])
def test_image_to_image_is_that_of_the_same_class(pipe: Pipeline, source: Path, strength: float) -> None:
    theirs = oracle(source, task="Img2Img")
    expected = theirs(
        PROMPTS[0],
        image=photo(),
        strength=strength,
        num_inference_steps=4,
        guidance_scale=8.5,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    found = pipe(PROMPTS[0], image=photo(), strength=strength, steps=4, guidance=8.5, seed=5, noise="torch")[0]
    assert_same_image(found, expected)


def test_inpainting_is_diffusers(sources: Path, tmp_path: Path) -> None:
    """`LatentConsistencyModelPipeline` has no such task."""
    source = sources / CLASSES[1]
    mask = Image.fromarray(np.where(np.arange(32) < 16, 255, 0).astype(np.uint8)[None].repeat(24, 0))
    theirs = oracle(source, task="Inpaint")
    options = {"num_inference_steps": 4, "guidance_scale": 6.0, "strength": 1.0, "width": 32, "height": 24}
    generator = torch.Generator().manual_seed(3)
    expected = theirs(PROMPTS[0], image=photo(), mask_image=mask, generator=generator, **options).images[0]
    with torch_pipeline(source, tmp_path) as pipe:
        found = pipe(PROMPTS[0], image=photo(), mask=mask, steps=4, guidance=6.0, seed=3, noise="torch")[0]
    assert_same_image(found, expected)


def test_guidance_is_read_and_nothing_is_evaluated_twice(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, engine = [], pipe.engines["unet"]
    run = engine.run

    def counting(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batches.append(len(feeds["sample"]))
        return run(feeds)

    monkeypatch.setattr(engine, "run", counting)
    images = [np.asarray(pipe(["red", "blue"], steps=2, seed=1, guidance=g)[0], float) for g in (1.0, 1.5, 8.0)]
    assert set(batches) == {2}
    assert min(np.abs(images[0] - images[1]).max(), np.abs(images[1] - images[2]).max()) > 3
    assert pipe.contract.range_of(pipe.contract.sample.dims[0])[1] == 64
    pipe.sample(["red"] * 64, steps=1)  # as many images as rows


def test_what_needs_a_negative_prompt_has_no_effect_and_that_is_said(pipe: Pipeline) -> None:
    run = pipe.sample("red", steps=2, seed=1, negative="blue", guidance_rescale=0.5, guidance_interval=(0.2, 0.8))
    reason = "has no effect: this model reads guidance as a number and evaluates the prompt alone"
    for name in ("negative", "guidance_rescale", "guidance_interval"):
        assert f"{name} {reason}" in said(run)
    assert run.metadata()["negative"] == ""
    with pytest.raises(InputError, match="guidance is 1e\\+30; expected at most 1000: this model reads it as a number"):
        pipe.sample("red", guidance=1e30)


def test_a_strength_that_leaves_no_step_is_refused(sources: Path, tmp_path: Path) -> None:
    with torch_pipeline(sources / CLASSES[0], tmp_path) as pipe:
        assert pipe.contract.defaults.sampler == "lcm:reach=1.0"
        with pytest.raises(InputError, match="strength 0 of 50 original steps leaves none; use at least 0.02"):
            pipe.sample("red", image=photo(), strength=0.0)
        with pytest.raises(InputError, match=r"4 steps of 'lcm' are not usable with .* reach 0.05 .* at most 2 steps"):
            pipe.sample("red", image=photo(), strength=0.05, steps=4)


@pytest.fixture(scope="module")
def package(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of LCM's own class, as `build` leaves it; read only."""

    def make(folder: Path) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            traces.remember_in_builds(shared_folder(tmp_path_factory) / "traces", patch)
            report = build_package(sources / CLASSES[0], folder / "package", recipe=BuildRecipe(name="lcm"))
        assert report.proofs[0].passed
        return folder / "package"

    return make_once(tmp_path_factory, "latent-consistency-package", make)


@pytest.mark.slow
def test_it_is_built_proven_and_drawn_with(package: Path, sources: Path) -> None:
    contract = read_manifest(package).contract
    assert contract.denoiser.extra == {"timestep_cond": "guidance_embedding"}
    with ldm_runtime.load(package) as pipe:
        found = pipe(PROMPTS[0], steps=4, guidance=8.5, size=(32, 24), seed=5, noise="torch")[0]
    options = {"num_inference_steps": 4, "guidance_scale": 8.5, "width": 32, "height": 24}
    theirs = oracle(sources / CLASSES[0])
    assert_same_image(found, theirs(PROMPTS[0], generator=torch.Generator().manual_seed(5), **options).images[0])


@pytest.mark.slow
def test_optimum_onnx_opens_it_and_draws_the_same(package: Path, sources: Path, tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTLatentConsistencyModelPipeline, ORTPipelineForText2Image

    copy = shutil.copytree(package, tmp_path / "package")
    theirs = ORTPipelineForText2Image.from_pretrained(copy)
    assert isinstance(theirs, ORTLatentConsistencyModelPipeline)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 8.5, "width": 32, "height": 24}
    images = [
        each(PROMPTS[0], generator=torch.Generator().manual_seed(5), **options).images[0]
        for each in (theirs, oracle(sources / CLASSES[0]))
    ]
    assert_same_image(*images)


@pytest.mark.slow
def test_openvino_genai_opens_it_and_draws_the_same(package: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "package"))
    add(copy, "openvino", genai=True)
    options = {"num_inference_steps": 4, "guidance_scale": 8.5, "width": 32, "height": 24}
    drawn = genai_oracle.draw(copy, PROMPTS[0], 5, **options)
    with ldm_runtime.load(copy, engine="openvino") as pipe:
        found = pipe(PROMPTS[0], steps=4, guidance=8.5, size=(32, 24), seed=5, noise="torch")[0]
    # GenAI cuts to whole levels where this runtime rounds, so one level may differ.
    assert np.abs(np.asarray(found, float) - drawn).max() <= 1
