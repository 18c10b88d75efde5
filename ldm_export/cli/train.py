"""The verb `train`: train a model by a recipe."""

from pathlib import Path

import click

from ldm_export.cli.options import PATH
from ldm_export.process.streams import echo
from ldm_runtime.errors import one_line


@click.command()
@click.argument("recipe", type=PATH)
@click.option(
    "--runs",
    type=PATH,
    default=Path("runs"),
    show_default=True,
    help="Folder that holds one run folder per recipe; an interrupted run continues there.",
)
def train(recipe: Path, runs: Path) -> None:
    """Train a latent diffusion model by RECIPE (TOML): autoencoder, then text encoder, then UNet.

    Ctrl-C saves and stops; the same command continues.

    \b
    Examples:
      ldm-export data --out data-cache/emoji-128 --size 128
      ldm-export train export_configs/emoji-128.toml
    """
    from ldm_export.train.run import train as run_training

    checkpoint = run_training(recipe, runs=runs, progress=lambda text: echo(text, err=True))
    echo(one_line(f"{checkpoint}: trained; try: ldm-export build {checkpoint} --out ./package"))
