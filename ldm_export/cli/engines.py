"""The verb `engines`: list the engines, and the missing parts of each on this machine."""

import json

import click

from ldm_export.process.streams import echo, echo_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
def engines(as_json: bool) -> None:
    """List the engines: those that run on this machine, and the missing part of each of the others.

    \b
    Examples:
      ldm-export engines
      ldm-export run --prompt "red apple, 3d style" --engine unet=ort:openvino,vae=ort
    """
    from ldm_runtime.engines.table import ENGINES

    missing = {name: kind.missing() for name, kind in ENGINES.items()}
    if as_json:
        facts = {
            name: {"summary": kind.summary, "runs_here": missing[name] is None, "missing": missing[name]}
            for name, kind in ENGINES.items()
        }
        echo_json(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in ENGINES)
    for name, kind in ENGINES.items():
        echo(f"{name:{width}}  {'runs here' if missing[name] is None else 'not here '}  {kind.summary}")
        if missing[name] is not None:
            echo(f"{'':{width}}             {missing[name]}")
