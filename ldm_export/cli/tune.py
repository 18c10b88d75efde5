"""The verb `tune`: measure what draws a package fastest on this machine, and keep it for `--engine auto`."""

from pathlib import Path

import click

from ldm_export.cli.options import PATH, read_size
from ldm_export.cli.show import show_report, stage_printer


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option(
    "--budget",
    help="Which lossy variants to measure beside what is exact: psnr=DB, ssim=SHARE, or exact for none (default: all).",
)
@click.option(
    "--minutes",
    type=float,
    default=10.0,
    show_default=True,
    help="Time for all measurements; none begins that would end later.",
)
@click.option("--size", metavar="WxH", help="Size in pixels (default: the package's).")
@click.option("--out", type=PATH, help="Folder for tune.json, frontier.csv and frontier.png (needs the extra plot).")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def tune(
    package: Path | None,
    budget: str | None,
    minutes: float,
    size: str | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Find what draws PACKAGE (default: the built-in one) fastest on this machine.

    Engines, threads and the package's variants take turns, each in a process of its own; who is clearly behind leaves.
    The result is a table of time, memory and error, and a profile in the user's cache folder that `--engine auto`
    follows from then on. What does not beat the default by more than the measurements differ is not chosen. Run nothing
    else at the same time.

    \b
    Examples:
      ldm-export tune
      ldm-export tune ./sd15 --budget psnr=35 --minutes 20 --out ./tuned
    """
    from ldm_export.plots import require_matplotlib
    from ldm_export.tune.report import FILES, write_results
    from ldm_export.tune.tuner import tune_package
    from ldm_runtime.budget import read_budget
    from ldm_runtime.errors import OutputError
    from ldm_runtime.files.atomic import refuse_existing_in
    from ldm_runtime.pipeline import builtin_package

    if out is not None:
        require_matplotlib(str(out / "frontier.png"))
        refuse_existing_in(out, FILES, force=force)
    report = tune_package(
        builtin_package() if package is None else package,
        budget=None if budget is None else read_budget(budget),
        minutes=minutes,
        size=read_size(size),
        progress=stage_printer(),
    )
    show_report(report, as_json)  # first: it took minutes, and the disk may be full
    if out is not None:
        write_results(report, out, force=force)
    if report.unkept is not None:
        raise OutputError(report.unkept)
