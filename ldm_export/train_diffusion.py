"""Stage 2: the UNet and the text encoder together, on the latents of a trained autoencoder.

After Rombach et al. 2022 (arXiv 2112.10752), but the text encoder is trained too: there is none to borrow. Dropped
captions make guidance without a classifier possible (Ho and Salimans 2022, arXiv 2207.12598).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ldm_export.diffusion import DiffusionLoss
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.pictures import Pictures, batch_indices, caption_with_ground, step_random, vary_caption
from ldm_export.recipe import Ground, TrainRecipe
from ldm_export.train_tokenizer import EOS
from ldm_export.training_log import picture_grid
from ldm_export.training_loop import place, precision, step_generator
from ldm_runtime.plan import compile_plan
from ldm_runtime.rng import initial_noise, row_noise
from ldm_runtime.sampler import guide, run_plan
from ldm_runtime.schedule import NoiseSchedule

STAGE = 2
MEASURED = 256  # (picture, timestep) pairs behind the held-out loss
PLAIN_NAMED = 0.25  # of the captions of pictures on the plain background, if the recipe has a name for it


@dataclass(frozen=True)
class LatentSet:
    """Moments of N pictures on G grounds, float32 (N, G, C, h, w), with captions and tags of the same pictures."""

    mean: Tensor
    logvar: Tensor
    pictures: Pictures

    def draw(self, rows: np.ndarray, grounds: np.ndarray, noise: Tensor, scale: float) -> Tensor:
        """Scaled latents (B, C, h, w) of some rows, each on one of the grounds, drawn with `noise` of that shape."""
        chosen = torch.from_numpy(rows), torch.from_numpy(grounds)
        return (self.mean[chosen] + torch.exp(0.5 * self.logvar[chosen]) * noise) * scale


class Captions:
    """Turns texts to ids of a fixed length: BOS, tokens, EOS, then EOS as padding."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.enable_padding(length=max_length, pad_id=self.tokenizer.token_to_id(EOS), pad_token=EOS)

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def __call__(self, texts: list[str]) -> Tensor:
        """int64 (B, max_length)."""
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(texts)], dtype=torch.int64)


class DiffusionStage:
    """Trains on `trained`; `vae` (eval mode) decodes the sample pictures."""

    name = "diffusion"

    def __init__(
        self,
        recipe: TrainRecipe,
        trained: LatentSet,
        held_out: LatentSet,
        vae: AutoencoderKL,
        scale: float,
        captions: Captions,
        device: torch.device,
    ) -> None:
        self.recipe, self.trained, self.vae, self.scale = recipe, trained, vae, scale
        self.measured = held_out if len(held_out.pictures) > 0 else trained
        self.captions, self.device = captions, device
        self.schedule = noise_schedule(recipe)
        self.score = DiffusionLoss(self.schedule, recipe.diffusion.min_snr_gamma, device)
        torch.manual_seed(recipe.seed)
        unet = place(UNet2DConditionModel(recipe.unet_config()), device)
        unet.gradient_checkpointing = recipe.gradient_checkpointing
        text_encoder = CLIPTextModel(recipe.text_encoder_config(captions.vocab_size)).to(device)
        self.modules: dict[str, nn.Module] = {"unet": unet.train(), "text_encoder": text_encoder.train()}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        stage = self.recipe.diffusion
        seed, size = self.recipe.seed, stage.optimiser.batch_size
        rows = batch_indices(len(self.trained.pictures), size, step, seed, STAGE)
        random = step_random(seed, STAGE, step)
        grounds = self._choose_grounds(size, random)
        texts = [self._caption(row, ground, random) for row, ground in zip(rows, grounds, strict=True)]
        generator = step_generator(seed, STAGE, step)
        loss = self._loss_of(self.modules, self.trained, rows, grounds, texts, generator)
        return loss, {}

    def _choose_grounds(self, count: int, random: np.random.Generator) -> np.ndarray:
        """The plain ground at the recipe's rate, one of the named ones otherwise; int64 (count,)."""
        named = len(self.recipe.data.grounds) - 1
        chosen = random.integers(1, named + 1, count) if named > 0 else np.zeros(count, np.int64)
        return np.where(random.random(count) < self.recipe.diffusion.plain_probability, 0, chosen)

    def _caption(self, row: int, ground: int, random: np.random.Generator) -> str:
        stage, pictures = self.recipe.diffusion, self.trained.pictures
        caption, tags = pictures.captions[row], pictures.tags[row]
        if random.random() < stage.caption_dropout:
            return ""
        caption = vary_caption(caption, tags, random, tag=stage.tag_probability, short=stage.short_probability)
        stands_on = self.recipe.data.grounds[ground]
        if ground == 0 and random.random() < PLAIN_NAMED:
            stands_on = Ground(stage.plain_name, stands_on.colour)
        return caption_with_ground(caption, stands_on)

    def _loss_of(
        self,
        modules: dict[str, nn.Module],
        latents: LatentSet,
        rows: np.ndarray,
        grounds: np.ndarray,
        texts: list[str],
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of rows with these captions; every random number comes from the generator, on the CPU."""
        shape = (len(rows), *latents.mean.shape[2:])
        clean = latents.draw(rows, grounds, torch.randn(shape, generator=generator), self.scale)
        noise = torch.randn(shape, generator=generator)
        timesteps = torch.randint(0, self.schedule.num_train_timesteps, (len(rows),), generator=generator)
        clean, noise, timesteps = (tensor.to(self.device) for tensor in (clean, noise, timesteps))
        with precision(self.device, self.recipe.mixed_precision):
            context = modules["text_encoder"](self.captions(texts).to(self.device))[0]  # (B, T, D)
            noised = self.score.noised(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
            predicted = modules["unet"](noised, timesteps.float(), context)
        return self.score(predicted, clean, noise, timesteps)

    @torch.no_grad()
    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        """The loss on held-out pictures, always with the same noise and timesteps; and a grid of samples."""
        rows = np.arange(MEASURED) % len(self.measured.pictures)
        kinds = self.recipe.data.grounds
        grounds = np.arange(MEASURED) % len(kinds)
        captions = self.measured.pictures.captions
        texts = [caption_with_ground(captions[row], kinds[ground]) for row, ground in zip(rows, grounds, strict=True)]
        generator = step_generator(self.recipe.seed, STAGE + 1, 0)
        loss = float(self._loss_of(averages, self.measured, rows, grounds, texts, generator))
        prompts = self.recipe.samples.prompts
        if prompts:
            pictures = self.sample(averages, prompts)
            picture_grid(pictures, columns=8, captions=prompts).save(folder / f"samples-{step:06d}.png")
        return {"held_out_loss": loss}

    @torch.no_grad()
    def sample(self, modules: dict[str, nn.Module], prompts: tuple[str, ...]) -> np.ndarray:
        """Pictures (N, 3, H, W) of the prompts, image i with seed + i, by the runtime's own plan and noise."""
        samples = self.recipe.samples
        plan = compile_plan(self.schedule, samples.sampler, samples.steps)
        shape = tuple(self.trained.mean.shape[2:])  # (C, h, w)
        ids = self.captions([*([""] * len(prompts)), *prompts]).to(self.device)
        context = modules["text_encoder"](ids)[0]  # (2N, T, D)

        def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
            batch = torch.from_numpy(np.concatenate([x, x])).to(self.device)
            output = modules["unet"](batch, torch.tensor(timestep, device=self.device), context).float().cpu().numpy()
            uncond, cond = np.split(output, 2)
            return guide(uncond, cond, samples.guidance)

        latents = initial_noise(samples.seed, len(prompts), shape)
        noises = {row: row_noise(samples.seed, len(prompts), row, shape) for row in range(len(plan.rows))}
        for at in run_plan(plan, denoise, latents, noises.__getitem__):
            latents = at.latents
        decoded = self.vae.decode(torch.from_numpy(latents / np.float32(self.scale)).to(self.device))
        return decoded.float().cpu().numpy()


def noise_schedule(recipe: TrainRecipe) -> NoiseSchedule:
    schedule = recipe.schedule
    return NoiseSchedule(
        num_train_timesteps=schedule.train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type=recipe.diffusion.prediction,
        timestep_spacing=schedule.timestep_spacing,
        steps_offset=1,  # what diffusers' pipeline sets anyway
        set_alpha_to_one=True,
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
    )
