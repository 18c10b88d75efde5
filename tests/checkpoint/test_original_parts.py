"""Parts in the original layouts: they replace those of a checkpoint, or are what a single file lacks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.cli.main import verbs
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.package.describe import describe
from ldm_runtime.errors import LdmError
from tests.checkpoint.original_files import KINDS, models, original, write_files
from tests.once import make_once
from tests.oracles import tiny_vae

pytestmark = pytest.mark.slow

UNET, VAE, OPEN_CLIP = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind in one file, and its parts' folders beside it; read only."""
    return make_once(tmp_path_factory, "single-files", write_files)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind with other weights, in float32; read only."""

    def make(folder: Path) -> dict[str, Path]:
        for kind in KINDS:
            save_file(original(kind, models(kind, seed=50)), folder / f"{kind}.safetensors")
        return {kind: folder / f"{kind}.safetensors" for kind in KINDS}

    return make_once(tmp_path_factory, "other-single-files", make)


def part_file(whole: Path, out: Path, prefix: str, *, bare: bool = True) -> Path:
    """The keys of one part of a checkpoint alone, without their prefix or with it."""
    tensors = {key: value for key, value in load_file(whole).items() if key.startswith(prefix)}
    tensors = {key.removeprefix(prefix) if bare else key: value for key, value in tensors.items()}
    torch.save({"state_dict": tensors}, out) if out.suffix == ".ckpt" else save_file(tensors, out)
    return out


@pytest.mark.parametrize(
    ("kind", "part", "name"),
    [
        ("sd1", "vae", "vae.safetensors"),
        ("sd1", "vae", "vae.ckpt"),
        ("sd1", "unet", "prefixed.safetensors"),
        ("sd2", "text_encoder", "open_clip.safetensors"),
        ("sdxl", "unet", "unet.safetensors"),
        ("sdxl", "vae", "whole.safetensors"),
    ],
)
def test_a_part_in_the_original_layout_is_what_diffusers_reads(
    files: dict[str, Path], others: dict[str, Path], tmp_path: Path, kind: str, part: str, name: str
) -> None:
    prefix = {"vae": VAE, "unet": UNET, "text_encoder": OPEN_CLIP}[part]
    file = others[kind] if name.startswith("whole") else tmp_path / name
    if file != others[kind]:
        part_file(others[kind], file, prefix, bare=not name.startswith("prefixed"))
    base = open_checkpoint(files[kind], prediction="v_prediction")
    checkpoint = open_checkpoint(files[kind], prediction="v_prediction", parts={part: file})
    checkpoint.check()
    checkpoint.require_finite()
    assert checkpoint.configs == base.configs and checkpoint.defaults == base.defaults
    assert checkpoint.weight_files[part] == (file,)
    state = checkpoint.load(part).state_dict()
    if part == "text_encoder":
        wanted = models(kind, seed=50)[part].state_dict()
    else:
        readable = others[kind] if name == "unet.safetensors" else file  # diffusers wants the prefix of a UNet
        oracle = {"vae": diffusers.AutoencoderKL, "unet": diffusers.UNet2DConditionModel}[part]
        config = str(files[kind].parent / kind / part)
        wanted = oracle.from_single_file(str(readable), config=config, local_files_only=True).state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    own = base.load(part).state_dict()
    assert not any(torch.equal(own[key], wanted[key]) for key in wanted)


def test_what_no_shape_tells_is_that_of_the_part_that_is_replaced(files: dict[str, Path], tmp_path: Path) -> None:
    """Heads, scale and size are the base's; the channels of an inpainting UNet are its own."""
    wide = load_file(part_file(files["sd2"], tmp_path / "unet.safetensors", UNET))
    wide["input_blocks.0.0.weight"] = torch.ones(32, 9, 3, 3)
    save_file(wide, tmp_path / "unet.safetensors")
    vae = part_file(files["sdxl"], tmp_path / "vae.safetensors", VAE)
    parts = {"unet": tmp_path / "unet.safetensors", "vae": vae}
    configs = open_checkpoint(files["sd2"], prediction="epsilon", parts=parts).configs
    assert configs["unet"].in_channels == 9 and configs["unet"].sample_size == 64
    assert configs["vae"].scaling_factor == 0.18215
    assert open_checkpoint(files["sdxl"], parts={"vae": vae}).configs["vae"].scaling_factor == 0.13025


def test_what_of_a_part_is_not_used_is_said(files: dict[str, Path], tmp_path: Path) -> None:
    file = part_file(files["sd1"], tmp_path / "vae.safetensors", VAE)
    save_file({**load_file(file), "loss.logvar": torch.zeros(1), "model_ema.decay": torch.ones(1)}, file)
    (note,) = open_checkpoint(files["sd1"], parts={"vae": file}).notes
    assert "loss.logvar" in note and "model_ema.decay" in note


def test_a_file_without_its_autoencoder_opens_beside_one(files: dict[str, Path], tmp_path: Path) -> None:
    lacking = tmp_path / "lacking.safetensors"
    save_file({key: value for key, value in load_file(files["sdxl"]).items() if not key.startswith(VAE)}, lacking)
    with pytest.raises(CheckpointError, match="without its vae .* give one with --vae, or fetch the whole checkpoint"):
        open_checkpoint(lacking)
    whole, vae = open_checkpoint(files["sdxl"]), part_file(files["sdxl"], tmp_path / "vae.safetensors", VAE)
    for source in (vae, files["sdxl"], files["sdxl"].parent / "sdxl" / "vae"):
        checkpoint = open_checkpoint(lacking, parts={"vae": source})
        checkpoint.check()
        assert checkpoint.configs["unet"] == whole.configs["unet"]
        assert checkpoint.configs["vae"].scaling_factor == whole.configs["vae"].scaling_factor
        assert checkpoint.defaults.image == whole.defaults.image and set(checkpoint.replaced) == {"vae"}
        state, wanted = checkpoint.load("vae").state_dict(), whole.load("vae").state_dict()
        assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    bare = files["sdxl"].parent / "sdxl" / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(
        CheckpointError, match="weights without a config.json, and .* give the folder of a vae, or a file"
    ):
        open_checkpoint(lacking, parts={"vae": bare})
    facts = describe(lacking)
    assert set(facts["components"]) == set(whole.family.parts) - {"vae"} and facts["family"] == whole.family.name


def test_inspect_says_what_a_part_alone_is(files: dict[str, Path], tmp_path: Path) -> None:
    for kind, family in (("sd2", "stable-diffusion"), ("sdxl", "sdxl")):
        file = part_file(files[kind], tmp_path / f"{kind}.safetensors", UNET)
        facts = describe(file)
        assert facts["kind"] == "parts of a checkpoint" and facts["family"] == family
        config = open_checkpoint(files[kind], prediction="epsilon").configs["unet"].to_dict()
        told = facts["components"]["unet"]["config"]
        assert told["block_out_channels"] == [32, 64, 96, 96][: len(told["block_out_channels"])]
        assert told["cross_attention_dim"] == config["cross_attention_dim"] and "attention_head_dim" not in told
        assert facts["components"]["unet"]["parameters"] == sum(value.numel() for value in load_file(file).values())
    vae = part_file(files["sd1"], tmp_path / "vae.safetensors", VAE)
    facts = describe(vae)
    assert (
        facts["family"] == "sdxl or stable-diffusion" and "scaling_factor" not in facts["components"]["vae"]["config"]
    )
    result = CliRunner().invoke(verbs, ["inspect", str(vae)])
    assert result.exit_code == 0 and "give it by --vae beside a whole one" in result.output
    with pytest.raises(CheckpointError, match="holds vae without the rest of a checkpoint; give it by --vae beside"):
        open_checkpoint(vae)


# --- what is refused --------------------------------------------------------------------------------


def put(**shapes: tuple[int, ...]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, **{key: torch.zeros(shape) for key, shape in shapes.items()}}


def without(start: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if not key.startswith(start)}


def doubled(tensors: Tensors) -> Tensors:
    return {**tensors, **{VAE + key: value.clone() for key, value in tensors.items()}}


def in_two_layouts(tensors: Tensors) -> Tensors:
    return {**{VAE + key: value for key, value in tensors.items()}, **tiny_vae().state_dict()}


VAE_FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a tensor is lacking": (without("decoder.norm_out.bias"), r"1 missing \(decoder\.norm_out\.bias\)"),
    "a half is lacking": (without("encoder."), "the autoencoder has no encoder.conv_in.weight of a known shape"),
    "one more": (put(**{"decoder.extra.weight": (4,)}), r"1 unexpected \(decoder\.extra\.weight\)"),
    "another shape": (put(**{"decoder.mid.attn_1.q.weight": (96, 96, 3, 3)}), r"1 of another shape"),
    "a scalar": (put(**{"encoder.conv_in.weight": ()}), "no encoder.conv_in.weight of a known shape"),
    "an absurd width": (put(**{"encoder.down.3.block.0.conv1.weight": (2**15, 1, 1, 1)}), "from 1 to 16384"),
    "of diffusers too": (put(**{"decoder.up_blocks.0.resnets.0.conv1.weight": (4,)}), r"1 unexpected \(decoder\.up_"),
    "with and without prefix": (doubled, r"begins with 'first_stage_model\.', but the file has \d+ of its keys"),
    "in two layouts": (in_two_layouts, r"but the file has \d+ of its keys under other names"),
    "a UNet's": (lambda _: {"input_blocks.0.0.weight": torch.ones(1)}, "holds no vae but a unet; give it by --unet"),
    "a LoRA": (lambda _: {"lora_unet_x.lora_down.weight": torch.ones(1)}, "is a LoRA, which changes a model"),
    "integers": (
        lambda tensors: {**tensors, "decoder.conv_in.bias": torch.ones(96, dtype=torch.uint8)},
        "as U8, which is not supported: weights must be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", VAE_FAULTS)
def test_files_that_are_no_whole_autoencoder_are_refused_in_one_sentence(
    files: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    change, message = VAE_FAULTS[fault]
    file = part_file(files["sd1"], tmp_path / "vae.safetensors", VAE)
    save_file(change(load_file(file)), file)
    with pytest.raises(LdmError, match=message) as caught:
        open_checkpoint(files["sd1"], parts={"vae": file}).check()
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_truncated_files_and_quantised_ones_are_refused_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    content = part_file(files["sd1"], tmp_path / "vae.safetensors", VAE).read_bytes()
    half = save({"1.weight": torch.ones(64, 4, 3, 3), "3.conv.0.weight": torch.ones(64, 64, 3, 3)})
    for name, data, message in (
        ("cut.safetensors", content[:-100], "is truncated"),
        ("head.safetensors", content[:7], "too few for a safetensors file"),
        ("halves.safetensors", half, "is one half of a tiny autoencoder; give the folder that has both"),
        ("vae.gguf", b"GGUF\3\0\0\0", "is a GGUF file"),
        ("vae.txt", b"hello", "is a file; expected"),
        ("vae.ckpt", content, "is no archive of torch's"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=message) as caught:
            open_checkpoint(files["sd1"], parts={"vae": tmp_path / name})
        assert "\n" not in str(caught.value)


def test_a_unet_of_absurdly_many_blocks_is_refused_before_they_are_looked_at(
    files: dict[str, Path], tmp_path: Path
) -> None:
    blocks = {f"input_blocks.{index}.0.out_layers.3.weight": torch.ones(1) for index in range(600)}
    save_file(blocks, tmp_path / "unet.safetensors")
    with pytest.raises(CheckpointError, match="the UNet has 600 input blocks; expected at most 512"):
        open_checkpoint(files["sd1"], parts={"unet": tmp_path / "unet.safetensors"})


def test_parts_of_another_family_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="the unet in .*sdxl.safetensors has addition_embed_type = 'text_time', which"
    ):
        open_checkpoint(files["sd1"], parts={"unet": files["sdxl"]})
    with pytest.raises(
        CheckpointError, match=r"is not of a known kind: \d+ missing \(label_emb|model.diffusion_model.label_e"
    ):
        open_checkpoint(files["sdxl"], parts={"unet": files["sd2"]})
    both = tmp_path / "both.safetensors"
    save_file({**load_file(files["sd1"]), **load_file(files["sd2"])}, both)
    with pytest.raises(
        CheckpointError, match="has keys of Stable Diffusion 1.x and Stable Diffusion 2.x; expected those"
    ):
        open_checkpoint(both)


def test_a_unet_that_predicts_something_else_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    file = part_file(files["sd1"], tmp_path / "unet.safetensors", UNET)
    save_file({**load_file(file), "v_pred": torch.empty(0)}, file)
    with pytest.raises(
        ConfigError, match="predicts v_prediction, but .* is sampled as one that predicts epsilon; take an"
    ):
        open_checkpoint(files["sd1"], parts={"unet": file})
    checkpoint: Any = open_checkpoint(files["sd1"], prediction="v_prediction", parts={"unet": file})
    assert checkpoint.schedule.prediction_type == "v_prediction"
