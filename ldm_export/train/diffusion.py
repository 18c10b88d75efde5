"""Stage 3: the UNet, on the latents of a trained autoencoder and the context of a trained text encoder.

After Rombach et al. 2022 (arXiv 2112.10752). Dropped captions make classifier-free guidance possible (Ho and Salimans
2022, arXiv 2207.12598).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ldm_export.models import CLIPTextModel, UNet2DConditionModel
from ldm_export.plots import image_grid
from ldm_export.train.latents import Batch, Corpus, LatentSet
from ldm_export.train.log import save_samples
from ldm_export.train.loop import place, precision, step_generator
from ldm_export.train.losses import DiffusionLoss
from ldm_runtime.noise import Noise
from ldm_runtime.noise.philox import batch_seeds
from ldm_runtime.sampling.loop import guide, run_plan
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.solvers import read_sampler

STAGE = 3
MEASURED = 256  # (image, timestep) pairs behind the held-out loss


class DiffusionStage:
    """The training of a UNet on the context of a trained text encoder (eval mode), which stays as it is."""

    name = "diffusion"

    def __init__(self, corpus: Corpus, text_encoder: CLIPTextModel, device: torch.device) -> None:
        self.corpus, self.recipe, self.text_encoder, self.device = corpus, corpus.recipe, text_encoder, device
        self.schedule = self.recipe.noise_schedule()
        self.score = DiffusionLoss(self.schedule, self.recipe.diffusion.min_snr_gamma, device)
        torch.manual_seed(self.recipe.seed)
        unet = place(UNet2DConditionModel(self.recipe.unet_config()), device)
        unet.gradient_checkpointing = self.recipe.gradient_checkpointing
        self.modules: dict[str, nn.Module] = {"unet": unet.train()}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batch = self.corpus.batch(self.recipe.diffusion.optimiser.batch_size, STAGE, step)
        generator = step_generator(self.recipe.seed, STAGE, step)
        return self._batch_loss(self.modules["unet"], self.corpus.trained, batch, generator), {}

    def _batch_loss(self, unet: nn.Module, part: LatentSet, batch: Batch, generator: torch.Generator) -> Tensor:
        """Compute the loss of a batch; every random number comes from the generator, on the CPU."""
        clean = self.corpus.latents(part, batch)
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = spread_timesteps(len(clean), self.schedule.num_train_timesteps, generator)
        clean, noise, timesteps = (tensor.to(self.device) for tensor in (clean, noise, timesteps))
        with precision(self.device, self.recipe.mixed_precision):
            context = self._context(batch.captions)
            noised = self.score.noised(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
            predicted = unet(noised, timesteps.float(), context)
        return self.score(predicted, clean, noise, timesteps)

    @torch.no_grad()
    def _context(self, captions: list[str]) -> Tensor:
        """Encode captions to their context (B, T, D)."""
        context: Tensor = self.text_encoder(self.corpus.captions(captions).to(self.device))[0]
        return context

    @torch.no_grad()
    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        """Measure the loss on held-out images, each time with the same noise and timesteps; save a grid of samples."""
        generator = step_generator(self.recipe.seed, STAGE + 1, 0)
        batch = self.corpus.measured_batch(MEASURED)
        loss = float(self._batch_loss(averages["unet"], self.corpus.measured, batch, generator))
        prompts = self.recipe.samples.prompts
        if prompts:
            images = self.sample(averages["unet"], prompts)
            save_samples(image_grid(images, columns=8, captions=prompts), folder, step)
        return {"held_out_loss": loss}

    @torch.no_grad()
    def sample(self, unet: nn.Module, prompts: tuple[str, ...]) -> np.ndarray:
        """Sample an image of each prompt by the runtime's own plan and noise, image i with seed + i: (N, 3, H, W)."""
        samples = self.recipe.samples
        plan = compile_plan(self.schedule, read_sampler(samples.sampler), samples.steps)
        context = self._context([*([""] * len(prompts)), *prompts])  # (2N, T, D)

        def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
            batch = torch.from_numpy(np.concatenate([x, x])).to(self.device)
            output = unet(batch, torch.tensor(timestep, device=self.device), context).float().cpu().numpy()
            uncond, cond = np.split(output, 2)
            return guide(uncond, cond, samples.guidance)

        noise = Noise("philox", batch_seeds(samples.seed, len(prompts)), self.corpus.shape)
        for at in run_plan(plan, denoise, noise.initial(), noise.row):
            latents = at.latents
        return self.corpus.decode(torch.from_numpy(latents.copy()).to(self.device))


def spread_timesteps(count: int, train_timesteps: int, generator: torch.Generator) -> Tensor:
    """Draw timesteps int64 (count,), each uniform in [0, train_timesteps), evenly spread in a batch.

    One offset for all of them makes the loss less noisy (Kingma et al. 2021, arXiv 2107.00630).
    """
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    places = (torch.arange(count, dtype=torch.float64) / count + offset) % 1
    return (places * train_timesteps).long().clamp(max=train_timesteps - 1)
