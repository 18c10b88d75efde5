"""Interpolation between two prompts and seeds: images in between, as a strip or an animation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from ldm_runtime.checks import check_integer
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.noise import Noise
from ldm_runtime.notice import Notice
from ldm_runtime.request import SampleOptions, choose_size
from ldm_runtime.request_texts import check_texts
from ldm_runtime.request_values import check_name, check_pair
from ldm_runtime.run import Run
from ldm_runtime.sampling.loop import slerp

if TYPE_CHECKING:
    from PIL import Image

    from ldm_runtime.pipeline import Pipeline

MOST_FRAMES = 1000
ENDINGS = (".png", ".gif")
ENDS = ("the prompt to start from", "the prompt to end at")
SAME = Notice("text", "prompts and seeds are the same at both ends, so all images are the same")
OWN = ("count", "latents", "pooled_prompt_embeds", "prompt_embeds", "seed")  # options that follow from the two ends
SPENT = ("noise", "seed", "syntax")  # options that have had their effect before a frame's run


@dataclass(frozen=True)
class Interpolation:
    """The frames between two prompts and seeds: iterating over it draws them. notices: those about all frames."""

    notices: tuple[Notice, ...]
    _ends: "_Ends"

    def __len__(self) -> int:
        return self._ends.frames

    def __iter__(self) -> "Iterator[Image.Image]":
        ends = self._ends
        for index in range(ends.frames):
            share = index / (ends.frames - 1)
            *_, last = ends.run(share)
            image = last.images()[0]
            del image.info["conditioning"]  # the embeddings are those of the prompts
            for name, fact in ends.metadata(share).items():
                image.info[name] = fact
            yield image


@dataclass(frozen=True)
class _Ends:
    pipe: "Pipeline"
    prompts: tuple[str, str]
    seeds: tuple[int, int]
    frames: int
    noises: tuple[np.ndarray, np.ndarray]  # float32 (1, C, h, w)
    embeds: np.ndarray  # float32 (2, T, D)
    pooled: np.ndarray  # float32 (2, P)
    options: SampleOptions

    def run(self, share: float) -> Run:
        """Start the run of the frame that is a share of the way from the first end."""
        between, pooled = ((1.0 - share) * each[:1] + share * each[1:] for each in (self.embeds, self.pooled))
        options: SampleOptions = {
            **self.options,
            "latents": slerp(*self.noises, share),
            "prompt_embeds": between.astype(self.embeds.dtype),
            **({"pooled_prompt_embeds": pooled.astype(self.pooled.dtype)} if self.pooled.size else {}),
            "seed": self.seeds[0],
        }
        return self.pipe.sample(**options)

    def metadata(self, share: float) -> dict[str, str]:
        """Describe the ends of a frame, whose own run knows only the noise and the embeddings between them."""
        syntax = self.options.get("syntax", "plain")
        first, second = self.seeds
        return {
            "prompt": " to ".join(self.prompts),
            "between": f"{share:.9g}",
            "seed": f"{first} to {second}",
            "noise": self.options.get("noise", "philox"),
            **({} if syntax == "plain" else {"syntax": syntax}),
        }


def interpolate(
    pipe: "Pipeline", prompts: tuple[str, str], seeds: tuple[int, int], frames: int, **options: Unpack[SampleOptions]
) -> Interpolation:
    """Draw `frames` images from the first prompt and seed to the second, both included.

    Embeddings go along the straight line, noise along the arc, which keeps its deviation. The options are those of
    `Pipeline.sample` but for OWN. Raises InputError at once for what is not usable.
    """
    for name in OWN:
        if name in options:
            raise InputError(f"interpolate takes no {name}: it follows from the two prompts and seeds")
    count = check_integer("frames", frames, 2, MOST_FRAMES)
    prompts = check_pair("prompts", prompts, "two texts, to start from and to end at")
    check_texts("prompts", prompts)
    first, second = (check_integer("seed", seed, 0, 2**64 - 1) for seed in check_pair("seeds", seeds, "two integers"))
    contract = pipe.contract
    width, height = choose_size(contract, options.get("size"))
    step = contract.latent.downsample
    shape = (contract.latent.channels, height // step, width // step)
    mode = check_name("noise", options.get("noise", "philox"))
    start, stop = (Noise(mode, [seed], shape).initial() for seed in (first, second))
    notices: list[Notice] = []
    embeds, pooled = pipe.embed_pooled(
        list(prompts),
        syntax=options.get("syntax", "plain"),
        names=("the prompt", "the prompt") if prompts[0] == prompts[1] else ENDS,
        notices=notices,
    )
    if prompts[0] == prompts[1] and first == second:
        notices.append(SAME)
    ends = _Ends(pipe, prompts, (first, second), count, (start, stop), embeds, pooled, options)
    told = [notice for notice in ends.run(0.0).notices if notice.about not in SPENT]  # it checks the options too
    return Interpolation(tuple(dict.fromkeys([*notices, *told])), ends)


def check_interpolation_output(path: Path) -> None:
    """Raise InputError unless the file's ending is one that `save_interpolation` writes."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"the output {path} should end in .png for a strip, or in .gif for an animation")


def save_interpolation(images: "list[Image.Image]", path: Path, *, seconds: float = 0.1, force: bool = True) -> None:
    """Write images side by side (.png), or one after the other, there and back, `seconds` each (.gif)."""
    from ldm_runtime.image import save_png, strip, texts

    check_interpolation_output(path)
    if path.suffix.lower() == ".png":
        save_png(strip(images), path, texts(images[0]), force=force)
        return
    loop = [*images, *images[-2:0:-1]]
    with atomic_file(path, force=force) as temporary:
        loop[0].copy().save(
            temporary, "GIF", save_all=True, append_images=loop[1:], duration=round(1000 * seconds), loop=0
        )
