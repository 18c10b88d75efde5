"""Stage 1: the autoencoder, on reconstruction, perceptual distance and KL (Rombach et al. 2022, arXiv 2112.10752).
Stage 4: its decoder once more, by itself, on latents with noise.

No adversarial term: it needs far more steps than a small model is given before it helps.
"""

import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.models import AutoencoderKL
from ldm_export.plots import image_grid
from ldm_export.recipes.train import Ground, TrainRecipe
from ldm_export.train.image_folder import Pictures, batch_indices, compose, step_random
from ldm_export.train.log import save_samples
from ldm_export.train.loop import place, precision, step_generator
from ldm_export.train.perceptual import PerceptualDistance
from ldm_runtime.errors import TrainingError

SHOWN = 16  # pictures in a sample grid
MEASURED = 64  # pictures behind the held-out figures


class AutoencoderStage:
    """Trains on `trained`, measures on `held_out` (or on trained pictures when none is held out)."""

    name = "autoencoder"
    number = 1  # distinguishes the stage's random numbers

    def __init__(self, recipe: TrainRecipe, trained: Pictures, held_out: Pictures, device: torch.device) -> None:
        self.recipe, self.trained, self.device = recipe, trained, device
        self.batch_size = recipe.autoencoder.optimiser.batch_size
        self.measured = held_out if len(held_out) > 0 else trained
        torch.manual_seed(recipe.seed)
        vae = place(AutoencoderKL(recipe.vae_config()), device)
        for part in (vae.encoder, vae.decoder):
            part.gradient_checkpointing = recipe.gradient_checkpointing
        self.modules: dict[str, nn.Module] = {"vae": vae.train()}
        stage = recipe.autoencoder
        self.distance = None
        if stage.perceptual > 0:
            assert stage.perceptual_weights is not None  # the recipe's rules
            self.distance = place(PerceptualDistance(stage.perceptual_weights), device)

    @property
    def _vae(self) -> AutoencoderKL:
        return cast(AutoencoderKL, self.modules["vae"])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        vae = self._vae
        pictures = self._batch(step)
        generator = step_generator(self.recipe.seed, self.number, step)
        with precision(self.device, self.recipe.mixed_precision):
            mean, logvar = vae.encode(pictures).float().chunk(2, dim=1)
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            decoded = vae.decode(mean + torch.exp(0.5 * clamped(logvar)) * noise)
            terms = self._distances(decoded, pictures, step)
            terms["kl"] = kl_divergence(mean, clamped(logvar))
        return self._weighed(terms, step)

    def _distances(self, decoded: Tensor, pictures: Tensor, step: int) -> dict[str, Tensor]:
        """What is wrong with the decoded pictures; the perceptual distance on some steps only."""
        terms = {"l1": F.l1_loss(decoded.float(), pictures), "mse": F.mse_loss(decoded.float(), pictures)}
        if self.distance is not None and step % self.recipe.autoencoder.perceptual_every == 0:
            terms["perceptual"] = self.distance(decoded, pictures).float()
        return terms

    def _weighed(self, terms: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, float]]:
        """The sum with the recipe's weights, and the terms for the log."""
        stage = self.recipe.autoencoder
        kl = stage.kl * min((step + 1) / max(stage.kl_warmup_steps, 1), 1)
        perceptual = stage.perceptual * stage.perceptual_every
        weights = {"l1": stage.l1, "mse": stage.mse, "kl": kl, "perceptual": perceptual}
        loss = sum((weights[name] * term for name, term in terms.items()), torch.zeros((), device=self.device))
        return loss, {name: float(term.detach()) for name, term in terms.items()}

    def _batch(self, step: int) -> Tensor:
        """(B, 3, crop, crop) in [-1, 1]: random places, mirrored half the time, colours shuffled at the given rate."""
        stage = self.recipe.autoencoder
        size = self.recipe.data.size
        crop = stage.crop if stage.crop > 0 else size
        random = step_random(self.recipe.seed, self.number, step)
        rows = batch_indices(len(self.trained), self.batch_size, step, self.recipe.seed, self.number)
        colours = [ground.colour for ground in self.recipe.data.grounds]
        cuts = []
        for row in rows:
            y, x = random.integers(0, size - crop + 1, 2)
            cut = self.trained.rgba[row, y : y + crop, x : x + crop]
            cut = compose(cut, np.array(colours[random.integers(len(colours))]))
            mirrored, shuffled = random.random(2) < (0.5, stage.shuffle_colours)
            cut = cut[:, ::-1] if mirrored else cut
            cuts.append(cut[..., random.permutation(3)] if shuffled else cut)
        return to_tensor(np.stack(cuts), self.device)

    @torch.no_grad()
    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        vae = cast(AutoencoderKL, averages["vae"])
        pixels = on_every_ground(self.measured, self.recipe.data.grounds, MEASURED)
        wanted, got, means, logvars = [], [], [], []
        for start in range(0, len(pixels), SHOWN):
            batch = to_tensor(pixels[start : start + SHOWN], self.device)
            mean, logvar = vae.encode(batch).chunk(2, dim=1)
            wanted.append(batch.cpu())
            got.append(vae.decode(mean).float().clamp(-1, 1).cpu())
            means.append(mean.cpu())
            logvars.append(clamped(logvar).cpu())
        pictures, decoded = torch.cat(wanted), torch.cat(got)
        pairs = torch.stack([pictures[:SHOWN], decoded[:SHOWN]], dim=1).flatten(0, 1)
        save_samples(image_grid(pairs.numpy(), columns=8), folder, step)
        return {
            "held_out_loss": float(F.l1_loss(decoded, pictures)),
            "held_out_psnr": psnr(decoded, pictures),
            **latent_statistics(torch.cat(means), torch.cat(logvars)),
        }


class DecoderStage(AutoencoderStage):
    """Trains the decoder of a trained autoencoder on latents with white noise; its encoder stays as it is.

    What a UNet draws is near the latents of pictures, not among them. scale: gives latents unit deviation.
    """

    name = "decoder"
    number = 5  # 4 is what the UNet is measured with

    def __init__(
        self,
        recipe: TrainRecipe,
        trained: Pictures,
        held_out: Pictures,
        device: torch.device,
        vae: AutoencoderKL,
        scale: float,
    ) -> None:
        super().__init__(recipe, trained, held_out, device)
        assert recipe.decoder is not None
        self.batch_size = recipe.decoder.optimiser.batch_size
        self.deviation = recipe.decoder.noise / scale
        self.modules["vae"].load_state_dict(vae.state_dict())
        for part in (self._vae.encoder, self._vae.quant_conv):
            if part is not None:
                part.requires_grad_(False)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        pictures = self._batch(step)
        generator = step_generator(self.recipe.seed, self.number, step)
        with precision(self.device, self.recipe.mixed_precision):
            with torch.no_grad():
                mean, _ = self._vae.encode(pictures).float().chunk(2, dim=1)
            deviations = self.deviation * torch.rand((len(mean), 1, 1, 1), generator=generator)
            noise = deviations * torch.randn(mean.shape, generator=generator)
            decoded = self._vae.decode(mean + noise.to(self.device))
            terms = self._distances(decoded, pictures, step)
        return self._weighed(terms, step)


def on_every_ground(pictures: Pictures, grounds: tuple[Ground, ...], limit: int) -> np.ndarray:
    """uint8 (N, size, size, 3): up to `limit` of the pictures, evenly chosen, each on one of the grounds in turn."""
    rgba = pictures.rgba[:: max(1, math.ceil(len(pictures) / limit))]
    colours = np.array([grounds[index % len(grounds)].colour for index in range(len(rgba))])
    return compose(rgba, colours[:, None, None])


def latent_statistics(mean: Tensor, logvar: Tensor) -> dict[str, float]:
    """What the latents (N, C, h, w) carry: KL in nats per element, and how many channels are active.

    A channel is active where the variance of its mean over pictures exceeds 0.01 (Burda et al. 2016, arXiv 1509.00519).
    """
    return {
        "kl": float(kl_divergence(mean, logvar)),
        "latent_deviation": float(mean.std()),
        "active_channels": int((mean.transpose(0, 1).flatten(1).var(dim=1) > 0.01).sum()),
    }


def to_tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], channels last in memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)
    return tensor.float() / 127.5 - 1


def clamped(logvar: Tensor) -> Tensor:
    """Log-variances in diffusers' range, so that its sampling of the same moments is ours."""
    return logvar.clamp(-30.0, 20.0)


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL to the unit normal in nats, the mean over latent elements; a scalar."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def psnr(got: Tensor, wanted: Tensor) -> float:
    """In dB over all pictures together, values in [-1, 1]."""
    return float(10 * torch.log10(4 / F.mse_loss(got.clamp(-1, 1), wanted)))


@torch.no_grad()
def encode_pictures(
    vae: AutoencoderKL, pictures: Pictures, grounds: tuple[Ground, ...], device: torch.device, mixed: bool
) -> Tensor:
    """Mean of every picture's latent on every ground, float32 (N, G, C, h, w) on the CPU."""
    colours = np.array([ground.colour for ground in grounds])[:, None, None]
    means = []
    for rgba in pictures.rgba:
        batch = to_tensor(compose(rgba[None], colours), device)
        with precision(device, mixed):
            means.append(vae.encode(batch).float().chunk(2, dim=1)[0].cpu())
    return torch.stack(means)


def latent_scale(latents: Tensor) -> float:
    """The factor that gives latents unit standard deviation. Raises TrainingError for latents that are all the same."""
    deviation = float(latents.double().std())
    if not 0 < deviation < math.inf:
        raise TrainingError(
            f"the latents of the pictures to train on have the deviation {deviation}; expected pictures that differ"
        )
    return 1 / deviation
