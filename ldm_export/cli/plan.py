"""The verb `plan`: show the sampling plan that a sampler compiles to."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from ldm_export.cli.options import PATH
from ldm_export.process.streams import echo, echo_json


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option("--sampler", help="Sampler, as for `run` (default: the package's).")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--strength", type=float, help="Strength of an image-to-image run, 0 to 1.")
@click.option("--list", "listed", is_flag=True, help="List all samplers with their options instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, complete enough to run it elsewhere.")
@click.option("--plot", type=PATH, help="Draw noise levels and timesteps to this .png (needs the extra plot).")
@click.option("--force", is_flag=True, help="Replace an existing plot.")
def plan(
    package: Path | None,
    sampler: str | None,
    steps: int | None,
    strength: float | None,
    listed: bool,
    as_json: bool,
    plot: Path | None,
    force: bool,
) -> None:
    """Show the plan of a sampler for PACKAGE (default: the built-in model): every step as numbers.

    Each line is one evaluation of the denoiser: its timestep, the noise level before and after it, and the matrix
    that computes the next state from the latents, the history, the output and the noise.

    \b
    Examples:
      ldm-export plan --sampler dpmpp_2m_karras --steps 10
      ldm-export plan ./sd15 --sampler unipc:order=3 --steps 8 --plot unipc.png
      ldm-export plan --sampler dpmpp_2m --steps 20 --json
      ldm-export plan --list
    """
    from ldm_runtime.image import output_paths
    from ldm_runtime.package.open import read_manifest
    from ldm_runtime.pipeline import builtin_package
    from ldm_runtime.request_values import compile_run
    from ldm_runtime.sampling.solvers import read_sampler, table

    if listed:
        _require_alone(
            {
                "PACKAGE": package,
                "--sampler": sampler,
                "--steps": steps,
                "--strength": strength,
                "--json": as_json or None,
                "--plot": plot,
                "--force": force or None,
            }
        )
        echo(table())
        return
    if plot is not None:
        from ldm_export.plots import draw_plan, require_matplotlib

        require_matplotlib(str(plot))
        output_paths(plot, prompt="", count=1, force=force)
    contract = read_manifest(builtin_package() if package is None else package).contract
    count = contract.defaults.steps if steps is None else steps
    parsed = contract.defaults.parsed_sampler if sampler is None else read_sampler(sampler)
    compiled = compile_run(contract.schedule, parsed, count, strength)
    if plot is not None:
        from ldm_runtime.image import save_png

        save_png(
            draw_plan(compiled), plot, {"plan": compiled.identity, "sampler": compiled.sampler.canonical}, force=force
        )
    echo_json(json.dumps(compiled.to_dict(), indent=2, allow_nan=False)) if as_json else echo(compiled.describe())


def _require_alone(others: Mapping[str, object]) -> None:
    """Raise InputError if --list came with another argument: it has no effect on the list. None is not given."""
    from ldm_runtime.errors import InputError

    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError(
            f"--list and {', '.join(given)} exclude each other: --list prints samplers, not a plan; use one of them"
        )
