"""Stage 1: the autoencoder, on reconstruction, perceptual distance and KL (Rombach et al. 2022, arXiv 2112.10752).
Stage 4: its decoder once more, by itself, on latents with noise.

No adversarial term: it needs far more steps than a small model is given before it helps.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.errors import TrainingError
from ldm_export.models import AutoencoderKL
from ldm_export.plots import image_grid
from ldm_export.recipes.train import AutoencoderRecipe, Background, TrainRecipe
from ldm_export.train.image_folder import (
    Images,
    Split,
    batch_indices,
    compose,
    compose_on_backgrounds,
    step_random,
)
from ldm_export.train.log import save_samples
from ldm_export.train.loop import place, precision, step_generator
from ldm_export.train.perceptual import PerceptualDistance
from ldm_runtime.image import from_levels
from ldm_runtime.package.manifest import LOG_VARIANCE

STAGE = 1
DECODER_STAGE = 5  # 4 is the number of the UNet's held-out loss
SAMPLES = 16  # images in a sample grid
MEASURED = 64  # images behind the held-out figures


class AutoencoderStage:
    """The training of a new autoencoder."""

    name = "autoencoder"

    def __init__(self, recipe: TrainRecipe, images: Split, device: torch.device) -> None:
        self.recipe, self.images, self.device = recipe, images, device
        torch.manual_seed(recipe.seed)
        vae = place(AutoencoderKL(recipe.vae_config()), device)
        for part in (vae.encoder, vae.decoder):
            part.gradient_checkpointing = recipe.gradient_checkpointing
        self.modules: dict[str, nn.Module] = {"vae": vae.train()}
        self.reconstruction = ReconstructionLoss(recipe.autoencoder, device)

    def batch(self, step: int) -> Tensor:
        """Draw the crops of a step."""
        return draw_crops(self.recipe, self.images.trained, self.recipe.autoencoder.optimiser.batch_size, STAGE, step)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        vae, images = cast(AutoencoderKL, self.modules["vae"]), self.batch(step).to(self.device)
        generator = step_generator(self.recipe.seed, STAGE, step)
        with precision(self.device, self.recipe.mixed_precision):
            mean, logvar = posterior(vae, images)
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            decoded = vae.decode(mean + torch.exp(0.5 * logvar) * noise)
            terms = self.reconstruction.terms(decoded, images, step)
            terms["kl"] = kl_divergence(mean, logvar)
        return self.reconstruction.weighted_sum(terms, step)

    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        return evaluate_autoencoder(self.recipe, self.images, averages, step, folder, self.device)


class DecoderStage:
    """The training of a trained autoencoder's decoder on latents with white noise; the encoder stays as it is.

    A UNet draws latents near those of images, not among them. scale: gives latents unit deviation.
    """

    name = "decoder"

    def __init__(
        self, recipe: TrainRecipe, images: Split, device: torch.device, vae: AutoencoderKL, scale: float
    ) -> None:
        assert recipe.decoder is not None
        self.recipe, self.images, self.device = recipe, images, device
        self.batch_size = recipe.decoder.optimiser.batch_size
        self.deviation = recipe.decoder.noise / scale
        own = copy.deepcopy(vae).requires_grad_(True)
        for part in (own.encoder, own.quant_conv):
            if part is not None:
                part.requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"vae": own.train()}
        self.reconstruction = ReconstructionLoss(recipe.autoencoder, device)

    def batch(self, step: int) -> Tensor:
        """Draw the crops of a step."""
        return draw_crops(self.recipe, self.images.trained, self.batch_size, DECODER_STAGE, step)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        vae, images = cast(AutoencoderKL, self.modules["vae"]), self.batch(step).to(self.device)
        generator = step_generator(self.recipe.seed, DECODER_STAGE, step)
        with precision(self.device, self.recipe.mixed_precision):
            with torch.no_grad():
                mean, _ = posterior(vae, images)
            deviations = self.deviation * torch.rand((len(mean), 1, 1, 1), generator=generator)
            noise = deviations * torch.randn(mean.shape, generator=generator)
            decoded = vae.decode(mean + noise.to(self.device))
            terms = self.reconstruction.terms(decoded, images, step)
        return self.reconstruction.weighted_sum(terms, step)

    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        return evaluate_autoencoder(self.recipe, self.images, averages, step, folder, self.device)


class ReconstructionLoss:
    """The terms of an autoencoder's loss, and their sum with the recipe's weights."""

    def __init__(self, recipe: AutoencoderRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.perceptual = None
        if recipe.perceptual > 0:
            assert recipe.perceptual_weights is not None  # the recipe's rules
            self.perceptual = place(PerceptualDistance(recipe.perceptual_weights), device)

    def terms(self, decoded: Tensor, images: Tensor, step: int) -> dict[str, Tensor]:
        """Compare decoded images with the original ones; the perceptual distance on some steps only."""
        terms = {"l1": F.l1_loss(decoded.float(), images), "mse": F.mse_loss(decoded.float(), images)}
        if self.perceptual is not None and step % self.recipe.perceptual_every == 0:
            terms["perceptual"] = self.perceptual(decoded, images).float()
        return terms

    def weighted_sum(self, terms: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, float]]:
        """Sum the terms with the recipe's weights; return the terms for the log too."""
        recipe = self.recipe
        kl = recipe.kl * min((step + 1) / max(recipe.kl_warmup_steps, 1), 1)
        perceptual = recipe.perceptual * recipe.perceptual_every
        weights = {"l1": recipe.l1, "mse": recipe.mse, "kl": kl, "perceptual": perceptual}
        loss = sum((weights[name] * term for name, term in terms.items()), torch.zeros((), device=self.device))
        return loss, {name: float(term.detach()) for name, term in terms.items()}


def draw_crops(recipe: TrainRecipe, images: Images, batch_size: int, stage: int, step: int) -> Tensor:
    """Draw random crops for a step, float32 (B, 3, crop, crop) in [-1, 1], on random backgrounds.

    Half of them are mirrored, and colours are shuffled at the recipe's rate.
    """
    size = recipe.data.size
    crop = recipe.autoencoder.crop if recipe.autoencoder.crop > 0 else size
    random = step_random(recipe.seed, stage, step)
    colours = [background.colour for background in recipe.data.all_backgrounds]
    cuts = []
    for row in batch_indices(len(images), batch_size, step, recipe.seed, stage):
        y, x = random.integers(0, size - crop + 1, 2)
        cut = images.rgba(row)[y : y + crop, x : x + crop]
        cut = compose(cut, np.array(colours[random.integers(len(colours))]))
        mirrored, shuffled = random.random(2) < (0.5, recipe.autoencoder.shuffle_colours)
        cut = cut[:, ::-1] if mirrored else cut
        cuts.append(cut[..., random.permutation(3)] if shuffled else cut)
    return to_tensor(np.stack(cuts))


@torch.no_grad()
def evaluate_autoencoder(
    recipe: TrainRecipe, images: Split, averages: dict[str, nn.Module], step: int, folder: Path, device: torch.device
) -> dict[str, float]:
    """Measure reconstructions of held-out images, or of trained ones where none are held out; save some of them."""
    vae = cast(AutoencoderKL, averages["vae"])
    measured = images.held_out if len(images.held_out) > 0 else images.trained
    pixels = compose_on_backgrounds(measured, recipe.data.all_backgrounds, MEASURED)
    originals, reconstructions, means, logvars = [], [], [], []
    for start in range(0, len(pixels), SAMPLES):
        batch = to_tensor(pixels[start : start + SAMPLES]).to(device)
        mean, logvar = posterior(vae, batch)
        originals.append(batch.cpu())
        reconstructions.append(vae.decode(mean).float().clamp(-1, 1).cpu())
        means.append(mean.cpu())
        logvars.append(logvar.cpu())
    original, decoded = torch.cat(originals), torch.cat(reconstructions)
    pairs = torch.stack([original[:SAMPLES], decoded[:SAMPLES]], dim=1).flatten(0, 1)
    save_samples(image_grid(pairs.numpy(), columns=8), folder, step)
    return {
        "held_out_loss": float(F.l1_loss(decoded, original)),
        "held_out_psnr": psnr(decoded, original),
        **latent_statistics(torch.cat(means), torch.cat(logvars)),
    }


def to_tensor(levels: np.ndarray) -> Tensor:
    """Convert uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(from_levels(levels))


def posterior(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Encode images to mean and log-variance of their latents, float32 (B, C, h, w) each."""
    mean, logvar = vae.encode(images).float().chunk(2, dim=1)
    return mean, logvar.clamp(*LOG_VARIANCE)


def latent_statistics(mean: Tensor, logvar: Tensor) -> dict[str, float]:
    """Measure the latents (N, C, h, w): KL in nats per element, and the number of active channels.

    A channel is active where the variance of its mean over images exceeds 0.01 (Burda et al. 2016, arXiv 1509.00519).
    """
    return {
        "kl": float(kl_divergence(mean, logvar)),
        "latent_deviation": float(mean.std()),
        "active_channels": int((mean.transpose(0, 1).flatten(1).var(dim=1) > 0.01).sum()),
    }


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Compute the KL divergence to the unit normal in nats, the mean over latent elements; a scalar."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def psnr(decoded: Tensor, original: Tensor) -> float:
    """Compute the PSNR in dB over all images together, values in [-1, 1]."""
    return float(10 * torch.log10(4 / F.mse_loss(decoded.clamp(-1, 1), original)))


@torch.no_grad()
def encode_images(
    vae: AutoencoderKL, images: Images, backgrounds: Sequence[Background], device: torch.device, mixed: bool
) -> Tensor:
    """Encode every image on every background to the mean of its latents, float32 (N, G, C, h, w) on the CPU."""
    colours = np.array([background.colour for background in backgrounds])[:, None, None]
    means = []
    for index in range(len(images)):
        batch = to_tensor(compose(images.rgba(index)[None], colours)).to(device)
        with precision(device, mixed):
            means.append(posterior(vae, batch)[0].cpu())
    return torch.stack(means)


def latent_scale(latents: Tensor) -> float:
    """Return the factor that gives latents unit deviation. Raises TrainingError for latents that are all the same."""
    deviation = float(latents.double().std())
    if not 0 < deviation < math.inf:
        raise TrainingError(
            f"the latents of the images to train on have the deviation {deviation}; expected images that differ"
        )
    return 1 / deviation
