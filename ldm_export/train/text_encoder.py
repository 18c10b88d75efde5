"""Stage 2: the text encoder learns what its captions look like, before a UNet uses it.

Rombach et al. 2022 (arXiv 2112.10752) condition on a text encoder that was trained before, on far more captions than a
small model has. Ours predicts, through one linear layer, the latents of the captioned image, that is, their mean over
all images that the caption fits. The UNet then finds the image's content in the context; teaching the text encoder
through the UNet's own layers would take many times as long.
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
HEAD = "foretell"  # the head's name in state files


class TextEncoderStage:
    """The training of a text encoder, with a linear head that predicts latents."""

    name = "text_encoder"

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self.corpus, self.recipe, self.device = corpus, corpus.recipe, device
        torch.manual_seed(self.recipe.seed)
        text_encoder = CLIPTextModel(self.recipe.text_encoder_config(corpus.captions.vocab_size)).to(device)
        head = nn.Linear(self.recipe.text_encoder.width, math.prod(corpus.shape)).to(device)
        self.modules: dict[str, nn.Module] = {"text_encoder": text_encoder.train(), HEAD: head}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        size = self.recipe.text_encoder.optimiser.batch_size
        batch = self.corpus.batch(size, STAGE, step)
        generator = step_generator(self.recipe.seed, STAGE, step)
        latents = self.corpus.latents(self.corpus.trained, batch)
        predicted = self._predict_latents(self.modules, batch.captions, torch.rand(size, generator=generator))
        return F.mse_loss(predicted, latents.to(self.device)), {}

    def _predict_latents(self, modules: dict[str, nn.Module], captions: list[str], shares: Tensor) -> Tensor:
        """Predict latents (B, C, h, w) from the hidden state of one token at or after EOS.

        shares (B,) in [0, 1): how far that token is from EOS to the window's end. All of these tokens come after the
        whole caption, and the UNet attends to them all.
        """
        ids = self.corpus.captions(captions)
        eos = (ids == self.corpus.captions.eos).int().argmax(dim=1)
        tokens = eos + (shares * (self.corpus.captions.max_length - eos)).long()
        with precision(self.device, self.recipe.mixed_precision):
            hidden = modules["text_encoder"](ids.to(self.device))[0]  # (B, T, D)
            predicted = modules[HEAD](hidden[torch.arange(len(captions)), tokens])
        return predicted.float().view(-1, *self.corpus.shape)

    @torch.no_grad()
    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        """Measure the error and the share of captions whose own latents are nearest, held out; save samples."""
        batch = self.corpus.measured_batch(MEASURED)
        predicted = self._predict_latents(averages, batch.captions, torch.zeros(MEASURED)).cpu()
        latents = self.corpus.latents(self.corpus.measured, batch)
        prompts = self.recipe.samples.prompts
        if prompts:
            images = self.corpus.decode(self._predict_latents(averages, list(prompts), torch.zeros(len(prompts))))
            save_samples(image_grid(images, columns=8, captions=prompts), folder, step)
        return {
            "held_out_loss": float(F.mse_loss(predicted, latents)),
            "held_out_nearest": float((self._nearest(predicted, batch.backgrounds) == batch.rows).mean()),
        }

    def _nearest(self, predicted: Tensor, backgrounds: np.ndarray) -> np.ndarray:
        """Return the row of the nearest image on the same background, for each prediction, int64 (B,).

        The measured images come first, then the trained ones.
        """
        sets = (self.corpus.measured, self.corpus.trained)
        known = self.corpus.space.scaled(torch.cat([part.mean for part in sets]))  # (M + N, G, C, h, w)
        nearest = np.empty(len(predicted), np.int64)
        for background in np.unique(backgrounds):
            rows = np.flatnonzero(backgrounds == background)
            distances = torch.cdist(predicted[rows].flatten(1), known[:, int(background)].flatten(1))
            nearest[rows] = distances.argmin(dim=1).numpy()
        return nearest
