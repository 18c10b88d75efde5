"""Parts of a checkpoint that are taken from elsewhere: what is drawn is what diffusers draws with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.replaced import with_parts
from ldm_export.cli.main import verbs
from ldm_export.errors import CheckpointError
from ldm_export.package.write import _source_hashes
from ldm_runtime.errors import LdmError
from ldm_runtime.pipeline import builtin_package
from tests.oracles import TINY_VAE, build_tiny_sd, tiny_text_encoder, tiny_unet, tiny_vae
from tests.torch_pipeline import torch_pipeline

pytestmark = pytest.mark.slow

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("replaced") / "base")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other parts, each in a folder as diffusers and transformers save one."""
    folder = tmp_path_factory.mktemp("others")
    tiny_vae(seed=11).save_pretrained(folder / "ft-mse")
    tiny_unet(seed=12).save_pretrained(folder / "unet")
    tiny_unet(seed=13, time_cond_proj_dim=32, sample_size=12).save_pretrained(folder / "lcm-unet")
    tiny_text_encoder(seed=14).save_pretrained(folder / "clip")
    return folder


def drawn(checkpoint: Checkpoint, work: Path, **options: Any) -> np.ndarray:
    work.mkdir()
    with torch_pipeline(checkpoint, work) as pipe:
        settings = {"steps": 3, "guidance": 4.0, "size": (32, 24), "seed": 5, "noise": "torch", **options}
        return np.asarray(pipe("red cat!", **settings)[0], float)


def expected(base: Path, **parts: Any) -> np.ndarray:
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(base, **parts)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "guidance_scale": 4.0, "width": 32, "height": 24}
    return np.asarray(theirs("red cat!", generator=torch.Generator().manual_seed(5), **options).images[0], float)


def test_each_part_may_come_from_a_folder_of_its_own_a_pipelines_or_a_file(
    base: Path, others: Path, tmp_path: Path
) -> None:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(others / "unet", pipeline / "unet")
    checkpoint = with_parts(
        open_checkpoint(base),
        {"vae": others / "ft-mse" / WEIGHTS, "unet": pipeline, "text_encoder": others / "clip"},
    )
    theirs = expected(
        base,
        vae=diffusers.AutoencoderKL.from_pretrained(others / "ft-mse"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(others / "unet"),
        text_encoder=tiny_text_encoder(seed=14),
    )
    ours = drawn(checkpoint, tmp_path / "work")
    assert np.abs(ours - theirs).max() <= 2 and np.abs(ours - theirs).mean() <= 0.1
    assert np.abs(drawn(open_checkpoint(base), tmp_path / "other") - theirs).max() > 20
    assert set(_source_hashes(checkpoint)) == {
        f"vae: ft-mse/{WEIGHTS}",
        f"unet: pipeline/unet/{WEIGHTS}",
        "text_encoder: clip/model.safetensors",
    }


def test_a_distilled_unet_brings_its_own_inputs_and_size(base: Path, others: Path) -> None:
    checkpoint = with_parts(open_checkpoint(base), {"unet": others / "lcm-unet"})
    assert [tensor.name for tensor in checkpoint.specs["unet"].inputs][-1] == "timestep_cond"
    assert checkpoint.defaults.image.width == 24 != open_checkpoint(base).defaults.image.width
    assert (checkpoint.defaults.run.steps, checkpoint.defaults.run.guidance) == (4, 8.5)  # it reads the scale
    checkpoint.check()


def test_an_autoencoder_of_another_scale_changes_the_size_of_an_image(base: Path, tmp_path: Path) -> None:
    own = open_checkpoint(base)
    deeper = build_tiny_sd(tmp_path / "deeper", vae=TINY_VAE["sd21"])
    image = with_parts(own, {"vae": deeper}).defaults.image
    assert (image.width, image.height) == (2 * own.defaults.image.width, 2 * own.defaults.image.height)


def test_what_of_a_part_is_not_used_is_said_and_a_named_link_is_followed(base: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(base / "unet", tmp_path / "real"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "decay": 0.9999}))
    save_file({**load_file(other / WEIGHTS), "unet_ema_decay": torch.ones(1)}, other / WEIGHTS)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "mine.safetensors"
    link.symlink_to(other / WEIGHTS)
    for source, has_config in ((other, True), (link, False)):
        notes = with_parts(open_checkpoint(base), {"unet": source}).notes
        assert any("decay, which diffusers ignores" in note for note in notes) == has_config
        assert any("unet_ema_decay" in note for note in notes)


def test_a_part_of_a_package_may_be_replaced_too(others: Path) -> None:
    own = open_checkpoint(builtin_package(), check="size")
    checkpoint = with_parts(own, {"vae": others / "ft-mse"})
    checkpoint.check()
    assert checkpoint.defaults == own.defaults
    assert checkpoint.family.latent(checkpoint.configs).scale == 0.18215 != own.family.latent(own.configs).scale


def without(folder: Path, name: str) -> Path:
    tensors = load_file(folder / WEIGHTS)
    del tensors[name]
    save_file(tensors, folder / WEIGHTS)
    return folder


REFUSED: dict[str, tuple[str, Callable[[Path, Path, Path], Path], str]] = {
    "missing": ("vae", lambda base, others, work: work / "none", "none does not exist; expected the folder or the fi"),
    "no folder of a part": ("vae", lambda base, others, work: others, "it has neither config.json nor vae/config.json"),
    "package": ("vae", lambda base, others, work: builtin_package(), "is a package; expected the folder of a vae"),
    "another part": ("vae", lambda base, others, work: others / "unet", "has _class_name 'UNet2DConditionModel'; supp"),
    "no such part": ("text_encoder_2", lambda base, others, work: others / "clip", "has no text_encoder_2 that"),
    "of another size": (
        "text_encoder",
        lambda base, others, work: saved(tiny_text_encoder("sd21"), work / "big"),
        "big in .*base: the UNet's cross_attention_dim is 24, but the text encoder's hidden_size is 32",
    ),
    "file of another part": (
        "unet",
        lambda base, others, work: others / "ft-mse" / WEIGHTS,
        "holds no unet but a vae; give it by --vae",
    ),
    "a weight is lacking": (
        "vae",
        lambda base, others, work: without(
            Path(shutil.copytree(others / "ft-mse", work / "less")), "decoder.conv_in.bias"
        ),
        r"the weights of vae in .*less/.* do not fit its config: 1 missing \(decoder.conv_in.bias\)",
    ),
    "pickle": ("unet", lambda base, others, work: written(work / "unet.pt"), "unet.pt is no archive of torch's"),
    "truncated": (
        "vae",
        lambda base, others, work: written(work / "vae.safetensors", b"\0\1"),
        r"vae.safetensors .*",
    ),
}  # fmt: skip


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def written(file: Path, content: bytes = b"\x80\x04") -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(name: str, base: Path, others: Path, tmp_path: Path) -> None:
    part, make, message = REFUSED[name]
    with pytest.raises(LdmError, match=message) as caught:
        with_parts(open_checkpoint(base), {part: make(base, others, tmp_path)}).check()
    assert "\n" not in str(caught.value)


def test_a_part_that_changes_is_noticed(base: Path, others: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(others / "ft-mse", tmp_path / "vae"))
    checkpoint = with_parts(open_checkpoint(base), {"vae": folder})
    (folder / WEIGHTS).touch()
    with pytest.raises(CheckpointError, match="has changed since the checkpoint was opened"):
        checkpoint.require_unchanged()


def test_output_and_part_lie_apart(base: Path, others: Path, tmp_path: Path) -> None:
    vae = Path(shutil.copytree(others / "ft-mse", tmp_path / "vae"))
    for out in (vae, vae / "package", tmp_path):
        result = CliRunner().invoke(verbs, ["build", str(base), "--vae", str(vae), "--out", str(out), "--force"])
        assert result.exit_code == 1 and "lie in one another; choose another output" in result.stderr
    assert json.loads((vae / "config.json").read_text())["_class_name"] == "AutoencoderKL"
