"""From one prompt and seed to another: pictures in between, as a strip or an animation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm_runtime.checks import check_integer
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.noise import Noise
from ldm_runtime.notice import Notice
from ldm_runtime.request import choose_size
from ldm_runtime.sampling.loop import slerp

if TYPE_CHECKING:
    from PIL import Image

    from ldm_runtime.pipeline import Pipeline, Step

MOST_FRAMES = 1000
ENDINGS = (".png", ".gif")
SAME = Notice("text", "prompts and seeds are the same at both ends, so that all pictures are the same")
ENDS = ("the prompt to start from", "the prompt to end at")
OURS = ("seed", "noise", "syntax")  # options that have had their effect before `sample` is called


def interpolate(
    pipe: "Pipeline",
    prompts: tuple[str, str],
    seeds: tuple[int, int],
    frames: int,
    *,
    size: tuple[int, int] | None = None,
    noise: str = "philox",
    syntax: str = "plain",
    **arguments: Any,
) -> "Iterator[Image.Image]":
    """`frames` pictures from the first prompt and seed to the second, both included.

    Embeddings go along the straight line, noise along the arc, which keeps its deviation. The other arguments are
    those of `Pipeline.sample`. `pipe.notices` holds what there is to say of all pictures, each sentence once. Raises
    InputError at once for what is not usable.
    """
    count = check_integer("frames", frames, 2, MOST_FRAMES)
    ends = [check_integer("seed", seed, 0, 2**64 - 1) for seed in seeds]
    contract = pipe.contract
    width, height = choose_size(contract, size)
    step = contract.latent.downsample
    shape = (contract.latent.channels, height // step, width // step)
    start, stop = (Noise(noise, [seed], shape).initial() for seed in ends)
    names = ("the prompt", "the prompt") if prompts[0] == prompts[1] else ENDS
    embeddings = pipe.embed(list(prompts), syntax=syntax, names=names)
    notices = pipe.notices
    if prompts[0] == prompts[1] and ends[0] == ends[1]:
        notices.append(SAME)

    def collect() -> None:
        """Take over the last call's notices, but for those about options that are set here and not by the caller."""
        others = [notice for notice in pipe.notices if notice.about not in OURS]
        notices.extend(notice for notice in others if notice not in notices)
        pipe.notices = notices

    def prepare(share: float) -> "Iterator[Step]":
        between = (1.0 - share) * embeddings[:1] + share * embeddings[1:]
        steps = pipe.sample(
            latents=slerp(start, stop, share),
            prompt_embeds=between.astype(embeddings.dtype),
            seed=ends[0],
            noise=noise,
            syntax=syntax,
            size=size,
            **arguments,
        )
        collect()
        return steps

    def draw() -> "Iterator[Image.Image]":
        for index in range(count):
            share = index / (count - 1)
            *_, last = prepare(share)
            collect()  # an engine may have been opened by the first step
            image = last.images()[0]
            image.info |= {"prompt": " to ".join(prompts), "between": f"{share:.9g}", "seed": f"{ends[0]} to {ends[1]}"}
            yield image

    prepare(0.0)  # what is not usable is refused before the first picture is asked for
    return draw()


def check_interpolation_output(path: Path) -> None:
    """InputError unless the file's ending is one that `save_interpolation` writes."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"the output {path} should end in .png for a strip, or in .gif for an animation")


def save_interpolation(images: "list[Image.Image]", path: Path, *, seconds: float = 0.1, force: bool = True) -> None:
    """Write pictures side by side (.png), or one after the other, there and back, `seconds` each (.gif)."""
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
