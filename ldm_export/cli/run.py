"""Draws images from a prompt."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ldm_export.cli.options import PATH, engine_choice, read_engine_options, read_pair, read_size, read_variation
from ldm_export.cli.show import show_notices, show_steps
from ldm_export.process.streams import echo

if TYPE_CHECKING:
    from ldm_runtime.package.open import Check


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option("--prompt", required=True, help='What to draw; "" is legal.')
@click.option("--negative", help="What to steer away from.")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--guidance", type=float, help="Classifier-free guidance scale; 1 or less turns it off.")
@click.option("--seed", type=int, help="Seed of the first image; image b uses seed+b (default: a random one).")
@click.option("--sampler", help="A name, with options after a colon, such as dpmsolver:order=3; see `plan --list`.")
@click.option("--size", metavar="WxH", help="Size in pixels, such as 512x512 (default: the package's, or --image's).")
@click.option("--count", type=int, default=1, show_default=True, help="Number of images.")
@click.option("--image", type=PATH, help="Picture to start from; what is transparent is white.")
@click.option("--strength", type=float, help="How much of --image is drawn anew, 0 to 1 (default: 0.8, with --mask 1).")
@click.option("--mask", type=PATH, help="White where --image is painted anew; what is transparent is kept.")
@click.option("--weighted", is_flag=True, help="Read (word:1.3), [word] and BREAK in prompts; allow long ones.")
@click.option("--guidance-rescale", type=float, default=0.0, help="Against overexposure by guidance, 0 to 1.")
@click.option(
    "--guidance-interval",
    metavar="A:B",
    default="0:1",
    show_default=True,
    help="Guide between these shares of the run.",
)
@click.option("--variation", metavar="SEED:STRENGTH", help="Go this far to another seed's noise, such as 7:0.2.")
@click.option("--noise", default="philox", show_default=True, help="philox, or torch or cuda for diffusers' seeds.")
@engine_choice
@click.option(
    "--check",
    type=click.Choice(["cached", "full", "size"]),
    default="cached",
    show_default=True,
    help="How the package's files are checked: hashes once per file, hashes now, or sizes only.",
)
@click.option("--out", type=PATH, help="Output .png (default: named after the prompt).")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
def run(
    package: Path | None,
    prompt: str,
    negative: str | None,
    steps: int | None,
    guidance: float | None,
    seed: int | None,
    sampler: str | None,
    size: str | None,
    count: int,
    image: Path | None,
    strength: float | None,
    mask: Path | None,
    weighted: bool,
    guidance_rescale: float,
    guidance_interval: str,
    variation: str | None,
    noise: str,
    engine: str,
    threads: int | None,
    engine_options: tuple[str, ...],
    check: "Check",
    out: Path | None,
    force: bool,
) -> None:
    """Draw PROMPT with PACKAGE (default: the built-in model), without torch.

    \b
    Examples:
      ldm-export run --prompt "red apple, 3d style" --seed 1 --out apple.png
      ldm-export run ./sd15 --prompt "a lighthouse at dusk" --size 512x512 --steps 20 --count 4
      ldm-export run --prompt "green apple, 3d style" --image apple.png --strength 0.6
    """
    import ldm_runtime
    from ldm_runtime.image import open_image, output_paths, save_png

    paths = output_paths(out, prompt=prompt, count=count, force=force)
    given = read_engine_options(engine_options)
    picture, painted = (None if file is None else open_image(file) for file in (image, mask))
    with ldm_runtime.load(package, engine=engine, threads=threads, engine_options=given, check=check) as pipe:
        steps_run = pipe.sample(
            prompt,
            negative=negative,
            steps=steps,
            guidance=guidance,
            seed=seed,
            sampler=sampler,
            size=read_size(size),
            count=count,
            image=picture,
            strength=strength,
            mask=painted,
            syntax="weighted" if weighted else "plain",
            guidance_rescale=guidance_rescale,
            guidance_interval=read_pair("--guidance-interval", guidance_interval),
            variation=read_variation(variation),
            noise=noise,
        )
        last = show_steps(steps_run)
        show_notices(pipe.notices)
        for drawn, path in zip(last.images(), paths, strict=True):
            save_png(drawn, path, force=force and out is not None)
            echo(f"{path} (seed {drawn.info['seed']})")
