"""The verb `inspect`: describe a package or checkpoint."""

import json
from pathlib import Path
from typing import Any

import click

from ldm_export.cli.options import SOURCE, checkpoint_options
from ldm_export.cli.show import stage_printer
from ldm_export.process.streams import echo, echo_json


@click.command()
@click.argument("path", required=False, type=SOURCE)
@checkpoint_options
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
def inspect(path: Path | str | None, variant: str | None, prediction: Any, zero_snr: bool, as_json: bool) -> None:
    """Describe a package, a checkpoint or a part of one (default: the built-in package): sizes, defaults, proof.

    No model is loaded; the files of a package are compared with its hashes. A checkpoint needs the extra `export`,
    a name of Hugging Face's hub (hf:OWNER/NAME) also `hub`: what building it needs is fetched.

    \b
    Examples:
      ldm-export inspect
      ldm-export inspect ./stable-diffusion-v1-5 --json
      ldm-export inspect ./model.safetensors
      ldm-export inspect hf:stabilityai/sd-turbo --variant fp16
    """
    from ldm_export.package.describe import describe, render

    facts = describe(path, stage_printer(), variant=variant, prediction=prediction, zero_snr=zero_snr)
    echo_json(json.dumps(facts, indent=2)) if as_json else echo(render(facts))
