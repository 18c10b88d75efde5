"""What is no whole checkpoint of a known model is refused, with what is wrong and where."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION
from ldm_runtime.errors import InputError
from tests.checkpoint.changed import FILES, PARTS, UNET, VAE, edit_json, edit_tensors
from tests.oracles import build_tiny_sd

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_all_keys_that_do_not_fit_are_one_error(copy: Path) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["conv_in.bias"], tensors["conv_out.weight"]
        tensors["lora.up"] = torch.zeros(2)
        tensors["conv_out.bias"] = torch.zeros(5)

    edit_tensors(copy / UNET, damage)
    checkpoint = open_checkpoint(copy)
    message = (
        r"2 missing \(conv_in\.bias, conv_out\.weight\); 1 unexpected \(lora\.up\); "
        r"1 of another shape \(conv_out\.bias is \[5\], expected \[4\]\)"
    )
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load("unet")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.check()
    checkpoint.load("vae")


@pytest.mark.parametrize("component", PARTS)
def test_one_missing_tensor_is_an_error(copy: Path, component: str) -> None:
    edit_tensors(copy / FILES[component], lambda tensors: tensors.pop(sorted(tensors)[-1]))
    with pytest.raises(CheckpointError, match="1 missing"):
        open_checkpoint(copy).load(component)


def test_long_lists_are_cut(copy: Path) -> None:
    edit_tensors(copy / UNET, lambda tensors: tensors.update({f"extra.{i}": torch.zeros(1) for i in range(20)}))
    with pytest.raises(CheckpointError, match=r"20 unexpected \(.*, and 12 more\)"):
        open_checkpoint(copy).load("unet")


def test_config_of_another_size_is_an_error(copy: Path) -> None:
    edit_json(copy / "unet/config.json", lambda config: config.update(layers_per_block=2))
    with pytest.raises(CheckpointError, match="missing"):
        open_checkpoint(copy).load("unet")


@pytest.mark.parametrize("file", FILES.values())
def test_git_lfs_stub_is_refused(copy: Path, file: str) -> None:
    (copy / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167540\n")
    with pytest.raises(CheckpointError, match="Git-LFS stub.*git lfs pull"):
        open_checkpoint(copy)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_weights_are_refused(copy: Path, size: int) -> None:
    content = (copy / UNET).read_bytes()
    (copy / UNET).write_bytes(content[:size])
    with pytest.raises(CheckpointError, match=f"{UNET}.*(truncated|too few)"):
        open_checkpoint(copy)


def test_weights_that_are_no_safetensors_are_refused(copy: Path) -> None:
    (copy / UNET).write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        open_checkpoint(copy)


def test_pickles_with_a_name_of_their_own_are_not_opened(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet/model.ckpt")
    with pytest.raises(CheckpointError, match=r"no weights with a name of diffusers' \(\S+\); it has model\.ckpt"):
        open_checkpoint(copy)


def test_quantised_weights_are_refused(copy: Path) -> None:
    edit_tensors(copy / UNET, lambda tensors: tensors.update({"conv_in.bias": torch.zeros(16, dtype=torch.int32)}))
    with pytest.raises(CheckpointError, match=r"'conv_in\.bias' as I32, which is not supported"):
        open_checkpoint(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["weight_map"].popitem(), "not in the index"),
        (
            lambda index: index["weight_map"].update(extra=next(iter(index["weight_map"].values()))),
            "1 missing",
        ),
        (
            lambda index: index["weight_map"].update(extra="../evil.safetensors"),
            "expected a .safetensors file",
        ),
        (
            lambda index: index["weight_map"].update(extra="weights.bin"),
            "expected a .safetensors file beside it",
        ),
        (
            lambda index: index["weight_map"].update(extra="none.safetensors"),
            r"none\.safetensors is missing",
        ),
        (lambda index: index.pop("weight_map"), "no weight_map"),
        (lambda index: index.update(weight_map={}), "no weight_map"),
    ],
)
def test_index_that_does_not_fit_its_shards_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = build_tiny_sd(tmp_path, max_shard_size="300KB")
    open_checkpoint(folder)
    edit_json(folder / "unet/diffusion_pytorch_model.safetensors.index.json", change)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model_index.json", "not a model's folder"),
        ("unet/config.json", r"unet/config\.json is missing"),
        ("scheduler/scheduler_config.json", r"scheduler_config\.json is missing"),
        (VAE, r"vae has no weights; expected diffusion_pytorch_model.safetensors"),
    ],
)
def test_missing_file_is_named(copy: Path, name: str, message: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(copy)


def test_missing_folders_are_named(copy: Path) -> None:
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(CheckpointError, match="no tokenizer; expected tokenizer.json or vocab.json"):
        open_checkpoint(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": NaN}', '{"a": 1, "a": 2}', "\ufeff{}"])
def test_broken_json_is_refused(copy: Path, text: str) -> None:
    (copy / "model_index.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        CheckpointError,
        match=r"model_index\.json (is (not valid|not acceptable|not a) JSON|begins with a byte order mark)",
    ):
        open_checkpoint(copy)


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", None, 5, ["one"], ["a", "b", "c"]])
def test_other_pipelines_are_refused_by_name(copy: Path, name: object) -> None:
    edit_json(copy / "model_index.json", lambda index: index.update(_class_name=name))
    if isinstance(name, str):  # the others are no class at all, whatever the components
        edit_json(copy / "model_index.json", lambda index: index.update(unet=[None, None]))
    said = f"'{name}'" if isinstance(name, str) else "None"
    with pytest.raises(ConfigError, match=f"is for a {said}; supported are 'StableDiffusionPipeline'"):
        open_checkpoint(copy)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("StableDiffusionImg2ImgPipeline", {}),
        ("StableDiffusionPipelineSafe", {"safety_checker": ["stable_diffusion", "SafeStableDiffusionSafetyChecker"]}),
        ("StableDiffusionControlNetPipeline", {"controlnet": ["diffusers", "ControlNetModel"]}),
        (["pipeline_custom", "StableDiffusionPipeline"], {}),
        (["my_code", "MyPipeline"], {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]}),
    ],
)
def test_a_pipeline_of_the_same_components_opens_as_the_familys_own(
    copy: Path, tiny: Path, name: Any, beside: dict[str, Any]
) -> None:
    plain = open_checkpoint(tiny)
    edit_json(copy / "model_index.json", lambda index: index.update(_class_name=name, **beside))
    opened = open_checkpoint(copy)
    assert (opened.family, opened.schedule, opened.sampler) == (plain.family, plain.schedule, plain.sampler)
    assert opened.dropped == tuple(sorted(beside))
    known = name in STABLE_DIFFUSION.pipelines if isinstance(name, str) else name[1] in STABLE_DIFFUSION.pipelines
    assert len(opened.notes) == (0 if known else 1)
    if not known:
        assert "has the components of stable-diffusion and is built as its text-to-image pipeline" in opened.notes[0]


@pytest.mark.parametrize(
    ("name", "beside", "message"),
    [
        (
            "StableUnCLIPPipeline",
            {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]},
            "'image_encoder'",
        ),
        ("AnimateDiffPipeline", {"motion_adapter": ["diffusers", "MotionAdapter"]}, "'motion_adapter'"),
        ("StableDiffusionDepth2ImgPipeline", {"depth_estimator": ["t", "DPTForDepthEstimation"]}, "DPTForDepth"),
    ],
)
def test_a_component_that_takes_part_in_every_image_is_refused(
    copy: Path, name: str, beside: dict[str, Any], message: str
) -> None:
    edit_json(copy / "model_index.json", lambda index: index.update(_class_name=name, **beside))
    with pytest.raises(ConfigError, match=f"is for a '{name}' with .*{message}.*, which is not supported"):
        open_checkpoint(copy)


@pytest.mark.parametrize(
    "name", ["StableDiffusionPipeline", "ORTStableDiffusionPipeline", "OnnxStableDiffusionPipeline"]
)
def test_a_folder_of_graphs_is_said_to_be_one(copy: Path, name: str) -> None:
    edit_json(copy / "model_index.json", lambda index: index.update(_class_name=name))
    (copy / "vae").rename(copy / "vae_decoder")
    (copy / "vae_decoder" / "model.onnx").write_bytes(b"graph")
    (copy / "unet" / "model.onnx").write_bytes(b"graph")
    with pytest.raises(CheckpointError, match=r"has graphs such as unet/model\.onnx, not the weights of a checkpoint"):
        open_checkpoint(copy)


def test_graphs_beside_the_weights_are_no_matter(copy: Path) -> None:
    (copy / "unet" / "model.onnx").write_bytes(b"graph")
    open_checkpoint(copy).check()


def test_incomplete_pipeline_is_refused(copy: Path) -> None:
    edit_json(copy / "model_index.json", lambda index: index.update(text_encoder=[None, None]))
    with pytest.raises(CheckpointError, match="has no text_encoder"):
        open_checkpoint(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unet": {"in_channels": 8}}, "takes 8 channels and gives 4.*takes 4, or for inpainting 9"),
        ({"unet": {"out_channels": 8}}, "takes 4 channels and gives 8"),
        ({"vae": {"latent_channels": 8}}, "latents have 8"),
        ({"unet": {"cross_attention_dim": 32}}, "cross_attention_dim is 32.*hidden_size is 24"),
        ({"unet": {"num_class_embeds": 3}}, "num_class_embeds = 3, which is not supported"),
        ({"scheduler": {"trained_betas": [0.1, 0.2]}}, "scheduler_config.json.*trained_betas"),
    ],
)
def test_models_that_are_not_supported_are_refused_with_their_path(tmp_path: Path, options: Any, message: str) -> None:
    folder = build_tiny_sd(tmp_path / "model", **options)
    with pytest.raises(ConfigError, match=f"{re.escape(str(folder))}.*{message}"):
        open_checkpoint(folder)


def test_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(tmp_path / "nowhere")
    (tmp_path / "model.h5").write_bytes(b"\x80\x04")
    with pytest.raises(
        CheckpointError, match=r"is a file; expected the folder of a diffusers pipeline, or \.safetensors"
    ):
        open_checkpoint(tmp_path / "model.h5")
    with pytest.raises(CheckpointError, match="is not a model's folder"):
        open_checkpoint(tmp_path)


def test_path_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="path is .*, which cannot be looked up: File name too long"):
        open_checkpoint(tmp_path / ("x" * 300))
