"""Checkpoints are saved as diffusers reads them, or nothing is."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.save import save_checkpoint
from ldm_export.errors import CheckpointError, ConfigError
from ldm_runtime.errors import LdmError
from tests.checkpoint.changed import PARTS, UNET, assert_same_weights
from tests.oracles import build_tiny_sd, seeded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def save_again(tiny: Path, path: Path, **options: Any) -> Checkpoint:
    checkpoint = open_checkpoint(tiny)
    modules: dict[str, Any] = {component: checkpoint.load(component) for component in PARTS}
    save_checkpoint(
        path, modules, schedule=checkpoint.schedule, tokenizer_folder=checkpoint.tokenizers["tokenizer"], **options
    )
    return open_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_diffusers_opens_what_we_save_and_makes_the_same_image(kind: str, tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path / "theirs", kind)
    save_again(folder, tmp_path / "ours")
    pictures = []
    ours = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "ours")
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    for pipeline in (theirs, ours):
        pipeline.set_progress_bar_config(disable=True)
        size = pipeline.unet.config.sample_size
        latents = seeded(1, 4, size, size)
        pictures.append(pipeline("a red apple", num_inference_steps=2, latents=latents, output_type="np").images)
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[0].std() > 0.05


def test_saving_and_opening_gives_the_same_checkpoint(tiny: Path, tmp_path: Path) -> None:
    again = save_again(tiny, tmp_path / "again")
    first = open_checkpoint(tiny)
    assert again.configs == first.configs
    assert again.schedule == first.schedule
    assert_same_weights(again, tiny)


def test_half_precision_is_saved_as_it_is(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    modules: dict[str, Any] = {name: checkpoint.load(name, torch.bfloat16) for name in PARTS}
    save_checkpoint(
        tmp_path / "half", modules, schedule=checkpoint.schedule, tokenizer_folder=checkpoint.tokenizers["tokenizer"]
    )
    saved = load_file(tmp_path / "half" / UNET)
    assert all(torch.equal(saved[name], value.bfloat16()) for name, value in load_file(tiny / UNET).items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_rounded_when_asked(tiny: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    save_again(tiny, tmp_path / "half", dtype=dtype)
    saved = load_file(tmp_path / "half" / UNET)
    assert all(torch.equal(saved[name], value.to(dtype)) for name, value in load_file(tiny / UNET).items())
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "half" / "unet", torch_dtype=dtype)
    assert all(torch.equal(saved[name], value) for name, value in theirs.state_dict().items())


def test_weight_that_would_become_infinite_is_named_and_nothing_saved(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    modules: dict[str, Any] = {component: checkpoint.load(component) for component in PARTS}
    rest: dict[str, Any] = {"schedule": checkpoint.schedule, "tokenizer_folder": checkpoint.tokenizers["tokenizer"]}
    with torch.no_grad():
        modules["unet"].conv_in.bias[1] = -70_000
    with pytest.raises(
        CheckpointError, match=r"save the unet: 'conv_in\.bias' holds -70000, but float16 ends at 65504"
    ):
        save_checkpoint(tmp_path / "model", modules, **rest, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tmp_path / "model", modules, **rest, dtype=torch.bfloat16)
    with torch.no_grad():
        modules["unet"].conv_in.bias[1] = -65_519  # the nearest float16 is -65504
    save_checkpoint(tmp_path / "model", modules, **rest, dtype=torch.float16, force=True)
    assert load_file(tmp_path / "model" / UNET)["conv_in.bias"][1] == -65_504


@pytest.mark.slow
def test_only_a_checkpoint_and_nothing_else_is_replaced(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    save_again(tiny, out)
    with pytest.raises(LdmError, match="exists"):
        save_again(tiny, out)
    (out / "README.md").write_text("of the trainer")
    (out / "SHA256SUMS").write_text("of the trainer")
    save_again(tiny, out, force=True)
    assert not (out / "README.md").exists()
    (out / "unet" / "precious").touch()
    with pytest.raises(LdmError, match="is not replaced: it holds .*unet/precious, which is not part"):
        save_again(tiny, out, force=True)
    assert (out / "unet" / "precious").exists()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("my thesis")
    with pytest.raises(CheckpointError, match="docs is not replaced, for it is not a complete checkpoint"):
        save_again(tiny, tmp_path / "docs", force=True)
    assert (tmp_path / "docs" / "README.md").read_text() == "my thesis"


def test_failed_save_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    modules: dict[str, Any] = {component: checkpoint.load(component) for component in PARTS}
    with pytest.raises(LdmError):
        save_checkpoint(
            tmp_path / "new",
            modules,
            schedule=checkpoint.schedule,
            tokenizer_folder=tmp_path / "no-tokenizer",
        )
    assert list(tmp_path.iterdir()) == []


def test_models_that_do_not_belong_together_are_not_saved(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    other = open_checkpoint(build_tiny_sd(tmp_path / "other", "sd21")).load("unet")
    modules: dict[str, Any] = {component: checkpoint.load(component) for component in PARTS} | {"unet": other}
    with pytest.raises(ConfigError, match="do not belong together"):
        save_checkpoint(
            tmp_path / "new", modules, schedule=checkpoint.schedule, tokenizer_folder=checkpoint.tokenizers["tokenizer"]
        )
    assert not (tmp_path / "new").exists()
