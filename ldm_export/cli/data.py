"""The verb `data`: fetch the training images of the shipped recipes."""

from pathlib import Path

import click

from ldm_export.cli.options import PATH
from ldm_export.process.streams import echo
from ldm_runtime.errors import one_line

STYLES = ("3d", "gradient", "flat", "noto")  # those of `train.emoji`, which the command line does not import


@click.command()
@click.option("--out", required=True, type=PATH, help="Folder for images and captions.")
@click.option("--size", type=int, default=128, show_default=True, help="Side of the images in pixels.")
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=click.Choice(STYLES),
    help="Styles to fetch (repeatable; default: all four).",
)
def data(out: Path, size: int, styles: tuple[str, ...]) -> None:
    """Fetch emoji images (with npm) and render them with captions, for training.

    \b
    Examples:
      ldm-export data --out data-cache/emoji-64 --size 64 --style 3d
    """
    from ldm_export.train.emoji import fetch_emoji

    count = fetch_emoji(out, size=size, styles=styles or STYLES, progress=lambda text: echo(text, err=True))
    echo(one_line(f"{out}: {count} captioned images"))
