"""Single-file checkpoints in the original layouts open as diffusers opens them, by their keys and shapes alone."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.pickles import MAX_TENSORS
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families import FAMILIES
from ldm_export.families.original.layout import OriginalLayout
from ldm_export.package.describe import describe
from tests.checkpoint.original_files import KINDS, configs_alone, published_keys, write_files
from tests.once import make_once

pytestmark = pytest.mark.slow

PREDICTION: dict[str, Any] = {"sd1": None, "sd2": "v_prediction", "sdxl": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind in float16, and the models' own folders beside them; read only."""
    return make_once(tmp_path_factory, "single-files", write_files)


def opened(files: dict[str, Path], kind: str) -> Any:
    return open_checkpoint(files[kind], prediction=PREDICTION[kind])


def changed(file: Path, out: Path, change: Callable[[dict[str, Tensor]], Any], **metadata: str) -> Path:
    """A copy of the file whose tensors are changed."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, out, {"format": "pt", **metadata})
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_keys_of_the_published_ones(files: dict[str, Path], kind: str) -> None:
    assert load_file(files[kind]).keys() == published_keys(kind)
    assert len(published_keys(kind)) == {"sd1": 1131, "sd2": 1228, "sdxl": 2515}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_that_of_the_models_and_every_config_theirs(files: dict[str, Path], kind: str) -> None:
    checkpoint = opened(files, kind)
    checkpoint.check()
    checkpoint.require_finite()
    for part in checkpoint.family.parts:
        folder = files[kind].parent / kind / part
        wanted = load_file(next(folder.glob("*.safetensors")))
        state = checkpoint.load(part).state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], value.float()) for name, value in wanted.items()), part
        config = checkpoint.family.parts[part].config.from_dict(json.loads((folder / "config.json").read_text()))
        assert checkpoint.configs[part] == config


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_opens_the_file_to_the_same_tensors(files: dict[str, Path], kind: str, tmp_path: Path) -> None:
    checkpoint = opened(files, kind)
    config = str(configs_alone(kind, files[kind].parent / kind, tmp_path / "configs"))
    classes = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}
    for part, each in classes.items():
        oracle = each.from_single_file(str(files[kind]), config=config, subfolder=part, local_files_only=True)
        state, wanted = checkpoint.load(part).state_dict(), oracle.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], value.float()) for name, value in wanted.items()), part
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    texts = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    for part in set(texts) & set(checkpoint.family.parts):
        if kind == "sdxl":
            continue  # diffusers tells the two encoders apart by their width, which is the same in a model this small
        oracle = create_diffusers_clip_model_from_ldm(
            texts[part], load_file(files[kind]), subfolder=part, config=config, local_files_only=True
        )
        state, wanted = checkpoint.load(part).state_dict(), oracle.state_dict()
        assert all(torch.equal(state[name], value.float()) for name, value in wanted.items() if name in state), part
        assert state.keys() <= wanted.keys()


# --- key maps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_of_a_part_is_a_bijection(files: dict[str, Path], kind: str) -> None:
    """No two parameters share a place, and every key of the file is a place or known to be of no use."""
    checkpoint = opened(files, kind)
    layout = layout_of(kind)
    unused = set()
    keys = set(load_file(files[kind]))
    for name, part in layout.parts.items():
        parameters = checkpoint.empty(name).state_dict()
        origins = part.origins(checkpoint.configs[name], parameters)
        assert origins.keys() == parameters.keys()
        places = [(origin.key, origin.third) for origin in origins.values()]
        assert len(set(places)) == len(places)
        thirds = [key for key, third in places if third is not None]
        assert all(thirds.count(key) == 3 for key in thirds)
        unused |= {key for key in keys if key.startswith(part.prefix)} - {part.prefix + key for key, _ in places}
    expected = {
        "sd1": {"cond_stage_model.transformer.text_model.embeddings.position_ids"},
        "sd2": {"cond_stage_model.model.logit_scale", "cond_stage_model.model.text_projection"},
        "sdxl": {
            "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
            "conditioner.embedders.1.model.logit_scale",
        },
    }[kind]
    assert {key for key in unused if ".resblocks.23." not in key} == expected
    assert sum(".resblocks.23." in key for key in unused) == (12 if kind == "sd2" else 0)


def layout_of(kind: str) -> OriginalLayout:
    names = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL"}
    return next(each for family in FAMILIES.values() for each in family.originals if each.name == names[kind])


# --- what files say, lack and have besides ----------------------------------------------------------


def test_inspect_says_what_was_inferred(files: dict[str, Path]) -> None:
    facts = describe(files["sd1"])
    assert (facts["family"], facts["layout"]) == ("stable-diffusion", "Stable Diffusion 1.x")
    unet = facts["components"]["unet"]
    assert unet["config"]["block_out_channels"] == [32, 64, 96, 96] and unet["config"]["cross_attention_dim"] == 64
    assert unet["files"] == ["sd1.safetensors"] and set(unet["weights"]) == {"F16"}
    assert facts["schedule"]["prediction_type"] == "epsilon"
    assert facts["defaults"] == {"sampler": "pndm:skip_prk_steps=true", "steps": 20, "guidance": 7.5}
    assert facts["image"] == {"width": 512, "height": 512} and facts["name"] == "sd1"


def test_the_vocabulary_is_clips(files: dict[str, Path]) -> None:
    from ldm_export.package.write import _tokenizers

    checkpoint = opened(files, "sd2")
    complete = _tokenizers(checkpoint)["tokenizer"]
    facts, words = complete.facts, json.loads(complete.files["vocab.json"])
    # The ids of "a photo of a cat" in CLIP's own documentation.
    assert [words[f"{word}</w>"] for word in ("a", "photo", "of", "cat")] == [320, 1125, 539, 2368]
    assert len(words) == 49408 and (words["!"], words["<|endoftext|>"]) == (0, 49407)
    assert (facts.bos_token_id, facts.eos_token_id, facts.vocab_size, facts.max_length) == (49406, 49407, 49408, 77)
    assert facts.pad_token_id == 0  # "!"
    assert _tokenizers(opened(files, "sd1"))["tokenizer"].facts.pad_token_id == 49407


def test_what_a_model_predicts_comes_from_marker_keys_metadata_or_the_user(
    files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match="does not say which; add --prediction v_prediction .* or --prediction epsilon"
    ):
        open_checkpoint(files["sd2"])
    epsilon = open_checkpoint(files["sd2"], prediction="epsilon")
    assert epsilon.schedule.prediction_type == "epsilon" and epsilon.configs["unet"].sample_size == 64
    velocity = open_checkpoint(files["sd2"], prediction="v_prediction")
    assert velocity.schedule.prediction_type == "v_prediction" and velocity.configs["unet"].sample_size == 96
    said = changed(files["sd2"], tmp_path / "said.safetensors", lambda _: None, **{"modelspec.prediction_type": "v"})
    assert open_checkpoint(said).schedule.prediction_type == "v_prediction"
    with pytest.raises(ConfigError, match="predicts v_prediction, not epsilon; leave --prediction out"):
        open_checkpoint(said, prediction="epsilon")
    odd = changed(files["sd2"], tmp_path / "odd.safetensors", lambda _: None, **{"modelspec.prediction_type": "x0"})
    with pytest.raises(ConfigError, match="modelspec.prediction_type = 'x0'; supported are epsilon"):
        open_checkpoint(odd)


@pytest.mark.parametrize("by_option", [False, True])
def test_a_schedule_that_ends_in_pure_noise_comes_from_a_marker_key_or_the_user(
    files: dict[str, Path], tmp_path: Path, by_option: bool
) -> None:
    def mark(tensors: dict[str, Tensor]) -> None:
        tensors["v_pred"] = torch.empty(0)
        if not by_option:
            tensors["ztsnr"] = torch.empty(0)

    file = changed(files["sd1"], tmp_path / "zero.safetensors", mark)
    schedule = open_checkpoint(file, zero_snr=by_option).schedule
    oracle = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    )
    assert schedule.prediction_type == "v_prediction"
    assert schedule.alphas_cumprod() == pytest.approx(oracle.alphas_cumprod.numpy(), rel=1e-4, abs=1e-9)
    assert schedule.timestep_spacing == "trailing"


def test_buffers_are_nothing_and_averaged_weights_and_strangers_are_left_out_and_said(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        for name in ("betas", "alphas_cumprod_prev", "sqrt_recipm1_alphas_cumprod", "posterior_mean_coef1"):
            tensors[name] = torch.zeros(1000)
        for key in [key for key in tensors if key.startswith("model.diffusion_model.")]:
            tensors[f"model_ema.{key.removeprefix('model.').replace('.', '')}"] = tensors[key] + 1
        tensors["model_ema.decay"] = torch.tensor(0.9)
        tensors["embedding_manager.embedder.weight"] = torch.zeros(3)

    checkpoint = open_checkpoint(changed(files["sd1"], tmp_path / "ema.safetensors", add))
    ema, strangers = checkpoint.notes
    assert "687 averaged weights (model_ema.…)" in ema
    assert "1 tensors of" in strangers and "embedding_manager.embedder.weight" in strangers
    plain, state = opened(files, "sd1").load("unet").state_dict(), checkpoint.load("unet").state_dict()
    assert all(torch.equal(state[name], plain[name]) for name in plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_precisions_are_kept(files: dict[str, Path], tmp_path: Path, dtype: torch.dtype) -> None:
    def convert(tensors: dict[str, Tensor]) -> None:
        tensors.update({key: value.to(dtype) for key, value in tensors.items() if value.is_floating_point()})

    file = changed(files["sd1"], tmp_path / "x.safetensors", convert)
    tensors = load_file(file)
    checkpoint = open_checkpoint(file)
    checkpoint.require_finite()
    weight = tensors["model.diffusion_model.input_blocks.0.0.weight"]
    assert weight.dtype == dtype and weight.float().unique().numel() > 30
    loaded = checkpoint.load("unet", None).state_dict()["conv_in.weight"]
    assert loaded.dtype == (torch.float16 if dtype.itemsize == 1 else dtype)  # half precision has all of their values
    assert torch.equal(loaded.float(), weight.float())
    for part in checkpoint.family.parts:  # exactly, in float32
        state = checkpoint.load(part).state_dict()
        origins = layout_of("sd1").parts[part].origins(checkpoint.configs[part], state)
        prefix = layout_of("sd1").parts[part].prefix
        stored = {name: tensors[prefix + origin.key].float() for name, origin in origins.items()}
        assert all(torch.equal(state[name], stored[name].reshape(state[name].shape)) for name in state)


def test_text_keys_without_text_model_and_inpainting_unets_open(files: dict[str, Path], tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if ".transformer.text_model." in key]:
            tensors[key.replace(".text_model.", ".")] = tensors.pop(key)
        key = "model.diffusion_model.input_blocks.0.0.weight"
        tensors[key] = torch.cat([tensors[key], torch.ones(32, 5, 3, 3).half()], 1)

    checkpoint = open_checkpoint(changed(files["sd1"], tmp_path / "x.safetensors", change))
    checkpoint.check()
    assert checkpoint.configs["unet"].in_channels == 9
    assert checkpoint.family.pipeline_of(checkpoint.configs) == "StableDiffusionInpaintPipeline"


@pytest.mark.slow
def test_a_ckpt_opens_like_the_safetensors(files: dict[str, Path], tmp_path: Path) -> None:
    torch.save({"state_dict": load_file(files["sd1"]), "global_step": 1, "epoch": 2}, tmp_path / "model.ckpt")
    checkpoint, wanted = open_checkpoint(tmp_path / "model.ckpt"), opened(files, "sd1")
    assert any("is read as tensors alone" in note for note in checkpoint.notes)
    for part in checkpoint.family.parts:
        state, other = checkpoint.load(part).state_dict(), wanted.load(part).state_dict()
        assert all(torch.equal(state[name], other[name]) for name in other)
    assert checkpoint.defaults.name == "model"


# --- what is refused --------------------------------------------------------------------------------


def drop(prefix: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if key.startswith(prefix)]:
            del tensors[key]

    return change


def keep(prefix: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if not key.startswith(prefix)]:
            del tensors[key]

    return change


def put(key: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({key: torch.zeros(shape)})


def as_integers(key: str, dtype: torch.dtype) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({key: tensors[key].to(dtype)})


U = "model.diffusion_model."
TEXT = "cond_stage_model.transformer.text_model."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("first_stage_model."),
            "Stable Diffusion 1.x without its vae .*; give one with --vae, or fetch the whole checkpoint",
        ),
        (drop("model.diffusion_model."), "Stable Diffusion 1.x without its unet"),
        (
            keep("model.diffusion_model."),
            "holds unet without the rest of a checkpoint; give it by --unet beside a whole one",
        ),
        (keep("first_stage_model."), "holds vae without the rest of a checkpoint; give it by --vae beside a whole one"),
        (put("cond_stage_model.model.ln_final.weight", 4), "has keys of Stable Diffusion 1.x and Stable Diffusion 2.x"),
        (
            put(f"{U}label_emb.0.0.weight", 128, 1600),
            "addition_embed_type = 'text_time', which is not supported|missing",
        ),
        (
            put(f"{U}input_blocks.1.0.in_layers.7.weight", 4),
            r"1 unexpected \(model\.diffusion_model\.input_blocks\.1\.0",
        ),
        (drop(f"{U}out.0.bias"), r"1 missing \(model\.diffusion_model\.out\.0\.bias\)"),
        (drop(f"{U}out.2.weight"), r"no out\.2\.weight of a known shape"),
        (put(f"{U}input_blocks.0.0.weight"), r"no input_blocks\.0\.0\.weight of a known shape"),
        (put(f"{U}input_blocks.1.0.out_layers.3.weight", 33, 32, 3, 3), r"blocks of widths \[33, 32\]"),
        (
            put(f"{TEXT}embeddings.token_embedding.weight", 5),
            "no text_model.embeddings.token_embedding.weight of two axes",
        ),
        (put(f"{U}time_embed.0.weight", 5, 5), r"1 of another shape \(time_embedding\.linear_1\.weight is \[5, 5\]"),
        (put("first_stage_model.encoder.mid.attn_1.q.weight", 96, 96, 3, 3), "of another shape"),
        (put("control_model.input_blocks.0.0.weight", 3), "is a ControlNet"),
        (put("edm_mean", 4), "is a model of EDM's schedule"),
        (put("lora_unet_down_blocks_0.lora_down.weight", 4), "is a LoRA"),
        (put(f"{U}input_blocks.1.1.scale_weight"), "scaled weights of 8 bits"),
        (as_integers(f"{U}input_blocks.0.0.weight", torch.uint8), "as U8, which is not supported: weights must be F64"),
        (as_integers(f"{U}input_blocks.0.0.weight", torch.int8), "as I8, which is not supported: weights must be F64"),
    ],
)
def test_files_that_are_no_whole_model_are_refused_in_one_sentence(
    files: dict[str, Path], tmp_path: Path, change: Any, message: str
) -> None:
    file = changed(files["sd1"], tmp_path / "x.safetensors", change)
    with pytest.raises((CheckpointError, ConfigError), match=message) as refusal:
        open_checkpoint(file).check()
    assert "\n" not in str(refusal.value) and str(file) in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sd15-q8_0.gguf", b"GGUF\x03\0\0\0", "is a GGUF file, whose quantised weights are not supported"),
        ("renamed.safetensors", b"GGUF\x03\0\0\0", "is a GGUF file"),
        ("model.onnx", b"\x08\x0a", "is an ONNX graph, not a checkpoint"),
        ("notes.txt", b"hello", r"is a file; expected the folder of a diffusers pipeline, or \.safetensors"),
        ("short.safetensors", b"\x01", "too few for a safetensors file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 8)}, "is a LoRA"),
        ({"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight": (4, 8)}, "is a LoRA"),
        (
            {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_k_lora.down.weight": (4, 8)},
            "is a LoRA",
        ),
        ({"emb_params": (2, 768)}, "is a textual inversion"),
        ({"<cat-toy>": (768,)}, "is a textual inversion"),
        ({"down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3)}, "holds unet without the rest of a checkpoint"),
        ({"double_blocks.0.img_attn.qkv.weight": (4, 4)}, "is a model with a transformer"),
        ({"conditioner.embedders.0.model.ln_final.weight": (4,)}, "is the refiner of SDXL"),
        ({"layer.weight": (4, 4)}, "is no checkpoint of a known kind"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str) -> None:
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "x.safetensors")


def test_folders_that_are_no_pipeline_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is a LoRA"):
        open_checkpoint(tmp_path / "lora")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is one part of a diffusers pipeline; give the folder that holds model_"):
        open_checkpoint(tmp_path / "unet")


def test_a_truncated_file_and_options_of_other_sources_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["sd1"].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is truncated"):
        open_checkpoint(tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match="is a file, which has no variant 'fp16'"):
        open_checkpoint(files["sd1"], "fp16")
    with pytest.raises(CheckpointError, match="is a folder, which says itself what its model predicts"):
        open_checkpoint(tmp_path, prediction="epsilon")


def test_a_file_of_countless_tensors_is_refused(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"a{index}": empty for index in range(MAX_TENSORS + 1)}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=f"holds {MAX_TENSORS + 1} tensors; expected at most {MAX_TENSORS}"):
        open_checkpoint(tmp_path / "x.safetensors")


def test_a_link_to_the_file_is_followed_for_the_user_named_it(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").symlink_to(files["sd1"])
    open_checkpoint(tmp_path / "mine.safetensors").check()


def test_published_sizes_are_read_from_shapes() -> None:
    """The configs of SD 1.5, 2.1 and SDXL follow from the shapes of their weights, laid out without memory."""
    from tests.published_configs import UNET as PUBLISHED

    for kind, layout in (("sd15", layout_of("sd1")), ("sd21", layout_of("sd2"))):
        config = {key: value for key, value in PUBLISHED[kind].items() if not key.startswith("_")}
        with torch.device("meta"):
            oracle = diffusers.UNet2DConditionModel(**config)
        from tests.checkpoint.original_files import unet_key

        shapes = {unet_key(name, "sd1"): tuple(value.shape) for name, value in oracle.state_dict().items()}
        read = layout.parts["unet"].config(shapes)
        differing = {key for key in read if key in config and tuple_of(read[key]) != tuple_of(config[key])}
        assert differing == set() and read["block_out_channels"] == [320, 640, 1280, 1280]


def tuple_of(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.parametrize("name", ["pipe.safetensors", "pipe.ckpt", "pipe"])
def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name} is not a regular file"):
        open_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name} is not a regular file"):
        describe(tmp_path / name)


def test_a_prediction_that_is_none_is_refused(tmp_path: Path) -> None:
    wrong: Any = "sample"
    with pytest.raises(CheckpointError, match="prediction is 'sample'; expected epsilon or v_prediction"):
        open_checkpoint(tmp_path, prediction=wrong)
