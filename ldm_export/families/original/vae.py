"""The autoencoder of the original layouts; its key names are those of CompVis' `diffusionmodules/model.py`.

Checked against the conversion of diffusers 0.39. The attention's projections are convolutions of one pixel there.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from ldm_export.configs.vae import VAEConfig
from ldm_export.families.original.layout import Origin, OriginalPart, Origins, Shapes, count, renamed, size

_LEAVES = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def vae(scaling_factor: float) -> OriginalPart:
    """Describe the autoencoder, whose files do not say what its latents are scaled by."""
    read = partial(_read_config, scaling_factor)
    assumed = frozenset({"scaling_factor"})
    return OriginalPart("first_stage_model.", read, assumed, _origins, _unused, bare=r"(?:encoder\.down|decoder\.up)\.")


def _read_config(scaling_factor: float, shapes: Shapes) -> dict[str, Any]:
    """Return config.json by the shapes of the weights; `Checkpoint.check` then holds all others to it."""
    _size = partial(size, shapes, "autoencoder")
    levels = count(shapes, "encoder.down.")
    widths = [_size(f"encoder.down.{level}.block.0.conv1.weight", 0) for level in range(levels)]
    return {
        "_class_name": VAEConfig.CLASS_NAME,
        "in_channels": _size("encoder.conv_in.weight", 1),
        "out_channels": _size("decoder.conv_out.weight", 0),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": widths,
        "layers_per_block": count(shapes, "encoder.down.0.block."),
        "latent_channels": _size("decoder.conv_in.weight", 1),
        "scaling_factor": scaling_factor,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in shapes,
    }


def _unused(config: VAEConfig) -> str:
    return r"loss\..+|model_ema\..+"  # what training kept beside it


def _origins(config: VAEConfig, names: Iterable[str]) -> Origins:
    modules = _modules(config)
    return {name: Origin(key) for name in names if (key := renamed(modules, _LEAVES, name)) is not None}


def _modules(config: VAEConfig) -> dict[str, str]:
    """Return the original name of each of diffusers' modules."""
    levels = len(config.block_out_channels)
    named = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        named |= {f"{half}.{conv}": f"{half}.{conv}" for conv in ("conv_in", "conv_out")}
        named |= {f"{half}.mid_block.resnets.{index}": f"{half}.mid.block_{index + 1}" for index in (0, 1)}
        named[f"{half}.mid_block.attentions.0"] = f"{half}.mid.attn_1"
        named[f"{half}.conv_norm_out"] = f"{half}.norm_out"
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for layer in range(config.layers_per_block + 1):  # the decoder has one more
            named[f"{down}.resnets.{layer}"] = f"encoder.down.{level}.block.{layer}"
            named[f"{up}.resnets.{layer}"] = f"decoder.up.{level}.block.{layer}"
        named[f"{down}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
        named[f"{up}.upsamplers.0.conv"] = f"decoder.up.{level}.upsample.conv"
    return named
