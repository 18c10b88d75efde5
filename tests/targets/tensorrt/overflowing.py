"""A tiny package whose UNet and autoencoder have values beyond fp16's range on the way, as SDXL's autoencoder has.

Only what writes their residual streams is larger; norms undo that, so that outputs are of order one.
"""

import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests import tiny_build
from tests.oracles import build_tiny_sd

FACTOR = 30_000.0
WRITERS = re.compile(r"(^|\.)(conv_in|conv2|to_out\.0|proj_out)\.(weight|bias)$")
INNER = re.compile(r"transformer_blocks")  # streams of their own, which stay


def make(folder: Path) -> Path:
    """Build and prove the package; return its folder."""
    source = build_tiny_sd(folder / "source", "sd15")
    for part in ("unet", "vae"):
        enlarge(source / part / "diffusion_pytorch_model.safetensors")
    return tiny_build.prove(tiny_build.packaged(folder, source), folder / "proven")


def enlarge(file: Path) -> None:
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if WRITERS.search(name) and not INNER.search(name):
            tensors[name] = np.float32(FACTOR) * tensor
    save_file(tensors, file, {"format": "pt"})
