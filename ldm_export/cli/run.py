"""The verb `run`: draw images from a prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldm_export.cli.options import (
    PATH,
    budget_options,
    engine_choice,
    read_engine_options,
    read_variation,
    sampling_options,
)
from ldm_export.cli.show import show_notices, show_steps
from ldm_export.process.streams import echo
from ldm_runtime.errors import one_line

if TYPE_CHECKING:
    from ldm_runtime.package.open import Check
    from ldm_runtime.request import SampleOptions


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option(
    "--prompt",
    "prompts",
    required=True,
    multiple=True,
    help='Prompt; "" is allowed. Given several times, an image for each.',
)
@click.option("--seed", type=int, help="Seed of the first image; image b uses seed+b (default: a random one).")
@click.option("--count", type=int, default=1, show_default=True, help="Number of images for each prompt.")
@click.option(
    "--image",
    type=PATH,
    help="Image to start from, whose size is the default of --size; transparent parts become white.",
)
@click.option(
    "--strength", type=float, help="Share of the steps that change --image, 0 to 1 (default: 0.8, with --mask 1)."
)
@click.option("--mask", type=PATH, help="Mask, white where --image is inpainted; transparent parts are kept.")
@click.option("--variation", metavar="SEED:STRENGTH", help="Blend this share of another seed's noise, such as 7:0.2.")
@sampling_options(takes_prompts=True)
@engine_choice
@budget_options
@click.option(
    "--check",
    type=click.Choice(["cached", "full", "size"]),
    default="cached",
    show_default=True,
    help="Check of the package's files: hashes once per file, hashes now, or sizes only.",
)
@click.option("--out", type=PATH, help="Output .png; several are numbered (default: named after the first prompt).")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
def run(
    package: Path | None,
    prompts: tuple[str, ...],
    seed: int | None,
    count: int,
    image: Path | None,
    strength: float | None,
    mask: Path | None,
    variation: str | None,
    options: "SampleOptions",
    engine: str,
    threads: int | None,
    engine_options: tuple[str, ...],
    lossy: dict[str, Any],
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
    from ldm_runtime.checks import check_integer
    from ldm_runtime.image import MAX_IMAGES, open_image, output_paths, save_png

    check_integer("count", count, 1, MAX_IMAGES)
    paths = output_paths(out, prompt=prompts[0], count=count * len(prompts), force=force)
    options = {
        **options,
        "seed": seed,
        "count": count,
        "image": None if image is None else open_image(image),
        "strength": strength,
        "mask": None if mask is None else open_image(mask),
        "variation": read_variation(variation),
    }
    settings = read_engine_options(engine_options)
    with ldm_runtime.load(
        package, engine=engine, threads=threads, engine_options=settings, check=check, **lossy
    ) as pipe:
        run = pipe.sample(prompts[0] if len(prompts) == 1 else prompts, **options)
        last = show_steps(run)
        show_notices(run.notices)
        for drawn, path in zip(last.images(), paths, strict=True):
            save_png(drawn, path, force=force and out is not None)
            echo(f"{one_line(str(path))} (seed {drawn.info['seed']})")
