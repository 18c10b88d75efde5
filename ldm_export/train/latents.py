"""The data of stages 2 and 3: latents of images on their backgrounds, with captions in varied wordings."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ldm_export.errors import TrainingError
from ldm_export.models import AutoencoderKL
from ldm_export.recipes.train import Background, TrainRecipe
from ldm_export.train.image_folder import Images, batch_indices, caption_on, step_random, vary_caption
from ldm_runtime.errors import LdmError
from ldm_runtime.package.manifest import LatentSpec
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import read_tokenizer
from ldm_runtime.text.clip_tokenizer import BOS, EOS, ClipTokenizer

PLAIN_NAMED = 0.25  # of the captions of images on the plain background, if the recipe has a name for it


@dataclass(frozen=True)
class LatentSet:
    """Unscaled latents of N images on G backgrounds, float32 (N, G, C, h, w), with the images' captions and tags.

    They are means of the autoencoder's posterior: the decoder removes its noise, so there is nothing to learn in it.
    """

    mean: Tensor
    images: Images

    def select(self, rows: np.ndarray, backgrounds: np.ndarray) -> Tensor:
        """Select latents (B, C, h, w) by row and background."""
        return self.mean[torch.from_numpy(rows), torch.from_numpy(backgrounds)]


class Captions:
    """The tokenizer, with ids of a fixed length: BOS, tokens, EOS, then EOS as padding."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self.max_length = max_length
        file = folder / "tokenizer.json"
        try:
            clip = read_tokenizer(file.read_bytes(), file.name)
            self.bos, self.eos = (_known(clip, token) for token in (BOS, EOS))
        except (OSError, LdmError) as error:
            raise TrainingError(f"{file} is damaged ({error}); remove {folder} and train again") from None
        self.vocab_size = clip.size
        self._encoder = ClipEncoder(clip)

    def __call__(self, captions: list[str]) -> Tensor:
        """Tokenize captions to ids, int64 (B, max_length)."""
        ids = torch.full((len(captions), self.max_length), self.eos, dtype=torch.int64)
        for row, caption in zip(ids, captions, strict=True):
            tokens = [self.bos, *islice(self._encoder.encode(caption), self.max_length - 2)]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids


def _known(clip: ClipTokenizer, token: str) -> int:
    index = clip.id_of(token)
    if index is None:
        raise TrainingError(f"it has no token {token}")
    return index


@dataclass(frozen=True)
class Batch:
    """The data of one step: rows of a LatentSet and their backgrounds, int64 (B,), and their captions."""

    rows: np.ndarray
    backgrounds: np.ndarray
    captions: list[str]


@dataclass(frozen=True)
class Corpus:
    """The data of stages 2 and 3: latents with captions, and the autoencoder (eval mode) that encoded them.

    `space` gives latents unit deviation. Figures are measured on the held-out set, or on the trained one without it.
    """

    recipe: TrainRecipe
    trained: LatentSet
    held_out: LatentSet
    vae: AutoencoderKL
    space: LatentSpec
    captions: Captions

    @property
    def measured(self) -> LatentSet:
        return self.held_out if len(self.held_out.images) > 0 else self.trained

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of one image's latents."""
        channels, height, width = self.trained.mean.shape[2:]
        return channels, height, width

    def latents(self, part: LatentSet, batch: Batch) -> Tensor:
        """Select the scaled latents (B, C, h, w) of a batch."""
        return self.space.scaled(part.select(batch.rows, batch.backgrounds))

    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode scaled latents (B, C, h, w) to images around [-1, 1], float32 (B, 3, H, W)."""
        images: np.ndarray = self.vae.decode(self.space.unscaled(latents)).float().cpu().numpy()
        return images

    def batch(self, size: int, stage: int, step: int) -> Batch:
        """Draw the data of a step, a pure function of the recipe's seed, the stage and the step."""
        rows = batch_indices(len(self.trained.images), size, step, self.recipe.seed, stage)
        random = step_random(self.recipe.seed, stage, step)
        backgrounds = self.choose_backgrounds(size, random)
        captions = [self.vary_caption(row, each, random) for row, each in zip(rows, backgrounds, strict=True)]
        return Batch(rows, backgrounds, captions)

    def measured_batch(self, size: int) -> Batch:
        """Return the same `size` rows each time, on every background in turn, with their captions unvaried."""
        images, kinds = self.measured.images, self.recipe.data.all_backgrounds
        rows, backgrounds = np.arange(size) % len(images), np.arange(size) % len(kinds)
        pairs = zip(rows, backgrounds, strict=True)
        captions = [caption_on(images.captions[row], kinds[background]) for row, background in pairs]
        return Batch(rows, backgrounds, captions)

    def choose_backgrounds(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Choose the plain background at the recipe's rate, one of the named ones otherwise; int64 (count,)."""
        named = len(self.recipe.data.all_backgrounds) - 1
        chosen = random.integers(1, named + 1, count) if named > 0 else np.zeros(count, np.int64)
        return np.where(random.random(count) < self.recipe.captions.plain_probability, 0, chosen)

    def vary_caption(self, row: int, background: int, random: np.random.Generator) -> str:
        """Word a trained image's caption; now and then leave it empty, for classifier-free guidance."""
        wording, images = self.recipe.captions, self.trained.images
        if random.random() < wording.dropout:
            return ""
        tag, short = wording.tag_probability, wording.short_probability
        caption = vary_caption(images.captions[row], images.tags[row], random, tag=tag, short=short)
        under = self.recipe.data.all_backgrounds[background]
        if background == 0 and random.random() < PLAIN_NAMED:
            under = Background(wording.plain_name, under.colour)
        return caption_on(caption, under)
