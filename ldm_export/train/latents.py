"""What the text encoder and the UNet learn from: latents of pictures on their grounds, with captions in many words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from ldm_export.models import AutoencoderKL
from ldm_export.recipes.train import Ground, TrainRecipe
from ldm_export.train.image_folder import Pictures, batch_indices, caption_with_ground, step_random, vary_caption
from ldm_export.train.tokenizer import EOS
from ldm_runtime.errors import TrainingError

PLAIN_NAMED = 0.25  # of the captions of pictures on the plain background, if the recipe has a name for it


@dataclass(frozen=True)
class LatentSet:
    """Latents of N pictures on G grounds, float32 (N, G, C, h, w), with captions and tags of the same pictures.

    They are means of the autoencoder's posterior: its noise is what the decoder removes, and nothing to learn.
    """

    mean: Tensor
    pictures: Pictures

    def chosen(self, rows: np.ndarray, grounds: np.ndarray) -> Tensor:
        """Latents (B, C, h, w) of some rows, each on one of the grounds."""
        return self.mean[torch.from_numpy(rows), torch.from_numpy(grounds)]


class Captions:
    """Turns texts to ids of a fixed length: BOS, tokens, EOS, then EOS as padding."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self.max_length = max_length
        file = folder / "tokenizer.json"
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
            self.eos = self.tokenizer.token_to_id(EOS)
            if self.eos is None:
                raise ValueError(f"it has no token {EOS}")
        except Exception as error:  # tokenizers raises plain Exception
            raise TrainingError(f"{file} is damaged ({error}); remove {folder} and train again") from None
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.enable_padding(length=max_length, pad_id=self.eos, pad_token=EOS)

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def __call__(self, texts: list[str]) -> Tensor:
        """int64 (B, max_length)."""
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(texts)], dtype=torch.int64)


@dataclass(frozen=True)
class Batch:
    """What a step learns from: rows of a LatentSet and their grounds, int64 (B,), and their captions."""

    rows: np.ndarray
    grounds: np.ndarray
    texts: list[str]


@dataclass(frozen=True)
class Corpus:
    """All that stages 2 and 3 learn from: latents with captions, and the autoencoder (eval mode) they came from.

    `scale` gives latents unit deviation. Figures are measured on the held-out set, or on the trained one without it.
    """

    recipe: TrainRecipe
    trained: LatentSet
    held_out: LatentSet
    vae: AutoencoderKL
    scale: float
    captions: Captions

    @property
    def measured(self) -> LatentSet:
        return self.held_out if len(self.held_out.pictures) > 0 else self.trained

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a latent."""
        channels, height, width = self.trained.mean.shape[2:]
        return channels, height, width

    def batch(self, size: int, stage: int, step: int) -> Batch:
        """What a step trains on, a pure function of the recipe's seed, the stage and the step."""
        rows = batch_indices(len(self.trained.pictures), size, step, self.recipe.seed, stage)
        random = step_random(self.recipe.seed, stage, step)
        grounds = self.choose_grounds(size, random)
        texts = [self.vary_caption(row, ground, random) for row, ground in zip(rows, grounds, strict=True)]
        return Batch(rows, grounds, texts)

    def measured_batch(self, size: int) -> Batch:
        """Always the same `size` rows, on every ground in turn, with their captions as they are."""
        pictures, kinds = self.measured.pictures, self.recipe.data.grounds
        rows, grounds = np.arange(size) % len(pictures), np.arange(size) % len(kinds)
        texts = [caption_with_ground(pictures.captions[row], kinds[g]) for row, g in zip(rows, grounds, strict=True)]
        return Batch(rows, grounds, texts)

    def choose_grounds(self, count: int, random: np.random.Generator) -> np.ndarray:
        """The plain ground at the recipe's rate, one of the named ones otherwise; int64 (count,)."""
        named = len(self.recipe.data.grounds) - 1
        chosen = random.integers(1, named + 1, count) if named > 0 else np.zeros(count, np.int64)
        return np.where(random.random(count) < self.recipe.captions.plain_probability, 0, chosen)

    def vary_caption(self, row: int, ground: int, random: np.random.Generator) -> str:
        """One wording of a trained picture's caption; now and then none, for guidance without a classifier."""
        wording, pictures = self.recipe.captions, self.trained.pictures
        if random.random() < wording.dropout:
            return ""
        tag, short = wording.tag_probability, wording.short_probability
        caption = vary_caption(pictures.captions[row], pictures.tags[row], random, tag=tag, short=short)
        stands_on = self.recipe.data.grounds[ground]
        if ground == 0 and random.random() < PLAIN_NAMED:
            stands_on = Ground(wording.plain_name, stands_on.colour)
        return caption_with_ground(caption, stands_on)
