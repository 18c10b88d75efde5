"""Other layouts' names of our parameters, as data; checked against the conversions of diffusers 0.39.

Ours are the names of the published diffusers checkpoints. A rule is a pattern that matches a whole key, and
what the key becomes: another name, or None where the tensor is dropped on purpose. The first rule that
matches applies; a key that none matches keeps its name.
"""

import re

Rules = tuple[tuple[str, str | None], ...]

# diffusers before 0.15 (AttentionBlock); the VAEs of SD 1.x and 2.x on the hub still have these names.
_ATTENTION = r"((?:encoder|decoder)\.mid_block\.attentions\.0)"

AUTOENCODER: Rules = (
    (_ATTENTION + r"\.query\.(weight|bias)", r"\1.to_q.\2"),
    (_ATTENTION + r"\.key\.(weight|bias)", r"\1.to_k.\2"),
    (_ATTENTION + r"\.value\.(weight|bias)", r"\1.to_v.\2"),
    (_ATTENTION + r"\.proj_attn\.(weight|bias)", r"\1.to_out.0.\2"),
)
# Their projections were convolutions with kernels of one pixel, as in the first latent diffusion models.
_MATRIX = re.compile(_ATTENTION + r"\.to_(?:q|k|v|out\.0)\.weight")

CLIP_TEXT_MODEL: Rules = (
    # 0, 1, 2, …: a buffer that transformers before 4.31 saved.
    (r"(?:text_model\.)?embeddings\.position_ids", None),
    # transformers 5 saves without the prefix.
    (r"((?:embeddings|encoder|final_layer_norm)\..+)", r"text_model.\1"),
    # The other half of a whole CLIP.
    (r"logit_scale|visual_projection\.weight|vision_model\..+", None),
)
# Of a model that reads hidden states only.
CLIP_TEXT_MODEL_WITHOUT_PROJECTION: Rules = (*CLIP_TEXT_MODEL, (r"text_projection\.weight", None))
UNET_KEYS: Rules = (
    # A name without a dot is of no module: a number that a trainer kept, such as `unet_ema_decay`.
    (r"[^.]+", None),
)


def parameter_name(rules: Rules, key: str) -> str | None:
    """Return our name of a checkpoint's key, or None where a rule drops it."""
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return None if replacement is None else match.expand(replacement)
    return key


def as_matrix(rules: Rules, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a parameter, without the kernel where a convolution of one pixel is a matrix here."""
    is_kernel = rules is AUTOENCODER and shape[2:] == (1, 1) and _MATRIX.fullmatch(name) is not None
    return shape[:2] if is_kernel else shape
