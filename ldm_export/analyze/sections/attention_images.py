"""Maps of the attention to captions on images of the folder, with noise of three levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.attention_maps import Layer, Size, grouped, recorded
from ldm_export.analyze.caption_tokens import BEGIN, CONCEPT, END, REST, token_groups
from ldm_export.analyze.denoiser import Denoiser, noise_levels
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import TorchEngine
from ldm_export.errors import AnalysisError
from ldm_runtime.sampling.solvers.rows import Level
from ldm_runtime.text.tokenizer import Tokenizer

GROUPS = (BEGIN, CONCEPT, REST, END)
BLOCK = 4  # images at once
FEWEST = 4  # images
LEVELS = 3  # of noise


@dataclass(frozen=True)
class ImageMaps:
    """Maps of N images at L levels. numbers: of the images.

    maps: size -> (N, L, groups + 1, h, w), shares of the groups of tokens, and the entropy in nats as the last.
    """

    numbers: list[int]
    levels: Sequence[Level]
    maps: dict[Size, np.ndarray]


def record_layers(study: Study) -> list[Layer]:
    """Evaluate once, and return the attentions to the text that were seen. Raises AnalysisError if there are none."""
    role = study.subject.contract.denoiser
    part = study.subject.checkpoint.specs[role.component].part
    denoiser = Denoiser(study.subject, TorchEngine(study.subject, role.component))
    with recorded(study.subject.model(part)) as recorder:
        denoiser.output(np.zeros_like(study.latents[:1]), 0.0, denoiser.condition([""]))
    if not recorder.layers:
        raise AnalysisError("the denoiser has no attention to the text: it reads it in another way, or not at all")
    return recorder.layers


def measure_maps(study: Study, sizes: Sequence[Size], count: int) -> ImageMaps:
    """Record maps of these sizes on at most `count` images of the folder, under their captions."""
    captions, contract = study.pictures.captions, study.subject.contract
    tokenizer = Tokenizer(study.subject.pipe.package, contract.text[0].tokenizer)
    groups = [token_groups(caption, tokenizer, contract.window) for caption in captions]
    order = study.random("attention images").permutation(len(captions))
    usable = [int(number) for number in order if groups[number][CONCEPT]]
    if len(usable) < FEWEST:
        raise AnalysisError(f"captions of {len(usable)} images have words; it takes {FEWEST}")
    numbers = sorted(usable[:count])
    levels = noise_levels(contract.schedule, LEVELS + 2)[1:-1]
    denoiser = Denoiser(study.subject, TorchEngine(study.subject, contract.denoiser.component))
    model = study.subject.model(study.subject.checkpoint.specs[contract.denoiser.component].part)

    def make(part: Sequence[int]) -> np.ndarray:
        condition = denoiser.condition([captions[number] for number in part])
        random, latents = [study.random(f"attention noise {number}") for number in part], study.latents[list(part)]
        noise = np.stack([each.standard_normal(latents.shape[1:], np.float32) for each in random])
        found = []
        for level in levels:
            noised = np.float32(level.alpha) * latents + np.float32(level.sigma) * noise
            with recorded(model) as recorder:
                denoiser.output(noised, level.timestep, condition)
            taken = recorder.take()
            rows = []
            for row, number in enumerate(part):
                each = [grouped(taken[size].of(row), groups[number]) for size in sizes]
                rows.append(np.concatenate([one.reshape(len(one), -1) for one in each], axis=1))
            found.append(np.stack(rows))
        return np.stack(found, axis=1)  # (n, L, groups + 1, cells of all sizes)

    flat = study.in_blocks("attention maps", numbers, study.at_once(BLOCK), make)
    ends = np.cumsum([height * width for height, width in sizes])
    parts = np.split(flat, ends[:-1], axis=-1)
    maps = {size: part.reshape(*part.shape[:-1], *size) for size, part in zip(sizes, parts, strict=True)}
    return ImageMaps(numbers, levels, maps)


def shown(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
