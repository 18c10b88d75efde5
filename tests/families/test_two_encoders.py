"""A family is one file: a model with two text encoders and extra inputs is built, proven and drawn with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ldm_runtime
from ldm_export.build import build_package
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.families import FAMILIES
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import InputError
from ldm_runtime.noise.torch_cpu import TorchGenerator
from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import Pipeline
from tests import traces
from tests.families.two_encoders import TWO_ENCODERS
from tests.once import make_once, shared_folder
from tests.oracles import TINY_UNET, TINY_VAE, build_tiny_tokenizer, randomise, tiny_text_encoder, tiny_vocabulary

P, WIDTHS = 20, (24, 32)


def diffusers_pipeline(folder: Path) -> Any:
    """A tiny StableDiffusionXLPipeline; the second tokenizer pads with another token, as SDXL's does."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    build_tiny_tokenizer(folder / "tokenizer")
    build_tiny_tokenizer(folder / "tokenizer_2", pad_token="!")
    vocabulary, _ = tiny_vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTHS[1],
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_act="gelu",
        projection_dim=P,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=0,
    )
    unet = diffusers.UNet2DConditionModel(
        **TINY_UNET["sd15"] | {"cross_attention_dim": sum(WIDTHS)},
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=P + 6 * 8,
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=randomise(diffusers.AutoencoderKL(**TINY_VAE["sd15"]), 1),
        text_encoder=tiny_text_encoder("sd15", 2),
        text_encoder_2=randomise(CLIPTextModelWithProjection(config), 3),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=randomise(unet, 0),
        scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, TWO_ENCODERS.name, TWO_ENCODERS)
        traces.remember_in_builds(shared_folder(tmp_path_factory) / "traces", patch)
        yield


@pytest.fixture(scope="module")
def built(known: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `source` and of the `package` built from it; read only."""

    def make(folder: Path) -> Path:
        diffusers_pipeline(folder / "source").save_pretrained(folder / "source")
        report = build_package(folder / "source", folder / "package", recipe=BuildRecipe(name="two"))
        assert report.proofs[0].passed
        return folder

    return make_once(tmp_path_factory, "two-encoders", make)


@pytest.fixture
def source(built: Path) -> Path:
    return built / "source"


@pytest.fixture
def package(built: Path) -> Path:
    return built / "package"


@pytest.mark.slow
def test_it_is_built_and_its_roles_are_in_the_contract(package: Path, source: Path) -> None:
    contract = read_manifest(package).contract
    assert [text.component for text in contract.text] == ["text_encoder", "text_encoder_2"]
    assert [text.tokenizer.file for text in contract.text] == ["tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json"]
    assert contract.text[0].tokenizer.pad_token_id != contract.text[1].tokenizer.pad_token_id == 0
    assert contract.context.dims[2] == sum(WIDTHS)
    assert contract.denoiser.extra == {"text_embeds": "pooled_text", "time_ids": "image_sizes"}
    assert open_checkpoint(source).family is TWO_ENCODERS


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_it_draws_what_diffusers_draws(package: Path, source: Path, guidance: float) -> None:
    import diffusers

    theirs = diffusers.StableDiffusionXLPipeline.from_pretrained(source, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    noise = TorchGenerator(5).normal((1, 4, 12, 16))
    expected = theirs(
        "a red apple, 3d style",
        negative_prompt="blue",
        num_inference_steps=4,
        guidance_scale=guidance,
        width=32,
        height=24,
        latents=torch.from_numpy(noise),
        output_type="np",
    ).images[0]
    with ldm_runtime.load(package) as pipe:
        *_, step = pipe.sample(
            "a red apple, 3d style", negative="blue", steps=4, guidance=guidance, size=(32, 24), latents=noise
        )
        found = np.clip(step.decode()[0] / 2 + 0.5, 0, 1).transpose(1, 2, 0)
    assert np.abs(found - expected).max() < 1e-3
    assert expected.std() > 0.05


@pytest.mark.slow
def test_extra_inputs_matter(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative twin: without the pooled text, or with other sizes, the image is another."""
    from ldm_runtime import denoising

    options: dict[str, Any] = {"steps": 2, "seed": 1, "size": (32, 24)}
    with ldm_runtime.load(package) as pipe:
        expected = last(pipe, options)
        real = denoising.extra_inputs
        for name in ("text_embeds", "time_ids"):

            def changed(*arguments: Any, name: str = name) -> dict[str, np.ndarray]:
                made = real(*arguments)
                return {**made, name: made[name] * np.float32(0.5)}

            monkeypatch.setattr(denoising, "extra_inputs", changed)
            assert np.abs(last(pipe, options) - expected).max() > 1e-3
        monkeypatch.setattr(denoising, "extra_inputs", real)
        np.testing.assert_array_equal(last(pipe, options), expected)


def last(pipe: Pipeline, options: dict[str, Any]) -> np.ndarray:
    *_, step = pipe.sample("red apple", **options)
    return step.latents


@pytest.mark.slow
def test_a_batch_equals_its_singles_and_embeds_join_both_encoders(package: Path) -> None:
    with ldm_runtime.load(package) as pipe:
        assert pipe.embed(["red", "blue"]).shape == (2, 77, sum(WIDTHS))
        assert pipe.embed("red BREAK blue", syntax="weighted").shape == (1, 154, sum(WIDTHS))
        *_, both = pipe.sample(["red", "blue cat"], steps=2, seed=3)
        *_, second = pipe.sample("blue cat", steps=2, seed=4)
        np.testing.assert_allclose(both.latents[1], second.latents[0], atol=2e-5)
        with pytest.raises(InputError, match="reads a pooled embedding too, which prompt_embeds does not hold"):
            pipe.sample(prompt_embeds=pipe.embed("red"))
