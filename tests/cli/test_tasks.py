"""Whole tasks against diffusers' pipelines: the same integer seed, the same picture, within rounding to bytes."""

import functools
import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import ldm_runtime
from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers import read_sampler
from ldm_runtime.sampling.solvers.diffusion import DdimOptions
from tests.runtime.sampling import diffusers_schedulers as oracle

PROMPT, NEGATIVE = "a red apple on a table", "blurry"
SIZE = (48, 32)  # width, height
STEPS, GUIDANCE, SEED = 6, 4.0, 7

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def built(tiny_build: Any) -> Any:
    return tiny_build("sd15")


@pytest.fixture(scope="module")
def pipe(built: Any) -> Any:
    with ldm_runtime.load(built.package) as opened:
        yield opened


@functools.cache
def opened(source: Path, kind: str) -> tuple[Any, Any]:
    """diffusers' pipeline, and its own scheduler's configuration: every image gets a scheduler of its own."""
    pipe = getattr(diffusers, kind).from_pretrained(source, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe, pipe.scheduler.config


def theirs(source: Path, kind: str, sampler: str, **arguments: Any) -> np.ndarray:
    """float (H, W, 3) in 0 … 255, of one image that a pipeline of diffusers draws with a generator seeded SEED."""
    chosen = read_sampler(sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe, config = opened(source, kind)
        scheduler = getattr(diffusers, oracle.CLASSES[chosen.name])
        pipe.scheduler = scheduler.from_config(config, **oracle.configured(chosen))
        if isinstance(chosen.options, DdimOptions):
            arguments["eta"] = chosen.options.eta
        made = pipe(
            **{"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, **arguments},
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(SEED),
            output_type="np",
        )
    return made.images[0] * 255.0


def ours(pipe: Any, sampler: str, prompt: str = PROMPT, **arguments: Any) -> np.ndarray:
    """The same from our pipeline, before it is rounded to bytes."""
    *_, last = pipe.sample(
        prompt,
        **{"negative": NEGATIVE, "steps": STEPS, "size": SIZE, "noise": "torch", **arguments},
        guidance=GUIDANCE,
        seed=SEED,
        sampler=sampler,
    )
    picture = np.clip(last.decode()[0].transpose(1, 2, 0), -1.0, 1.0) * 127.5 + 127.5
    assert np.abs(picture - np.asarray(last.images()[0], np.float64)).max() <= 0.501
    return picture


def assert_same_picture(drawn: np.ndarray, expected: np.ndarray) -> None:
    levels = np.abs(drawn - expected)
    assert levels.max() < 2.0 and levels.mean() <= 0.1


def photo(size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with structure at every scale."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    planes = [128 + 100 * np.sin(x / 5.0 + y / 9.0), 255.0 * x / width, np.where((x // 8 + y // 8) % 2, 220, 40)]
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8))


def slow(*samplers: str) -> list[Any]:
    return [pytest.param(sampler, marks=pytest.mark.slow) for sampler in samplers]


@pytest.mark.parametrize(
    "sampler",
    ["euler_ancestral", *slow("dpmpp_2m", "ddim", "plms", "unipc", "heun", "ddim:eta=1", "dpmpp_2m_sde", "lcm")],
)
def test_a_seed_of_diffusers_gives_its_image(built: Any, pipe: Any, sampler: str) -> None:
    expected = theirs(built.source, "StableDiffusionPipeline", sampler, width=SIZE[0], height=SIZE[1])
    assert_same_picture(ours(pipe, sampler), expected)
    assert np.abs(ours(pipe, sampler, noise="philox") - expected).mean() > 5.0


@pytest.mark.parametrize(
    "strength", (0.75, *(pytest.param(strength, marks=pytest.mark.slow) for strength in (0.3, 1.0)))
)
@pytest.mark.parametrize(
    "sampler", ["ddim", *slow("euler", "dpmpp_2m", "unipc", "plms", "euler_ancestral", "heun", "lms")]
)
def test_image_to_image_is_that_of_diffusers(built: Any, pipe: Any, sampler: str, strength: float) -> None:
    expected = theirs(built.source, "StableDiffusionImg2ImgPipeline", sampler, image=photo(), strength=strength)
    drawn = ours(pipe, sampler, image=photo(), strength=strength)
    assert_same_picture(drawn, expected)


def test_an_image_of_another_size_is_scaled_as_diffusers_does(built: Any, pipe: Any) -> None:
    odd = photo((53, 38))
    size = {"width": 48, "height": 32}
    expected = theirs(
        built.source, "StableDiffusionInpaintPipeline", "ddim", image=odd, mask_image=mask((53, 38)), **size
    )
    assert_same_picture(ours(pipe, "ddim", image=odd, mask=mask((53, 38))), expected)


def mask(size: tuple[int, int] = SIZE) -> Image.Image:
    """White, to be inpainted, on the left and in a soft disc."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    disc = 255.0 * np.clip(1.6 - np.hypot(x - 0.7 * width, y - 0.5 * height) / (0.3 * height), 0, 1)
    return Image.fromarray(np.where(x < width // 3, 255, disc).astype(np.uint8), "L")


@pytest.mark.parametrize("strength", (0.5, pytest.param(1.0, marks=pytest.mark.slow)))
@pytest.mark.parametrize("sampler", ["euler_ancestral", *slow("ddim", "euler", "dpmpp_2m")])
def test_inpainting_is_that_of_diffusers(built: Any, pipe: Any, sampler: str, strength: float) -> None:
    arguments = {"image": photo(), "mask_image": mask(), "strength": strength, "width": SIZE[0], "height": SIZE[1]}
    expected = theirs(built.source, "StableDiffusionInpaintPipeline", sampler, **arguments)
    drawn = ours(pipe, sampler, image=photo(), mask=mask(), strength=strength)
    assert_same_picture(drawn, expected)


@pytest.mark.slow
@pytest.mark.parametrize("strength", (0.5, 1.0))
@pytest.mark.parametrize("sampler", ["plms", "euler_ancestral"])
def test_a_unet_that_reads_the_mask_inpaints_as_in_diffusers(tiny_build: Any, sampler: str, strength: float) -> None:
    built = tiny_build("inpaint")
    arguments = {"image": photo(), "mask_image": mask(), "strength": strength, "width": SIZE[0], "height": SIZE[1]}
    expected = theirs(built.source, "StableDiffusionInpaintPipeline", sampler, **arguments)
    with ldm_runtime.load(built.package) as painter:
        drawn = ours(painter, sampler, image=photo(), mask=mask(), strength=strength)
        assert_same_picture(drawn, expected)
        other = photo().rotate(180)
        assert np.abs(ours(painter, sampler, image=other, mask=mask(), strength=strength) - expected).max() > 3.0
        with pytest.raises(InputError, match="this model inpaints; give an image and a mask"):
            painter(PROMPT)
        half = ours(painter, sampler, image=photo(), mask=mask(), strength=strength, guidance_interval=(0.0, 0.5))
        assert np.isfinite(half).all() and np.abs(half - expected).max() > 3.0


@pytest.mark.slow
def test_optimum_inpaints_with_such_a_package_too(tiny_build: Any) -> None:
    from optimum.onnxruntime import ORTStableDiffusionInpaintPipeline

    built = tiny_build("inpaint")
    arguments = {"image": photo(), "mask_image": mask(), "width": SIZE[0], "height": SIZE[1]}
    expected = theirs(built.source, "StableDiffusionInpaintPipeline", "ddim", **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = ORTStableDiffusionInpaintPipeline.from_pretrained(built.package)
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
        pipe.set_progress_bar_config(disable=True)
        made = pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(SEED),
            output_type="np",
            **arguments,
        )
    assert_same_picture(made.images[0] * 255.0, expected)


def test_rescaled_guidance_is_that_of_diffusers(built: Any, pipe: Any) -> None:
    size = {"width": SIZE[0], "height": SIZE[1]}
    expected = theirs(built.source, "StableDiffusionPipeline", "ddim", guidance_rescale=0.7, **size)
    assert_same_picture(ours(pipe, "ddim", guidance_rescale=0.7), expected)
    assert np.abs(ours(pipe, "ddim") - expected).max() > 3.0


def test_long_prompts_in_windows_are_joined_as_embeddings(built: Any, pipe: Any) -> None:
    """The oracle: each window's hidden state from transformers' encoder, joined, through diffusers' pipeline."""
    prompt = "a red apple BREAK a green pear on a table"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = diffusers.StableDiffusionPipeline.from_pretrained(built.source, torch_dtype=torch.float32)

    def encode(*windows: str) -> torch.Tensor:
        ids = other.tokenizer(list(windows), padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            states = other.text_encoder(ids).last_hidden_state
        return states.reshape(1, -1, states.shape[-1])

    expected = theirs(
        built.source,
        "StableDiffusionPipeline",
        "ddim",
        prompt=None,
        negative_prompt=None,
        prompt_embeds=encode("a red apple", "a green pear on a table"),
        negative_prompt_embeds=encode(NEGATIVE, ""),
        width=SIZE[0],
        height=SIZE[1],
    )
    assert_same_picture(ours(pipe, "ddim", prompt, syntax="weighted"), expected)
