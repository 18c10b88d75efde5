"""Tiny checkpoints of every kind, for sections that run on each."""

from collections.abc import Callable
from pathlib import Path

from tests.families.test_latent_consistency import SCHEDULER
from tests.oracles import build_tiny_sd, with_tiny_autoencoder

CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "SD 1": build_tiny_sd,
    "SD 2": lambda folder: build_tiny_sd(folder, "sd21"),
    "SDXL": lambda folder: build_tiny_sd(folder, "sdxl"),
    "inpainting": lambda folder: build_tiny_sd(folder, "inpaint"),
    "LCM with embedded guidance": lambda folder: build_tiny_sd(
        folder, unet={"time_cond_proj_dim": 32}, scheduler=SCHEDULER
    ),
    "tiny autoencoder": lambda folder: with_tiny_autoencoder(build_tiny_sd(folder)),
}
