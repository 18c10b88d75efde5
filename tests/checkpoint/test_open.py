"""Checkpoints open in every promised layout, and load totally; their weights stay in the file."""

import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_export.checkpoint.defaults import OwnDefaults, write_defaults
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.tensors import EIGHT_BITS
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.keymaps import parameter_name
from ldm_runtime.package.manifest import Defaults
from tests.checkpoint.changed import (
    FILES,
    PARTS,
    TEXT,
    UNET,
    VAE,
    assert_same_weights,
    edit_json,
    edit_tensors,
    rename_keys,
)
from tests.oracles import build_tiny_sd

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


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
