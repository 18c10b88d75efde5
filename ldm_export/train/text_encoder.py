"""Stage 2: the text encoder learns what its captions look like, before any UNet is there to use it.

Rombach et al. 2022 (arXiv 2112.10752) condition on a text encoder that was trained before, on far more captions than a
small model has. Ours foretells, through one linear layer, the latents of the captioned picture: their mean, that is,
over all pictures a caption fits. The UNet then finds in the context what to draw, which it would take many times as
long to teach the text encoder through its own layers.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.models import CLIPTextModel
from ldm_export.plots import image_grid
from ldm_export.train.latents import Corpus
from ldm_export.train.log import save_samples
from ldm_export.train.loop import precision, step_generator

STAGE = 2
MEASURED = 256  # captions behind the held-out figures


class TextEncoderStage:
    """Trains a text encoder and the layer that reads it."""

    name = "text_encoder"

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self.corpus, self.recipe, self.device = corpus, corpus.recipe, device
        torch.manual_seed(self.recipe.seed)
        text_encoder = CLIPTextModel(self.recipe.text_encoder_config(corpus.captions.vocab_size)).to(device)
        foretell = nn.Linear(self.recipe.text_encoder.width, math.prod(corpus.shape)).to(device)
        self.modules: dict[str, nn.Module] = {"text_encoder": text_encoder.train(), "foretell": foretell}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        size = self.recipe.text_encoder.optimiser.batch_size
        batch = self.corpus.batch(size, STAGE, step)
        generator = step_generator(self.recipe.seed, STAGE, step)
        wanted = self.corpus.trained.chosen(batch.rows, batch.grounds) * self.corpus.scale
        foretold = self._foretell(self.modules, batch.texts, torch.rand(size, generator=generator))
        return F.mse_loss(foretold, wanted.to(self.device)), {}

    def _foretell(self, modules: dict[str, nn.Module], texts: list[str], places: Tensor) -> Tensor:
        """Latents (B, C, h, w) from the hidden state at EOS or any padding after it, at a share `places` (B,) of them.

        All of them come after the whole caption, and the UNet reads them all.
        """
        ids = self.corpus.captions(texts)
        first = (ids == self.corpus.captions.eos).int().argmax(dim=1)
        read = first + (places * (self.corpus.captions.max_length - first)).long()
        with precision(self.device, self.recipe.mixed_precision):
            hidden = modules["text_encoder"](ids.to(self.device))[0]  # (B, T, D)
            foretold = modules["foretell"](hidden[torch.arange(len(texts)), read])
        return foretold.float().view(-1, *self.corpus.shape)

    @torch.no_grad()
    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        """How far from held-out latents, for how many captions theirs is the nearest of all, and decoded examples."""
        batch = self.corpus.measured_batch(MEASURED)
        foretold = self._foretell(averages, batch.texts, torch.zeros(MEASURED)).cpu()
        wanted = self.corpus.measured.chosen(batch.rows, batch.grounds) * self.corpus.scale
        prompts = self.recipe.samples.prompts
        if prompts:
            latents = self._foretell(averages, list(prompts), torch.zeros(len(prompts)))
            pictures = self.corpus.vae.decode(latents / self.corpus.scale).float().cpu().numpy()
            save_samples(image_grid(pictures, columns=8, captions=prompts), folder, step)
        return {
            "held_out_loss": float(F.mse_loss(foretold, wanted)),
            "held_out_nearest": float((self._nearest(foretold, batch.grounds) == batch.rows).mean()),
        }

    def _nearest(self, foretold: Tensor, grounds: np.ndarray) -> np.ndarray:
        """For each the row of the measured picture that is nearest on its ground; beyond them are trained pictures."""
        sets = (self.corpus.measured, self.corpus.trained)
        known = torch.cat([part.mean for part in sets]) * self.corpus.scale  # (M + N, G, C, h, w)
        nearest = np.empty(len(foretold), np.int64)
        for ground in np.unique(grounds):
            asked = np.flatnonzero(grounds == ground)
            distances = torch.cdist(foretold[asked].flatten(1), known[:, int(ground)].flatten(1))
            nearest[asked] = distances.argmin(dim=1).numpy()
        return nearest
