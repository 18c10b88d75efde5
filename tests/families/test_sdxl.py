"""SDXL: a folder of diffusers becomes a package that draws what StableDiffusionXLPipeline draws."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import ldm_runtime
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import ConfigError
from ldm_export.families.sdxl import SDXL
from ldm_runtime.package.manifest import Contract
from ldm_runtime.pipeline import Pipeline
from tests.families.sdxl_oracle import LONG, SIZE, compare, last, levels, opened

if TYPE_CHECKING:
    from tests.tiny_build import TinyBuild

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def package(proven: Callable[[str], Path]) -> Path:
    return proven("sdxl")


@pytest.fixture(scope="module")
def source(tiny_build: "Callable[[str], TinyBuild]") -> Path:
    return tiny_build("sdxl").source


@pytest.fixture(scope="module")
def pipe(package: Path) -> Iterator[Pipeline]:
    with ldm_runtime.load(package) as opened:
        yield opened


@pytest.fixture(scope="module")
def theirs(source: Path) -> Any:
    return opened(source)


def test_its_roles_are_in_the_contract(package: Path, source: Path, pipe: Pipeline) -> None:
    contract: Contract = pipe.contract
    assert [text.component for text in contract.text] == ["text_encoder", "text_encoder_2"]
    assert [text.output for text in contract.text] == ["hidden_states.1", "hidden_states.2"]
    assert [text.tokenizer.file for text in contract.text] == ["tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json"]
    assert contract.text[0].tokenizer.pad_token_id != contract.text[1].tokenizer.pad_token_id == 0
    assert contract.denoiser.extra == {"text_embeds": "pooled_text", "time_ids": "image_sizes"}
    assert contract.latent.scale == 0.13025
    assert contract.defaults.zero_negative
    assert open_checkpoint(source).family is SDXL
    assert open_checkpoint(package).defaults.run.zero_negative


@pytest.mark.parametrize("negative", [None, "", "blue"])
@pytest.mark.parametrize("prompt", ["a photo of a cat", LONG])
def test_the_same_seed_draws_the_same_image(pipe: Pipeline, theirs: Any, prompt: str, negative: str | None) -> None:
    expected = levels(theirs, prompt, negative, guidance_scale=5.0, generator=torch.Generator().manual_seed(7))
    found = pipe(prompt, negative=negative, steps=4, guidance=5.0, size=SIZE, seed=7, noise="torch")[0]
    compare(found, expected)


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_the_same_latents_draw_the_same_image(pipe: Pipeline, theirs: Any, guidance: float) -> None:
    noise = torch.randn((1, 4, 8, 10), generator=torch.Generator().manual_seed(3))
    expected = levels(theirs, "a red apple", None, guidance_scale=guidance, latents=noise.clone())
    compare(pipe("a red apple", steps=4, guidance=guidance, latents=noise.numpy())[0], expected)


def test_no_negative_prompt_is_another_image_than_the_empty_one(pipe: Pipeline) -> None:
    without, empty = (last(pipe, negative=negative) for negative in (None, ""))
    assert np.abs(without - empty).max() > 1e-3
    run = pipe.sample("red apple", steps=2, seed=1)
    assert run.request.metadata(0)["negative conditioning"] == "zeros"
    assert "negative conditioning" not in pipe.sample("red apple", negative="", steps=2).request.metadata(0)


def test_extra_inputs_matter(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative twin: without the pooled text, or with other sizes, the image is another."""
    from ldm_runtime import denoising

    expected = last(pipe)
    real = denoising.extra_inputs
    for name in ("text_embeds", "time_ids"):

        def changed(*arguments: Any, name: str = name) -> dict[str, np.ndarray]:
            made = real(*arguments)
            return {**made, name: made[name] * np.float32(0.5)}

        monkeypatch.setattr(denoising, "extra_inputs", changed)
        assert np.abs(last(pipe) - expected).max() > 1e-3
    monkeypatch.setattr(denoising, "extra_inputs", real)
    np.testing.assert_array_equal(last(pipe), expected)


@pytest.mark.parametrize("negative", [None, "blue"])
def test_optimum_draws_the_same_image(package: Path, theirs: Any, negative: str | None) -> None:
    import warnings

    from optimum.onnxruntime import ORTDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened_by_optimum = ORTDiffusionPipeline.from_pretrained(package)
    assert type(opened_by_optimum).__name__ == "ORTStableDiffusionXLPipeline"
    opened_by_optimum.set_progress_bar_config(disable=True)
    made = [
        levels(each, LONG, negative, generator=torch.Generator().manual_seed(7)) for each in (theirs, opened_by_optimum)
    ]
    assert np.abs(made[0] - made[1]).max() < 0.05


def test_a_batch_equals_its_singles_and_embeds_join_both_encoders(pipe: Pipeline) -> None:
    assert pipe.embed(["red", "blue"]).shape == (2, 77, 24 + 32)
    assert pipe.embed("red BREAK blue", syntax="weighted").shape == (1, 154, 24 + 32)
    *_, both = pipe.sample(["red", "blue cat"], steps=2, seed=3)
    *_, second = pipe.sample("blue cat", steps=2, seed=4)
    np.testing.assert_allclose(both.latents[1], second.latents[0], atol=2e-5)


def change(folder: Path, **values: Any) -> None:
    """Change config.json of the folder."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"cross_attention_dim": 64}, "hidden_size are 24 and 32, together 56"),
        ("unet", {"addition_embed_type": None}, "addition_embed_type = None, .* must be 'text_time'"),
        ("unet", {"projection_class_embeddings_input_dim": 70}, "leaves 22 numbers .* projection_dim is 20"),
        ("unet", {"projection_class_embeddings_input_dim": 48}, "must be more than 6 x 8"),
        ("unet", {"addition_time_embed_dim": 7}, "addition_time_embed_dim = 7.* an even number"),
        ("text_encoder", {"max_position_embeddings": 64}, "are 64 and 77; expected the same"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    source: Path, tmp_path: Path, part: str, values: dict[str, Any], message: str
) -> None:
    import shutil

    shutil.copytree(source, tmp_path / "copy")
    change(tmp_path / "copy" / part, **values)
    with pytest.raises(ConfigError, match=message):
        open_checkpoint(tmp_path / "copy")


def test_the_key_of_zeros_must_be_true_or_false(source: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(source, tmp_path / "copy")
    file = tmp_path / "copy" / "model_index.json"
    index = json.loads(file.read_text())
    for value, expected in ((False, False), (None, None)):
        changed = {key: each for key, each in index.items() if key != "force_zeros_for_empty_prompt"}
        file.write_text(json.dumps(changed | {"force_zeros_for_empty_prompt": value}))
        if expected is None:
            with pytest.raises(ConfigError, match="force_zeros_for_empty_prompt = None; expected true or false"):
                open_checkpoint(tmp_path / "copy")
        else:
            assert open_checkpoint(tmp_path / "copy").defaults.run.zero_negative is expected
