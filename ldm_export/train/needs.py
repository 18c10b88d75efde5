"""Estimates of the memory and disk space that a training needs, checked before it starts."""

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.errors import TrainingError
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.recipes.train import TrainRecipe
from ldm_export.train.image_folder import Split
from ldm_runtime.memory import available_memory

TRAINED_BYTES = 20  # a parameter: itself, its gradient, its average, and two moments of the optimiser, in float32
KEPT_BYTES = 4  # a parameter that is used and not trained
SAVED_BYTES = 16  # a parameter in state.pt: all of these but the gradient


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters of the models; `head` is the layer that predicts latents in stage 2."""

    vae: int
    text_encoder: int
    head: int
    unet: int


def count_parameters(recipe: TrainRecipe) -> Sizes:
    """Count the parameters of the recipe's models without making them, with the largest vocabulary it may learn."""
    vae = recipe.vae_config()
    latent = recipe.vae.latent_channels * (recipe.data.size // vae.downsample) ** 2
    return Sizes(
        vae=_count(vae),
        text_encoder=_count(recipe.text_encoder_config(recipe.tokenizer.vocab_size)),
        head=(recipe.text_encoder.width + 1) * latent,
        unet=_count(recipe.unet_config()),
    )


def require_memory(recipe: TrainRecipe, device: torch.device) -> None:
    """Raise TrainingError for the stage that would need the most, if that is more than there is.

    This is the least that the stage needs: parameters with all that training keeps of them, and a batch at the
    models' finest level with its gradient. The other levels need more, by an amount that differs by machine.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    stage, (parameters, needed) = max(memory_needs(recipe).items(), key=lambda item: item[1][1])
    if free is not None and needed > free:
        raise TrainingError(
            f"the stage {stage} would train {parameters:,} parameters and need at least {needed / 1e9:.1f} GB of "
            f"memory; available are {free / 1e9:.1f} GB: make the model or its batch smaller, or use a larger machine"
        )


def memory_needs(recipe: TrainRecipe) -> dict[str, tuple[int, int]]:
    """Map each stage to the number of parameters that it trains and the least bytes that it needs."""
    sizes, size = count_parameters(recipe), recipe.data.size
    latent = size // recipe.vae_config().downsample
    crop = recipe.autoencoder.crop if recipe.autoencoder.crop > 0 else size

    def need(trained: int, kept: int, values: int) -> tuple[int, int]:
        """Add up a stage's needs; values: of the batch's finest feature map, float32, with its gradient."""
        return trained, TRAINED_BYTES * trained + KEPT_BYTES * kept + 8 * values

    finest = recipe.vae.widths[0] * crop**2
    tokens = recipe.tokenizer.max_length * recipe.text_encoder.width
    text, both = recipe.text_encoder.optimiser.batch_size * tokens, sizes.vae + sizes.text_encoder
    drawn = recipe.diffusion.optimiser.batch_size * recipe.unet.widths[0] * latent**2
    needs = {
        "autoencoder": need(sizes.vae, 0, recipe.autoencoder.optimiser.batch_size * finest),
        "text_encoder": need(sizes.text_encoder + sizes.head, sizes.vae, text),
        "diffusion": need(sizes.unet, both, drawn),
    }
    if recipe.decoder is not None:
        needs["decoder"] = need(sizes.vae, sizes.vae, recipe.decoder.optimiser.batch_size * finest)
    return needs


def require_room(recipe: TrainRecipe, runs: Path, images: Split) -> None:
    """Raise TrainingError unless the missing parts of the run folder fit onto the disk.

    The disk is that of the nearest folder above `runs` that exists.
    """
    sizes, run = count_parameters(recipe), runs / recipe.name
    downsample = recipe.vae_config().downsample
    latent = recipe.vae.latent_channels * (recipe.data.size // downsample) ** 2 * len(recipe.data.all_backgrounds)
    states = {
        "autoencoder": sizes.vae,
        "text_encoder": sizes.text_encoder + sizes.head,
        "diffusion": sizes.unet,
        "decoder": sizes.vae if recipe.decoder is not None else 0,
    }
    lacking = [count for name, count in states.items() if not (run / name / "state.pt").exists()]
    needed = SAVED_BYTES * (sum(lacking) + max(states.values()))  # a new state is written beside the old one
    needed += KEPT_BYTES * (sizes.vae + sizes.text_encoder + sizes.unet)
    for name, part in zip(("trained", "held_out"), images, strict=True):
        if not (run / f"latents-{name}.safetensors").exists():
            needed += 4 * latent * len(part)
    place = runs.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise TrainingError(
            f"{run} will need {needed / 1e9:.1f} GB more; free on that disk are {free / 1e9:.1f} GB: make room, or "
            f"give another --runs"
        )


@functools.cache
def _count(config: TextEncoderConfig | UNetConfig | VAEConfig) -> int:
    with torch.device("meta"):
        model: nn.Module
        if isinstance(config, TextEncoderConfig):
            model = CLIPTextModel(config)
        else:
            model = UNet2DConditionModel(config) if isinstance(config, UNetConfig) else AutoencoderKL(config)
    return sum(parameter.numel() for parameter in model.parameters())
