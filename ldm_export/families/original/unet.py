"""The UNet of the original layouts; its key names are those of CompVis' `openaimodel.py`.

Checked against the conversion of diffusers 0.39.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from ldm_export.configs.levels import per_level
from ldm_export.configs.strict import MAX_BLOCKS
from ldm_export.configs.unet import UNetConfig
from ldm_export.errors import CheckpointError
from ldm_export.families.original.layout import Origin, OriginalPart, Origins, Shapes, count, renamed, size

WHAT = "UNet"
SIZE_WIDTH = 256  # of the embedding of one size of the image, in every SDXL
HEADS, HEAD_WIDTH = 8, 64  # of Stable Diffusion 1.x; of the others, whose projections are matrices
ASSUMED = frozenset({"attention_head_dim", "addition_time_embed_dim"})

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


class _Level(NamedTuple):
    width: int
    layers: int
    depth: int  # transformer blocks after each residual block; 0: none


def unet() -> OriginalPart:
    """Describe the UNet."""
    return OriginalPart("model.diffusion_model.", _read_config, ASSUMED, _origins, bare=r"input_blocks\.")


def _read_config(shapes: Shapes) -> dict[str, Any]:
    """Return config.json by the shapes of the weights; `Checkpoint.check` then holds all others to it."""
    _size = partial(size, shapes, WHAT)
    levels = _levels(shapes)
    widths = [level.width for level in levels]
    attends = [level.depth > 0 for level in levels]
    context = next((key for key in shapes if key.endswith(".attn2.to_k.weight")), "the cross attention")
    linear = next((len(shape) == 2 for key, shape in shapes.items() if key.endswith(".proj_in.weight")), False)
    config: dict[str, Any] = {
        "_class_name": UNetConfig.CLASS_NAME,
        "in_channels": _size("input_blocks.0.0.weight", 1),
        "out_channels": _size("out.2.weight", 0),
        "down_block_types": ["CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],
        "block_out_channels": widths,
        "layers_per_block": [level.layers for level in levels],
        "transformer_layers_per_block": [max(level.depth, 1) for level in levels],
        "attention_head_dim": [max(width // HEAD_WIDTH, 1) if linear else HEADS for width in widths],
        "cross_attention_dim": _size(context, 1),
        "use_linear_projection": linear,
    }
    if "label_emb.0.0.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_WIDTH,
            "projection_class_embeddings_input_dim": _size("label_emb.0.0.weight", 1),
        }
    lists = ("layers_per_block", "transformer_layers_per_block", "attention_head_dim")
    return {key: value[0] if key in lists and len(set(value)) == 1 else value for key, value in config.items()}


def _levels(shapes: Shapes) -> list[_Level]:
    """Walk the input blocks: residual blocks until one only halves the size, which begins the next level."""
    levels: list[_Level] = []
    widths: list[int] = []
    depths: list[int] = []
    blocks = count(shapes, "input_blocks.")
    if blocks > MAX_BLOCKS:
        raise CheckpointError(f"the UNet has {blocks} input blocks; expected at most {MAX_BLOCKS}")
    keys: dict[str, dict[str, tuple[int, ...]]] = {}  # of each block: a file may have any number
    for key, shape in shapes.items():
        keys.setdefault(".".join(key.split(".", 2)[:2]), {})[key] = shape
    for index in range(1, blocks):
        block = f"input_blocks.{index}"
        if f"{block}.0.op.weight" in shapes:
            levels.append(_level(widths, depths, block))
            widths, depths = [], []
        else:
            widths.append(size(shapes, WHAT, f"{block}.0.out_layers.3.weight", 0))
            depths.append(count(keys.get(block, {}), f"{block}.1.transformer_blocks."))
    return [*levels, _level(widths, depths, "input_blocks")]


def _level(widths: list[int], depths: list[int], where: str) -> _Level:
    if len(set(widths)) != 1 or len(set(depths)) != 1:
        raise CheckpointError(
            f"the UNet has blocks of widths {widths} with {depths} transformer blocks before {where}; expected "
            f"the same in all blocks of a level: it is of no known kind"
        )
    return _Level(widths[0], len(widths), depths[0])


def _origins(config: UNetConfig, names: Iterable[str]) -> Origins:
    modules = _modules(config)
    found = {name: renamed(modules, _RESNET if ".resnets." in name else {}, name) for name in names}
    return {name: Origin(key) for name, key in found.items() if key is not None}


def _modules(config: UNetConfig) -> dict[str, str]:
    """Return the original name of each of diffusers' modules that has another."""
    widths = config.block_out_channels
    layers = per_level(config.layers_per_block, len(widths))
    named = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    index = 1
    for level in range(len(widths)):
        for layer in range(layers[level]):
            named[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{index}.0"
            named[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{index}.1"
            index += 1
        named[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
        index += 1
    index = 0
    for level, blocks in enumerate(reversed(layers)):
        attends = config.up_block_types[level].startswith("CrossAttn")
        for layer in range(blocks + 1):
            named[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{index}.0"
            named[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{index}.1"
            index += 1
        # In the last block of a level, after its attention if there is one.
        named[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{1 + attends}.conv"
    return named
