"""Single-file checkpoints in the original layouts, written from diffusers' models; and the keys of published ones.

Nothing of the product is used: names are made by formulas that follow CompVis' code, and diffusers opens the files.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.oracles import randomise

KEYS = Path(__file__).parent / "original_keys"
VOCABULARY = 49408
KINDS = ("sd1", "sd2", "sdxl")
PIPELINES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}

# The level structure of the published models, as narrow as 32 groups allow.
_UNET_4 = {
    "block_out_channels": (32, 64, 96, 96),
    "layers_per_block": 2,
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
    "sample_size": 64,
}
UNET: dict[str, dict[str, Any]] = {
    "sd1": _UNET_4,
    "sd2": {**_UNET_4, "attention_head_dim": 1, "use_linear_projection": True, "sample_size": 96},
    "sdxl": {
        "block_out_channels": (32, 64, 96),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 128,
        "attention_head_dim": 1,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 64 + 6 * 256,
        "sample_size": 128,
    },
}
VAE: dict[str, Any] = {
    "block_out_channels": (32, 64, 96, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
LAYERS = {"clip": 12, "sd2": 23, "sdxl": 32}
SCALES = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
PREFIXES = {"sd1": ("cond_stage_model.transformer", None), "sd2": (None, "cond_stage_model.model")}
PREFIXES["sdxl"] = ("conditioner.embedders.0.transformer", "conditioner.embedders.1.model")


def models(kind: str, seed: int = 0, **unet: Any) -> dict[str, Any]:
    """The models of diffusers and transformers, every tensor random."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    clip, open_clip = PREFIXES[kind]
    made: dict[str, Any] = {}
    if clip is not None:
        config = CLIPTextConfig(**TEXT, num_hidden_layers=LAYERS["clip"], hidden_act="quick_gelu")
        made["text_encoder"] = CLIPTextModel(config)
    if open_clip is not None:
        config = CLIPTextConfig(**TEXT, num_hidden_layers=LAYERS[kind], hidden_act="gelu", projection_dim=64)
        name = "text_encoder_2" if clip else "text_encoder"
        made[name] = CLIPTextModelWithProjection(config) if clip else CLIPTextModel(config)
    made["unet"] = UNet2DConditionModel(**{**UNET[kind], **unet})
    made["vae"] = AutoencoderKL(**VAE, scaling_factor=SCALES[kind], sample_size=8 * UNET[kind]["sample_size"])
    return {name: randomise(model, seed + index) for index, (name, model) in enumerate(made.items())}


def write_files(folder: Path) -> dict[str, Path]:
    """Write a file of each kind in float16, and the models' own folders beside them."""
    for kind in KINDS:
        made = {name: model.half() for name, model in models(kind).items()}
        save_file(original(kind, made), folder / f"{kind}.safetensors", {"format": "pt"})
        for name, model in made.items():
            model.save_pretrained(folder / kind / name)
    return {kind: folder / f"{kind}.safetensors" for kind in KINDS}


def configs_alone(kind: str, folder: Path, out: Path) -> Path:
    """A diffusers folder without weights: what `from_single_file` is told besides the file."""
    out.mkdir()
    parts = {path.name: path for path in folder.iterdir() if (path / "config.json").exists()}
    index: dict[str, Any] = {"_class_name": PIPELINES[kind], "scheduler": ["diffusers", "DDIMScheduler"]}
    for name, path in parts.items():
        (out / name).mkdir()
        (out / name / "config.json").write_bytes((path / "config.json").read_bytes())
        config = json.loads((path / "config.json").read_text())
        library = "diffusers" if "_class_name" in config else "transformers"
        index[name] = [library, config.get("_class_name", (config.get("architectures") or [None])[0])]
    (out / "model_index.json").write_text(json.dumps(index))
    return out


def original(kind: str, made: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of the models under their original keys, with what published files have besides."""
    clip, open_clip = PREFIXES[kind]
    tensors = {
        f"model.diffusion_model.{unet_key(name, kind)}": value for name, value in made["unet"].state_dict().items()
    }
    for name, value in made["vae"].state_dict().items():
        is_matrix = ".attentions." in name and value.ndim == 2
        tensors[f"first_stage_model.{vae_key(name)}"] = value[:, :, None, None] if is_matrix else value
    if clip is not None:
        tensors |= {f"{clip}.{name}": value for name, value in made["text_encoder"].state_dict().items()}
        tensors[f"{clip}.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    if open_clip is not None:
        text = made["text_encoder_2" if clip else "text_encoder"]
        tensors |= {f"{open_clip}.{key}": value for key, value in open_clip_tensors(text, kind)}
    return {key: value.detach().clone().contiguous() for key, value in tensors.items()}


_RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3")]
_RESNET += [("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")]
_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2", "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip


def unet_key(name: str, kind: str) -> str:
    """The key of a parameter of a UNet with two residual blocks a level: three input blocks, three output blocks."""
    first_is_plain = kind == "sdxl"  # the deepest level of SD 1 and 2 has no attention
    for new, old in _RESNET:
        name = re.sub(rf"(resnets\.\d)\.{new}\.", rf"\1.{old}.", name)

    def block(match: re.Match[str]) -> str:
        way, level, what, layer = match[1], int(match[2]), match[3], int(match[4])
        if way == "down":
            at = 3 * level + 1 + layer
            return {
                "resnets": f"input_blocks.{at}.0",
                "attentions": f"input_blocks.{at}.1",
                "downsamplers": f"input_blocks.{3 * level + 3}.0.op",
            }[what]
        slot = 2 if first_is_plain or level > 0 else 1
        return {
            "resnets": f"output_blocks.{3 * level + layer}.0",
            "attentions": f"output_blocks.{3 * level + layer}.1",
            "upsamplers": f"output_blocks.{3 * level + 2}.{slot}.conv",
        }[what]

    name = re.sub(
        r"^(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)(?:\.conv(?=\.))?", block, name
    )
    for new, old in _ENDS.items():
        if name.startswith(f"{new}."):
            return old + name[len(new) :]
    return name


def vae_key(name: str) -> str:
    name = re.sub(r"decoder\.up_blocks\.(\d)\.", lambda match: f"decoder.up.{3 - int(match[1])}.", name)
    for new, old in (
        (r"encoder\.down_blocks\.(\d)\.", r"encoder.down.\1."),
        (r"\.(down|up)samplers\.0\.", r".\1sample."),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"\.resnets\.", ".block."),
        (r"conv_shortcut", "nin_shortcut"),
        (r"group_norm", "norm"),
        (r"\.to_([qkv])\.", r".\1."),
        (r"to_out\.0", "proj_out"),
        (r"conv_norm_out", "norm_out"),
    ):
        name = re.sub(new, old, name)
    return name


def open_clip_tensors(text: Any, kind: str) -> Iterator[tuple[str, Tensor]]:
    state = text.state_dict()
    yield "token_embedding.weight", state["text_model.embeddings.token_embedding.weight"]
    yield "positional_embedding", state["text_model.embeddings.position_embedding.weight"]
    generator = torch.Generator().manual_seed(7)
    projection = state.get("text_projection.weight", torch.randn(64, 64, generator=generator))
    yield "text_projection", projection.T
    yield "logit_scale", torch.tensor(4.6)
    for end in ("weight", "bias"):
        yield f"ln_final.{end}", state[f"text_model.final_layer_norm.{end}"]
    layers = LAYERS[kind]
    for layer in range(layers):
        ours = f"text_model.encoder.layers.{layer}"
        for end in ("weight", "bias"):
            fused = torch.cat([state[f"{ours}.self_attn.{letter}_proj.{end}"] for letter in "qkv"])
            at = f"transformer.resblocks.{layer}"
            yield f"{at}.attn.in_proj_{end}", fused
            yield f"{at}.attn.out_proj.{end}", state[f"{ours}.self_attn.out_proj.{end}"]
            yield f"{at}.ln_1.{end}", state[f"{ours}.layer_norm1.{end}"]
            yield f"{at}.ln_2.{end}", state[f"{ours}.layer_norm2.{end}"]
            yield f"{at}.mlp.c_fc.{end}", state[f"{ours}.mlp.fc1.{end}"]
            yield f"{at}.mlp.c_proj.{end}", state[f"{ours}.mlp.fc2.{end}"]
    if kind == "sd2":  # the last layer, which is in the file and not used
        shapes = {"attn.in_proj_weight": (192, 64), "attn.in_proj_bias": (192,), "attn.out_proj.weight": (64, 64)}
        shapes |= {"attn.out_proj.bias": (64,), "mlp.c_fc.weight": (128, 64), "mlp.c_fc.bias": (128,)}
        shapes |= {"mlp.c_proj.weight": (64, 128), "mlp.c_proj.bias": (64,)}
        shapes |= {f"{norm}.{end}": (64,) for norm in ("ln_1", "ln_2") for end in ("weight", "bias")}
        for key, shape in shapes.items():
            yield f"transformer.resblocks.{layers}.{key}", torch.randn(shape, generator=generator)


def published_keys(kind: str) -> set[str]:
    """The keys of the weights of a published checkpoint, from the lists in `original_keys`."""
    clip, open_clip = PREFIXES[kind]
    keys = listed("unet_sdxl.txt" if kind == "sdxl" else "unet_4_levels.txt") | listed("vae.txt")
    if clip is not None:
        keys |= listed("clip_l.txt", lambda line: line.replace("PREFIX", clip))
    if open_clip is not None:
        layers = "{" + ",".join(map(str, range(32 if kind == "sdxl" else 24))) + "}"
        keys |= listed("open_clip.txt", lambda line: line.replace("PREFIX", open_clip).replace("LAYERS", layers))
    return keys


def listed(name: str, change: Callable[[str], str] = str) -> set[str]:
    lines = [line for line in (KEYS / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {key for line in lines for key in expanded(change(line))}


def expanded(line: str) -> Iterator[str]:
    """a.{b,c} -> a.b, a.c"""
    parts = [part.split(",") if index % 2 else [part] for index, part in enumerate(re.split(r"[{}]", line))]
    yield from ("".join(choice) for choice in product(*parts))
