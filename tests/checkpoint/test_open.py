"""Checkpoints open in every promised layout, load totally or not at all, and save as diffusers reads them."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.defaults import OwnDefaults, write_defaults
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.save import save_checkpoint
from ldm_export.checkpoint.tensors import EIGHT_BITS
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.keymaps import parameter_name
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION
from ldm_runtime.errors import InputError, LdmError
from ldm_runtime.package.manifest import Defaults
from tests.oracles import build_tiny_sd, seeded

pytestmark = pytest.mark.slow

PARTS = STABLE_DIFFUSION.parts

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
FILES = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole pipeline saved by diffusers; read only."""
    return build_tiny_sd(tmp_path_factory.mktemp("checkpoints") / "sd15")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models so small gain nothing from threads, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline that the test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def rename_keys(path: Path, pattern: str, replacement: str) -> None:
    """Renames at least one tensor of the file."""

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        found = [name for name in tensors if re.search(pattern, name)]
        assert found
        for name in found:
            tensors[re.sub(pattern, replacement, name)] = tensors.pop(name)

    edit_tensors(path, rename)


def assert_same_weights(got: Checkpoint, wanted: Path, dtype: torch.dtype = torch.float32) -> None:
    for component, file in FILES.items():
        expected = load_file(wanted / file)
        state = got.load(component, dtype).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value.to(dtype)) for name, value in expected.items()), component


# --- what opens ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_pipeline_of_diffusers_loads_whole(kind: str, tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path, kind, seed=5)
    checkpoint = open_checkpoint(folder)
    checkpoint.check()
    assert_same_weights(checkpoint, folder)
    assert not any(checkpoint.load(component).training for component in PARTS)
    oracle = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    for component in PARTS:
        assert checkpoint.parameter_count(component) == getattr(oracle, component).num_parameters()
    assert checkpoint.schedule.prediction_type == oracle.scheduler.config.prediction_type
    assert checkpoint.schedule.alphas_cumprod() == pytest.approx(oracle.scheduler.alphas_cumprod, rel=1e-5)
    assert checkpoint.weight_files == {component: (folder / file,) for component, file in FILES.items()}
    assert checkpoint.tokenizers["tokenizer"] == folder / "tokenizer"


def test_weights_in_shards_load_whole(tiny: Path, tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path, max_shard_size="50KB")
    checkpoint = open_checkpoint(folder)
    assert all(len(files) > 1 for files in checkpoint.weight_files.values())
    assert_same_weights(checkpoint, tiny)


def test_variant_is_chosen_by_name(tiny: Path, tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path, variant="fp16", dtype=torch.float16)
    state = open_checkpoint(folder, "fp16").load("unet").state_dict()
    for name, value in load_file(tiny / UNET).items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], value.half().float())


def test_variant_in_shards_is_chosen_by_name(tiny: Path, tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path, variant="fp16", max_shard_size="50KB")
    checkpoint = open_checkpoint(folder, "fp16")
    assert all(len(files) > 1 for files in checkpoint.weight_files.values())
    assert_same_weights(checkpoint, tiny)


def test_a_part_without_files_of_the_variant_has_its_plain_ones(copy: Path, tiny: Path) -> None:
    """As diffusers chooses: for each part, the variant if there are files of it."""
    half = {name: value.half() for name, value in load_file(copy / UNET).items()}
    save_file(half, copy / "unet/diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(copy, "fp16")
    oracle = diffusers.StableDiffusionPipeline.from_pretrained(copy, variant="fp16")
    for part in PARTS:
        state, wanted = checkpoint.load(part).state_dict(), getattr(oracle, part).state_dict()
        assert all(torch.equal(state[name], wanted[name].float()) for name in state), part
    assert {file.name for file in checkpoint.weight_files["unet"]} == {"diffusion_pytorch_model.fp16.safetensors"}
    assert {stored.dtype for stored in checkpoint.tensors["unet"].values()} == {"F16"}
    assert {stored.dtype for stored in open_checkpoint(copy).tensors["unet"].values()} == {"F32"}


def test_absent_variant_is_refused_with_what_is_there(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"has no weights of the variant 'fp16', in none of text_encoder, unet, vae; leave the variant out",
    ):
        open_checkpoint(tiny, "fp16")
    folder = build_tiny_sd(tmp_path, variant="fp16")
    with pytest.raises(
        CheckpointError, match=r"no weights without a variant.*it has \S+\.fp16\.\w+: add --variant fp16$"
    ):
        open_checkpoint(folder)


def test_safetensors_with_the_name_of_the_pickle_that_they_replace_load(copy: Path, tiny: Path) -> None:
    (copy / TEXT).rename(copy / "text_encoder/pytorch_model.safetensors")
    assert_same_weights(open_checkpoint(copy), tiny)


def test_bfloat16_weights_load(copy: Path, tiny: Path) -> None:
    edit_tensors(copy / UNET, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))
    state = open_checkpoint(copy).load("unet").state_dict()
    assert all(torch.equal(state[name], v.bfloat16().float()) for name, v in load_file(tiny / UNET).items())


def test_weights_at_odd_places_in_the_file_load(copy: Path, tiny: Path) -> None:
    """The format does not promise that data are aligned; files of early versions are not."""
    content = (copy / UNET).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip() + b" "
    header += b" " * (1 - (8 + len(header)) % 2)  # data begin at an odd byte
    (copy / UNET).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    assert (8 + len(header)) % 2 == 1
    assert_same_weights(open_checkpoint(copy), tiny)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_the_callers(tiny: Path, dtype: torch.dtype) -> None:
    assert_same_weights(open_checkpoint(tiny), tiny, dtype)


def test_text_keys_without_their_prefix_load(copy: Path, tiny: Path) -> None:
    rename_keys(copy / TEXT, r"^text_model\.", "")
    assert_same_weights(open_checkpoint(copy), tiny)


@pytest.mark.parametrize("prefix", ["text_model.", ""])
def test_position_ids_are_dropped(copy: Path, tiny: Path, prefix: str) -> None:
    rename_keys(copy / TEXT, r"^text_model\.", prefix)
    edit_tensors(
        copy / TEXT,
        lambda tensors: tensors.update({f"{prefix}embeddings.position_ids": torch.arange(77)[None]}),
    )
    assert_same_weights(open_checkpoint(copy), tiny)


# Of a whole CLIP, of a text encoder with projection, of a trainer.
FOREIGN = {
    "text_encoder": ["logit_scale", "text_projection.weight", "vision_model.post_layernorm.weight",
                     "visual_projection.weight"],
    "unet": ["unet_ema_decay"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("part", FOREIGN)
def test_tensors_of_another_model_are_left_out_and_said_as_diffusers_leaves_them_out(
    part: str, copy: Path, tiny: Path
) -> None:
    edit_tensors(copy / FILES[part], lambda tensors: tensors.update({name: torch.ones(3) for name in FOREIGN[part]}))
    opened = open_checkpoint(copy)
    opened.check()
    assert_same_weights(opened, tiny)
    count, names = len(FOREIGN[part]), ", ".join(FOREIGN[part])
    said = f"{count} tensors of {part} are not of its model ({names}); diffusers leaves them out too"
    assert opened.notes == (said,)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(copy)
    for name, value in getattr(theirs, part).state_dict().items():
        assert torch.equal(value, opened.load(part).state_dict()[name]), name


def test_a_missing_tensor_is_no_less_missing_for_one_too_many(copy: Path) -> None:
    rename_keys(copy / UNET, r"^conv_in\.bias$", "conv_in_bias")
    with pytest.raises(CheckpointError, match=r"1 missing \(conv_in\.bias\)"):
        open_checkpoint(copy).check()


def test_layers_that_the_config_lacks_are_not_left_out(copy: Path) -> None:
    edit_tensors(copy / UNET, lambda tensors: tensors.update({"add_embedding.linear_1.bias": torch.ones(3)}))
    with pytest.raises(CheckpointError, match=r"1 unexpected \(add_embedding\.linear_1\.bias\)"):
        open_checkpoint(copy).check()


@pytest.mark.parametrize(("name", "dtype"), EIGHT_BITS.items())
def test_every_number_of_eight_bits_is_read_exactly(name: str, dtype: torch.dtype, copy: Path) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    finite = every[every.to(torch.float64).isfinite()]
    edit_tensors(copy / UNET, lambda tensors: tensors.update(
        {key: finite[torch.arange(value.numel()) % len(finite)].view(value.shape) for key, value in tensors.items()}
    ))  # fmt: skip
    opened = open_checkpoint(copy)
    opened.check()
    opened.require_finite()
    assert {stored.dtype for stored in opened.tensors["unet"].values()} == {name}
    theirs = load_file(copy / UNET)
    for key, value in opened.load("unet", dtype=torch.float32).state_dict().items():
        assert torch.equal(value.double(), theirs[key].double())
    assert {value.dtype for value in opened.load("unet", dtype=None).state_dict().values()} == {torch.float16}


@pytest.mark.parametrize("dtype", EIGHT_BITS.values())
def test_eight_bits_that_are_no_number_are_refused(dtype: torch.dtype, copy: Path) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    for bad in every[~every.to(torch.float64).isfinite()]:
        edit_tensors(copy / UNET, lambda tensors, bad=bad: tensors.update({"conv_in.bias": bad.repeat(16)}))
        with pytest.raises(CheckpointError, match=r"holds -?(nan|inf) in \"?'?conv_in\.bias"):
            open_checkpoint(copy).require_finite()


def test_two_keys_for_one_parameter_are_refused(copy: Path) -> None:
    edit_tensors(copy / TEXT, lambda tensors: tensors.update({"final_layer_norm.bias": torch.zeros(24)}))
    with pytest.raises(CheckpointError, match=r"two tensors for 'text_model\.final_layer_norm\.bias'"):
        open_checkpoint(copy)


def test_legacy_attention_names_of_the_vae_load(copy: Path, tiny: Path) -> None:
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), (r"to_out\.0", "proj_attn")):
        rename_keys(copy / VAE, rf"(mid_block\.attentions\.0)\.{new}\.", rf"\1.{old}.")
    assert not any("to_" in name for name in load_file(copy / VAE))
    assert_same_weights(open_checkpoint(copy), tiny)


def test_attention_of_the_vae_as_convolutions_of_one_pixel_loads(copy: Path, tiny: Path) -> None:
    def as_convolutions(tensors: dict[str, torch.Tensor]) -> None:
        found = [name for name in tensors if re.search(r"attentions\.0\.to_.*weight", name)]
        assert len(found) == 8
        tensors.update({name: tensors[name][:, :, None, None] for name in found})

    edit_tensors(copy / VAE, as_convolutions)
    assert_same_weights(open_checkpoint(copy), tiny)
    edit_tensors(copy / VAE, lambda tensors: tensors.update({"encoder.conv_out.bias": torch.zeros(8, 1, 1)}))
    with pytest.raises(CheckpointError, match=r"encoder\.conv_out\.bias is \[8, 1, 1\], expected \[8\]"):
        open_checkpoint(copy).check()


@pytest.mark.parametrize(
    ("component", "key"),
    [
        ("vae", "decoder.up_blocks.0.attentions.0.query.weight"),
        ("vae", "decoder.mid_block.attentions.0.query.scale"),
        ("unet", "mid_block.attentions.0.query.weight"),
        ("unet", "encoder.layers.0.weight"),
        ("text_encoder", "text_model.embeddings.position_ids.extra"),
        ("text_encoder", "text_model.vision_model.weight"),
    ],
)
def test_key_that_no_rule_matches_keeps_its_name(component: str, key: str) -> None:
    expected = f"text_model.{key}" if key.startswith("embeddings") else key
    assert parameter_name(PARTS[component].rules, key) == expected


def test_unused_components_are_reported(copy: Path, tiny: Path) -> None:
    edit_json(
        copy / "model_index.json",
        lambda index: index.update(
            safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
            feature_extractor=["transformers", "CLIPImageProcessor"],
        ),
    )
    assert open_checkpoint(copy).dropped == ("feature_extractor", "safety_checker")
    assert open_checkpoint(tiny).dropped == ()


def test_options_that_diffusers_ignores_are_said_and_change_nothing(copy: Path, tiny: Path) -> None:
    edit_json(copy / "unet" / "config.json", lambda config: config.update(decay=0.9999, power=0.75, dropout=0.1))
    edit_json(copy / "scheduler" / "scheduler_config.json", lambda config: config.update(tensor_format="pt"))
    opened, plain = open_checkpoint(copy), open_checkpoint(tiny)
    assert opened.notes == (
        "unet/config.json has decay, power, which diffusers ignores too",
        "scheduler/scheduler_config.json has tensor_format, which diffusers ignores too",
    )
    assert plain.notes == ()
    assert (opened.configs, opened.schedule, opened.sampler) == (plain.configs, plain.schedule, plain.sampler)


TRAINED = OwnDefaults("emoji", "dpmpp_2m", 25, 3.0)


def test_a_trained_checkpoint_keeps_its_name_sampler_steps_and_guidance(copy: Path, tiny: Path) -> None:
    write_defaults(copy, TRAINED)
    defaults, plain = open_checkpoint(copy).defaults, open_checkpoint(tiny).defaults
    assert (defaults.name, defaults.image) == ("emoji", plain.image)
    assert defaults.run == Defaults("dpmsolver", 25, 3.0)
    assert (plain.name, plain.run) == ("sd15", Defaults("pndm:skip_prk_steps=true", 20, 7.5))


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler"])
def test_a_distilled_model_draws_in_its_few_steps(copy: Path, name: str) -> None:
    edit_json(copy / "model_index.json", lambda index: index.update(scheduler=["diffusers", name]))
    run = open_checkpoint(copy).defaults.run
    assert (run.steps, run.guidance) == (4, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sampler": "magic"}, "sampler 'magic' is not known"), ({"steps": "few"}, "steps must be an integer"),
     ({"colour": 3}, "colour")],
)  # fmt: skip
def test_defaults_that_make_no_sense_are_refused(copy: Path, changes: dict[str, Any], message: str) -> None:
    write_defaults(copy, TRAINED)
    edit_json(copy / "defaults.json", lambda content: content.update(changes))
    with pytest.raises(ConfigError, match=rf"defaults\.json: .*{message}"):
        open_checkpoint(copy)


def test_licences_are_found(copy: Path, tiny: Path) -> None:
    for name in ("LICENSE.md", "README.md", "notes.txt"):
        (copy / name).write_text("text")
    assert open_checkpoint(copy).documents == (copy / "LICENSE.md", copy / "README.md")
    assert open_checkpoint(tiny).documents == ()
    (copy / "license:1").write_text("no name on every system")
    with pytest.raises(CheckpointError, match="'license:1'.*; rename that file, or take it out of the folder$"):
        open_checkpoint(copy)


# --- what does not load -------------------------------------------------------------------------


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


# --- memory -------------------------------------------------------------------------------------


def mapped_to(path: Path) -> list[tuple[int, int]]:
    """The address ranges of this process that are mapped to the file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines if line.endswith(str(path.resolve()))]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


def test_weights_are_the_file_until_they_are_written_to(copy: Path) -> None:
    before = (copy / UNET).read_bytes()
    model = open_checkpoint(copy).load("unet")
    ranges = mapped_to(copy / UNET)
    for name, parameter in model.named_parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in ranges), name
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert (copy / UNET).read_bytes() == before


def test_opening_reads_no_weights(tiny: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    checkpoint.check()
    assert checkpoint.parameter_count("unet") > 0
    assert mapped_to(tiny / UNET) == []


# --- saving -------------------------------------------------------------------------------------


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


# --- the scheduler ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["DDIMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "HeunDiscreteScheduler"],
)
def test_a_scheduler_as_diffusers_saves_it_opens_as_its_pipeline_runs_it(name: str, copy: Path, tmp_path: Path) -> None:
    """Defaults that differ from the pipeline's (clip_sample, steps_offset 0), and -Infinity, which is no JSON."""
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    getattr(diffusers, name)(**settings).save_pretrained(copy / "scheduler")
    ours = open_checkpoint(copy)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(copy).scheduler.config
    for key in ("steps_offset", "clip_sample"):
        assert ours.scheduler_config.get(key) == theirs.get(key)
    assert ours.schedule.steps_offset == theirs.get("steps_offset", 0)


def test_the_scheduler_is_the_class_that_the_index_names(copy: Path) -> None:
    edit_json(copy / "model_index.json", lambda index: index.update(scheduler=["diffusers", "DDIMScheduler"]))
    assert type(diffusers.StableDiffusionPipeline.from_pretrained(copy).scheduler) is diffusers.DDIMScheduler
    opened = open_checkpoint(copy)
    assert opened.sampler.name == "ddim"
    said = "the scheduler is the DDIMScheduler that model_index.json names, as in diffusers, not 'PNDMScheduler'"
    assert opened.notes == (said,)


def test_nan_in_a_scheduler_is_refused(copy: Path) -> None:
    file = copy / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace("0.012", "NaN"))
    with pytest.raises(CheckpointError, match="NaN"):
        open_checkpoint(copy)
