"""The verb `interpolate`: draw the images between two prompts and seeds."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldm_export.cli.options import PATH, budget_options, engine_choice, read_engine_options, sampling_options
from ldm_export.cli.show import show_notices
from ldm_export.process.streams import echo
from ldm_runtime.errors import InputError, one_line

if TYPE_CHECKING:
    from ldm_runtime.request import SampleOptions


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option("--prompt", required=True, help="Prompt at the start.")
@click.option("--to-prompt", help="Prompt at the end (default: the same).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed at the start.")
@click.option("--to-seed", type=int, help="Seed at the end (default: the same).")
@click.option("--frames", type=int, default=9, show_default=True, help="Number of images, both ends included.")
@click.option("--seconds", type=float, help="Time of an image in a .gif (default: 0.1).")
@sampling_options(takes_prompts=False)
@engine_choice
@budget_options
@click.option("--out", required=True, type=PATH, help="A .png strip, or a .gif animation, there and back.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
def interpolate(
    package: Path | None,
    prompt: str,
    to_prompt: str | None,
    seed: int,
    to_seed: int | None,
    frames: int,
    seconds: float | None,
    options: "SampleOptions",
    engine: str,
    threads: int | None,
    engine_options: tuple[str, ...],
    lossy: dict[str, Any],
    out: Path,
    force: bool,
) -> None:
    """Draw the images between two prompts and seeds with PACKAGE (default: the built-in model).

    \b
    Examples:
      ldm-export interpolate --prompt "cat face, 3d style" --to-prompt "dog face, 3d style" --out way.gif
      ldm-export interpolate --prompt "red apple, 3d style" --to-prompt "red heart, 3d style" --frames 5 --out way.png
    """
    import ldm_runtime
    from ldm_runtime.files.atomic import refuse_existing
    from ldm_runtime.interpolate import check_interpolation_output, save_interpolation
    from ldm_runtime.interpolate import interpolate as between

    check_interpolation_output(out)
    refuse_existing(out, force=force)
    if seconds is not None and not 0.01 <= seconds <= 60:
        raise InputError(f"--seconds got {seconds:g}, expected 0.01 to 60")
    settings = read_engine_options(engine_options)
    with ldm_runtime.load(package, engine=engine, threads=threads, engine_options=settings, **lossy) as pipe:
        prompts, seeds = (
            (prompt, prompt if to_prompt is None else to_prompt),
            (seed, seed if to_seed is None else to_seed),
        )
        frames_between = between(pipe, prompts, seeds, frames, **options)
        hidden = not sys.stderr.isatty()
        with click.progressbar(frames_between, label="images", file=sys.stderr, hidden=hidden) as bar:
            drawn = list(bar)
        show_notices(frames_between.notices)
    save_interpolation(drawn, out, seconds=0.1 if seconds is None else seconds, force=force)
    if seconds is not None and out.suffix.lower() != ".gif":
        show_notices([one_line(f"--seconds has no effect on {out}; it is for a .gif")])
    echo(f"{one_line(str(out))} ({frames} images)")
