"""Every layout that checkpoints are published in, on a tiny one: it opens wherever diffusers opens it, or is refused.

Each row lays its files out with diffusers, transformers and safetensors. What it says of diffusers is tested too.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldm_export.checkpoint.open import open_checkpoint
from ldm_runtime.errors import LdmError
from tests.once import make_once
from tests.oracles import build_tiny_sd

pytestmark = pytest.mark.slow

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
PARTS = (UNET, VAE, TEXT)
SHARD = 30_000  # bytes: several to a part

Layout = Callable[[Path], Any]  # changes a tiny pipeline's folder; returns None, or the place in it to open


@dataclass(frozen=True)
class Row:
    """One layout. refused: what the refusal says; None: it opens. diffusers: whether its pipeline opens the folder.

    same: all weights are the same there.
    """

    lay_out: Layout
    variant: str | None = None
    refused: str | None = None
    diffusers: bool = True
    same: bool = True


def stored_as(dtype: torch.dtype, *files: str, ending: str = ".safetensors") -> Layout:
    """Write files of weights in another type, under another ending in place of or beside their own."""

    def change(root: Path) -> None:
        for path in (root / file for file in files):
            old = load_file(path)
            new = {key: value.to(dtype) if value.is_floating_point() else value for key, value in old.items()}
            save_file(new, path.with_suffix(ending), {"format": "pt"})

    return change


def remove(*names: str) -> Layout:
    def change(root: Path) -> None:
        for path in (root / name for name in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def each(*layouts: Layout) -> Layout:
    def change(root: Path) -> Any:
        return [layout(root) for layout in layouts][-1]

    return change


def edit(file: str, **values: Any) -> Layout:
    """Change keys of a JSON file; None deletes one."""

    def change(root: Path) -> None:
        data = json.loads((root / file).read_text())
        data.update(values)
        (root / file).write_text(json.dumps({key: value for key, value in data.items() if value != "delete"}))

    return change


def tensors(file: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Layout:
    return lambda root: save_file(change(load_file(root / file)), root / file, {"format": "pt"})


def extra(file: str, *names: str) -> Layout:
    return tensors(file, lambda old: {**old, **{name: torch.ones(2) for name in names}})


def renamed(file: str, *pairs: tuple[str, str]) -> Layout:
    def change(old: dict[str, Tensor]) -> dict[str, Tensor]:
        for before, after in pairs:
            assert any(before in key for key in old)
            old = {key.replace(before, after): value for key, value in old.items()}
        return old

    return tensors(file, change)


def pickled(*files: str) -> Layout:
    def change(root: Path) -> None:
        for file in files:
            path = root / file
            name = "pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"
            torch.save(load_file(path), path.with_name(name))
            path.unlink()

    return change


def sharded(variant: str | None) -> Layout:
    def change(root: Path) -> None:
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(root)
        for file in PARTS:
            part = root / Path(file).parent
            (root / file).unlink()
            model = getattr(pipeline, part.name)
            model = model.half() if variant else model
            model.save_pretrained(part, max_shard_size=SHARD, variant=variant)

    return change


def whole_clip(root: Path, **kept: Any) -> None:
    """Make the text encoder the folder of a whole CLIP, as OpenAI's are published: both halves, one config."""
    from transformers import CLIPConfig, CLIPModel

    text = {**json.loads((root / "text_encoder/config.json").read_text()), **kept}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(text_config=text, vision_config={**vision, "image_size": 8, "patch_size": 8}, projection_dim=8)
    model = CLIPModel(config)
    model.text_model.load_state_dict(
        {key.removeprefix("text_model."): value for key, value in load_file(root / TEXT).items()}
    )
    model.save_pretrained(root / "text_encoder")


def alone(content: dict[str, tuple[int, ...]] | bytes, name: str) -> Layout:
    """A file beside the pipeline, of tensors of these shapes."""

    def change(root: Path) -> Path:
        file = root / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            save_file({key: torch.zeros(shape) for key, shape in content.items()}, file)
        return file

    return change


def place(name: str) -> Layout:
    return lambda root: root / name


def tokenizer_json_alone(root: Path) -> None:
    from transformers import CLIPTokenizerFast

    CLIPTokenizerFast.from_pretrained(root / "tokenizer").save_pretrained(root / "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        (root / "tokenizer" / name).unlink()


def lora_folder(root: Path) -> Path:
    (root / "lora").mkdir()
    (root / "lora/adapter_config.json").write_text("{}")
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, root / "lora/adapter_model.safetensors")
    return root / "lora"


def graphs(root: Path) -> None:
    shutil.rmtree(root / "vae")
    for name in ("unet", "text_encoder", "vae_encoder", "vae_decoder"):
        (root / name).mkdir(exist_ok=True)
        (root / name / "model.onnx").write_bytes(b"graph")
    (root / UNET).unlink()


VARIANTS = stored_as(torch.float16, *PARTS, ending=".fp16.safetensors")
HALF_UNET = each(stored_as(torch.float16, UNET, ending=".fp16.safetensors"), remove(UNET))

_ATTENTION = [("to_q.", "query."), ("to_k.", "key."), ("to_v.", "value."), ("to_out.0.", "proj_attn.")]
_OLD_NAMES = renamed(VAE, *((f"attentions.0.{new}", f"attentions.0.{old}") for new, old in _ATTENTION))
_KERNELS = tensors(
    VAE,
    lambda old: {
        key: value[:, :, None, None].contiguous() if ".attentions." in key and value.ndim == 2 else value
        for key, value in old.items()
    },
)
_INDEX, _SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"

ROWS = {
    # Weights: variants, types, pickles, shards, names.
    "only half precision": Row(each(VARIANTS, remove(*PARTS)), None, r"no weights without a variant .*fp16", False),
    "only half precision, asked for": Row(each(VARIANTS, remove(*PARTS)), "fp16"),
    "both precisions": Row(VARIANTS),
    "both precisions, half asked for": Row(VARIANTS, "fp16"),
    "the UNet in half precision": Row(
        HALF_UNET,
        None,
        r"unet has no weights without a variant",
        False,
    ),
    "the UNet in half precision, asked for": Row(
        HALF_UNET, "fp16"
    ),
    "bfloat16": Row(stored_as(torch.bfloat16, *PARTS)),
    "a UNet of eight bits": Row(stored_as(torch.float8_e4m3fn, UNET)),
    "pickles": Row(pickled(*PARTS)),
    "a pickle beside safetensors": Row(pickled(TEXT)),
    "shards": Row(sharded(None)),
    "shards of half precision": Row(sharded("fp16"), None, "has no weights without a variant", False),
    "shards of half precision, asked for": Row(sharded("fp16"), "fp16"),
    "safetensors under a pickle's name": Row(
        lambda root: (root / TEXT).rename(root / "text_encoder/pytorch_model.safetensors") and None, diffusers=False
    ),
    "old names in the autoencoder": Row(_OLD_NAMES),
    "old names, and convolutions for matrices": Row(each(_KERNELS, _OLD_NAMES), diffusers=False),
    # Tensors and keys besides the model's own.
    "positions of the text encoder": Row(
        tensors(TEXT, lambda old: {**old, "text_model.embeddings.position_ids": torch.arange(77)[None]})
    ),
    # As transformers 5 saves it; before, transformers opens it and leaves its weights at random.
    "a text encoder without its prefix": Row(renamed(TEXT, ("text_model.", "")), same=False),
    "a whole CLIP's tensors": Row(extra(TEXT, "logit_scale", "text_projection.weight", "vision_model.x.weight")),
    "a whole CLIP": Row(whole_clip),
    "a projection": Row(extra(TEXT, "text_projection.weight")),
    "a trainer's number": Row(extra(UNET, "unet_ema_decay")),
    # model_index.json.
    "no entry of a safety checker": Row(edit(_INDEX, safety_checker="delete")),
    "a safety checker that is null": Row(edit(_INDEX, safety_checker=[None, None])),
    "no class": Row(edit(_INDEX, _class_name="delete"), None, "model_index.json is for a None; supported are", False),
    "components that are null": Row(edit(_INDEX, image_encoder=[None, None], feature_extractor=[None, None])),
    "no entry of a tokenizer": Row(edit(_INDEX, tokenizer="delete"), None, "has no tokenizer; the model is no", False),
    "a text encoder that is null": Row(edit(_INDEX, text_encoder=[None, None]), None, "has no text_encoder; t", False),
    "a custom pipeline": Row(edit(_INDEX, _class_name=["mine", "StableDiffusionPipeline"])),
    "no model_index.json": Row(remove(_INDEX), None, "it has neither model_index.json nor manifest.json", False),
    "a UNet's folder and no index": Row(
        remove(_INDEX, "vae", "text_encoder", "tokenizer", "scheduler"), None, "is not a model's folder", False
    ),
    "the folder of a UNet": Row(place("unet"), None, "is one part of a diffusers pipeline; give the folder", False),
    "the folder of an autoencoder": Row(place("vae"), None, "is one part of a diffusers pipeline; give the f", False),
    # Configs, scheduler and tokenizer.
    "a scheduler's config under an old name": Row(
        lambda root: (root / _SCHEDULER).rename(root / "scheduler/config.json") and None,
        None,
        "scheduler_config.json is missing; fetch",
        False,
    ),
    "a scheduler's old keys": Row(edit(_SCHEDULER, tensor_format="pt", timestep_values=None, clip_sample=False)),
    "LMS's old keys": Row(
        each(
            edit(_SCHEDULER, _class_name="LMSDiscreteScheduler", tensor_format="pt"),
            edit(_INDEX, scheduler=["diffusers", "LMSDiscreteScheduler"]),
        )
    ),
    "a UNet's config of diffusers 0.2": Row(
        edit(
            "unet/config.json", _diffusers_version="0.2.2", **dict.fromkeys(
                ("only_cross_attention", "dual_cross_attention", "use_linear_projection", "class_embed_type",
                 "num_class_embeds", "upcast_attention", "resnet_time_scale_shift"), "delete")
        )
    ),
    "a switch that is null": Row(edit("unet/config.json", upcast_attention=None)),
    # With transformers 5 diffusers opens it.
    "a tokenizer in one file": Row(tokenizer_json_alone, diffusers=False),
    "tokens added to a tokenizer": Row(
        lambda root: (root / "tokenizer/added_tokens.json").write_text(json.dumps({"<cat>": 999})) and None
    ),
    # Files that are no checkpoint by themselves. test_single_file.py has those that are.
    "a quantised file": Row(alone(b"GGUF\3\0\0\0", "q8_0.gguf"), None, "is a GGUF file", False),
    "an autoencoder's file": Row(
        alone({"encoder.down.0.block.0.conv1.weight": (4, 4, 3, 3)}, "mse.safetensors"), None, "give it by --vae", False
    ),
    "a LoRA of Kohya's": Row(
        alone({"lora_unet_down_blocks_0.lora_down.weight": (2, 2)}, "style.safetensors"), None, "is a LoRA", False
    ),
    "a LoRA of diffusers'": Row(
        alone({"unet.down_blocks.0.attn1.to_k.lora_A.weight": (2, 2)}, "pytorch_lora_weights.safetensors"),
        None,
        "is a LoRA",
        False,
    ),
    "a LoRA's folder": Row(lora_folder, None, "is a LoRA", False),
    "a word": Row(alone({"<cat-toy>": (24,)}, "learned_embeds.safetensors"), None, "is a textual inversion", False),
    "graphs of optimum": Row(graphs, None, "has graphs such as .*model.onnx, not the weights of a checkpoint", False),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline saved by diffusers; read only."""
    return make_once(tmp_path_factory, "layouts", lambda folder: build_tiny_sd(folder / "sd15"))


@pytest.mark.parametrize("name", ROWS)
def test_a_layout_opens_where_diffusers_opens_it_and_else_is_refused_in_a_sentence(
    name: str, tiny: Path, tmp_path: Path
) -> None:
    row, root = ROWS[name], Path(shutil.copytree(tiny, tmp_path / "model"))
    source = row.lay_out(root) or root
    if row.refused is None:
        checkpoint = open_checkpoint(source, row.variant)
        checkpoint.check()
        checkpoint.require_finite()
    else:
        assert not row.diffusers
        with pytest.raises(LdmError, match=row.refused) as caught:
            open_checkpoint(source, row.variant).check()
        assert "\n" not in str(caught.value)
    if not row.diffusers:
        with pytest.raises((OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError)):
            theirs(source, row)
        return
    oracle = theirs(source, row)
    for part in ("unet", "vae", "text_encoder"):
        state, wanted = checkpoint.load(part).state_dict(), getattr(oracle, part).state_dict()
        assert all(torch.equal(state[key], wanted[key].float()) for key in state) or not row.same, part


def theirs(source: Path, row: Row) -> Any:
    options = {"variant": row.variant, "torch_dtype": torch.float32, "local_files_only": True}
    return diffusers.StableDiffusionPipeline.from_pretrained(source, **options)
