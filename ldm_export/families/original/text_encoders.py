"""The text encoders of the original layouts: CLIP as transformers names it, and OpenCLIP.

Checked against the conversion of diffusers 0.39. OpenCLIP keeps query, key and value in one matrix, and the projection
transposed. Stable Diffusion 2 has all its layers in the file and reads the output of the last but one, so the last and
the projection are not used; SDXL reads the projection too.
"""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.errors import CheckpointError
from ldm_export.families.original.layout import Origin, OriginalPart, Origins, Shapes, count

HEAD_WIDTH = 64  # of every CLIP that a latent diffusion model reads
_EMBEDDINGS = "embeddings.position_embedding.weight"
# Positions are 0, 1, 2, …; the rest is for comparing texts with images.
_CLIP_UNUSED = r"(?:text_model\.)?embeddings\.position_ids|text_projection(?:\.weight)?|logit_scale"
_ASSUMED = frozenset({"num_attention_heads", "hidden_act", "bos_token_id", "eos_token_id", "pad_token_id"})
_ATTENTION = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def clip(prefix: str) -> OriginalPart:
    """Describe CLIP's text encoder under transformers' names, "text_model." before them or not."""
    return OriginalPart(prefix, _read_clip, _ASSUMED, _clip_origins, _clip_unused)


def open_clip(prefix: str, *, projects: bool) -> OriginalPart:
    """Describe OpenCLIP's text encoder. projects: the pooled output is projected, and all layers are kept."""
    # How many of its layers are used is known of the model that it is for.
    assumed = _ASSUMED if projects else _ASSUMED | {"num_hidden_layers"}
    unused = partial(_unused, projects)
    bare = r"transformer\.resblocks\."
    return OriginalPart(prefix, partial(_read_open_clip, projects), assumed, _open_clip_origins, unused, bare)


def _read_clip(shapes: Shapes) -> dict[str, Any]:
    text = "text_model." if f"text_model.{_EMBEDDINGS}" in shapes else ""
    config = _config(
        shapes,
        tokens=f"{text}embeddings.token_embedding.weight",
        positions=f"{text}{_EMBEDDINGS}",
        middle=f"{text}encoder.layers.0.mlp.fc1.weight",
    )
    layers = count(shapes, f"{text}encoder.layers.")
    return {**config, "num_hidden_layers": layers, "hidden_act": "quick_gelu"}


def _clip_unused(config: TextEncoderConfig) -> str:
    return _CLIP_UNUSED


def _clip_origins(config: TextEncoderConfig, names: Iterable[str]) -> Origins:
    return {name: Origin(name) for name in names}


def _read_open_clip(projects: bool, shapes: Shapes) -> dict[str, Any]:
    config = _config(
        shapes,
        tokens="token_embedding.weight",
        positions="positional_embedding",
        middle="transformer.resblocks.0.mlp.c_fc.weight",
    )
    layers = count(shapes, "transformer.resblocks.")
    config |= {"num_hidden_layers": layers if projects else layers - 1, "hidden_act": "gelu"}
    if not projects:
        return config
    projection = shapes.get("text_projection", ())
    if len(projection) != 2:
        raise CheckpointError("the second text encoder has no text_projection of two axes; fetch the file again")
    return {**config, "architectures": ["CLIPTextModelWithProjection"], "projection_dim": projection[1]}


def _unused(projects: bool, config: TextEncoderConfig) -> str:
    last = "" if projects else rf"|text_projection|transformer\.resblocks\.{config.num_hidden_layers}\..+"
    return rf"logit_scale|attn_mask|visual\..+{last}"


def _config(shapes: Shapes, *, tokens: str, positions: str, middle: str) -> dict[str, Any]:
    """Return what is common to both; begin, end and padding are those of the configs that were published with them."""
    sizes = []
    for key in (tokens, positions, middle):
        shape = shapes.get(key, ())
        if len(shape) != 2:
            raise CheckpointError(f"the text encoder has no {key} of two axes; fetch the file again")
        sizes.append(shape)
    (vocabulary, width), (window, _), (inner, _) = sizes
    return {
        "model_type": TextEncoderConfig.MODEL_TYPE,
        "architectures": [TextEncoderConfig.CLASS_NAME],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": max(width // HEAD_WIDTH, 1),
        "max_position_embeddings": window,
        "bos_token_id": 0,
        "eos_token_id": 2,  # the end of a prompt is where its highest id is
        "pad_token_id": 1,
    }


def _open_clip_origins(config: TextEncoderConfig, names: Iterable[str]) -> Origins:
    found = {name: _open_clip_origin(name) for name in names}
    return {name: origin for name, origin in found.items() if origin is not None}


def _open_clip_origin(name: str) -> Origin | None:
    named = {
        "text_model.embeddings.token_embedding.weight": Origin("token_embedding.weight"),
        "text_model.embeddings.position_embedding.weight": Origin("positional_embedding"),
        "text_model.final_layer_norm.weight": Origin("ln_final.weight"),
        "text_model.final_layer_norm.bias": Origin("ln_final.bias"),
        "text_projection.weight": Origin("text_projection", turned=True),
    }
    if name in named:
        return named[name]
    layer = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if layer is None:
        return None
    block, inner, kind = layer.groups()
    attention = inner.removeprefix("self_attn.")
    if attention in _ATTENTION:
        return Origin(f"transformer.resblocks.{block}.attn.in_proj_{kind}", third=_ATTENTION[attention])
    return Origin(f"transformer.resblocks.{block}.{_LAYER[inner]}.{kind}") if inner in _LAYER else None
