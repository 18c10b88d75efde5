"""Shows the sampling plan that a sampler compiles to."""

from pathlib import Path

import click

from ldm_export.cli.options import PATH
from ldm_export.process.streams import echo


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option("--sampler", help="As for `run` (default: the package's).")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--strength", type=float, help="Of an image to image run, 0 to 1.")
@click.option("--list", "listed", is_flag=True, help="List all samplers with their options instead.")
@click.option("--plot", type=PATH, help="Draw noise levels and timesteps to this .png (needs the extra plot).")
@click.option("--force", is_flag=True, help="Replace an existing plot.")
def plan(
    package: Path | None,
    sampler: str | None,
    steps: int | None,
    strength: float | None,
    listed: bool,
    plot: Path | None,
    force: bool,
) -> None:
    """Show what a sampler does with PACKAGE (default: the built-in model): every step as numbers.

    Each line is one evaluation of the UNet: its timestep, the noise level before and after it, and the matrix
    that makes the next state of the latents, the history, the output and the noise.

    \b
    Examples:
      ldm-export plan --sampler dpmpp_2m_karras --steps 10
      ldm-export plan ./sd15 --sampler unipc:order=3 --steps 8 --plot unipc.png
      ldm-export plan --list
    """
    from ldm_runtime.image import output_paths
    from ldm_runtime.package.open import read_contract
    from ldm_runtime.pipeline import builtin_package
    from ldm_runtime.request import first_step
    from ldm_runtime.sampling.plan import compile_plan
    from ldm_runtime.sampling.solvers import table

    if listed:
        echo(table())
        return
    if plot is not None:
        from ldm_export.plots import draw_curves, require_matplotlib

        require_matplotlib(str(plot))
        output_paths(plot, prompt="", count=1, force=force)
    contract = read_contract(builtin_package() if package is None else package)
    count = contract.defaults.steps if steps is None else steps
    name = contract.defaults.sampler if sampler is None else sampler
    made = compile_plan(contract.schedule, name, count, first_step(count, strength))
    if plot is not None:
        from ldm_runtime.image import save_png

        curves = {
            "sigma / alpha": [(float(index), row.sigma / max(row.alpha, 1e-6)) for index, row in enumerate(made.rows)],
            "timestep + 1": [(float(index), row.timestep + 1.0) for index, row in enumerate(made.rows)],
        }
        facts = {"plan": made.identity, "sampler": made.sampler}
        save_png(draw_curves(curves, "evaluation"), plot, facts, force=force)
    echo(made.describe())
