"""What a recipe's models will need of memory and disk, known before anything starts; refused where it is not there."""

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.process.isolate import available_memory
from ldm_export.recipes.train import TrainRecipe
from ldm_export.train.image_folder import Pictures
from ldm_runtime.errors import TrainingError

TRAINED_BYTES = 20  # of a parameter: itself, its gradient, its average, and two moments of the optimiser, in float32
KEPT_BYTES = 4  # of a parameter that is used and not trained
SAVED_BYTES = 16  # of a parameter in state.pt: all of these but the gradient


@dataclass(frozen=True)
class Sizes:
    """Parameters of the models; `foretell` is the layer that reads the text encoder while it learns."""

    vae: int
    text_encoder: int
    foretell: int
    unet: int


def count_parameters(recipe: TrainRecipe) -> Sizes:
    """Of the recipe's models, without making them; of the text encoder with the largest vocabulary it may learn."""
    vae = recipe.vae_config()
    latent = recipe.vae.latent_channels * (recipe.data.size // vae.downsample) ** 2
    return Sizes(
        vae=_count(vae),
        text_encoder=_count(recipe.text_encoder_config(recipe.tokenizer.vocab_size)),
        foretell=(recipe.text_encoder.width + 1) * latent,
        unet=_count(recipe.unet_config()),
    )


def require_memory(recipe: TrainRecipe, device: torch.device) -> None:
    """Raise TrainingError for the stage that would need the most, if that is more than there is.

    It is the least that the stage needs: parameters with all that training keeps of them, and a batch at the models'
    finest level with its gradient. What lies between is more, and differs by machine.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    stage, (parameters, needed) = max(memory_needs(recipe).items(), key=lambda item: item[1][1])
    if free is not None and needed > free:
        raise TrainingError(
            f"the stage {stage} would train {parameters:,} parameters and need at least {needed / 1e9:.1f} GB of "
            f"memory; available are {free / 1e9:.1f} GB: make the model or its batch smaller, or use a larger machine"
        )


def memory_needs(recipe: TrainRecipe) -> dict[str, tuple[int, int]]:
    """Stage -> parameters that it trains, and the least bytes that it needs."""
    sizes, size = count_parameters(recipe), recipe.data.size
    latent = size // recipe.vae_config().downsample
    crop = recipe.autoencoder.crop if recipe.autoencoder.crop > 0 else size

    def need(trained: int, kept: int, values: int) -> tuple[int, int]:
        """values: of the batch's finest feature map; float32, with its gradient."""
        return trained, TRAINED_BYTES * trained + KEPT_BYTES * kept + 8 * values

    finest = recipe.vae.widths[0] * crop**2
    tokens = recipe.tokenizer.max_length * recipe.text_encoder.width
    text, both = recipe.text_encoder.optimiser.batch_size * tokens, sizes.vae + sizes.text_encoder
    drawn = recipe.diffusion.optimiser.batch_size * recipe.unet.widths[0] * latent**2
    needs = {
        "autoencoder": need(sizes.vae, 0, recipe.autoencoder.optimiser.batch_size * finest),
        "text_encoder": need(sizes.text_encoder + sizes.foretell, sizes.vae, text),
        "diffusion": need(sizes.unet, both, drawn),
    }
    if recipe.decoder is not None:
        needs["decoder"] = need(sizes.vae, sizes.vae, recipe.decoder.optimiser.batch_size * finest)
    return needs


def require_room(recipe: TrainRecipe, runs: Path, pictures: tuple[Pictures, Pictures]) -> None:
    """Raise TrainingError unless what the run folder still lacks fits onto the disk.

    runs: the nearest folder above it that exists is looked at.
    """
    sizes, run = count_parameters(recipe), runs / recipe.name
    downsample = recipe.vae_config().downsample
    latent = recipe.vae.latent_channels * (recipe.data.size // downsample) ** 2 * len(recipe.data.grounds)
    states = {
        "autoencoder": sizes.vae,
        "text_encoder": sizes.text_encoder + sizes.foretell,
        "diffusion": sizes.unet,
        "decoder": sizes.vae if recipe.decoder is not None else 0,
    }
    lacking = [count for name, count in states.items() if not (run / name / "state.pt").exists()]
    needed = SAVED_BYTES * (sum(lacking) + max(states.values()))  # a new state is written beside the old one
    needed += KEPT_BYTES * (sizes.vae + sizes.text_encoder + sizes.unet)
    for name, part in zip(("trained", "held_out"), pictures, strict=True):
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
