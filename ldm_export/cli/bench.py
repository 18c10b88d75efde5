"""The verb `bench`: measure engines side by side."""

from pathlib import Path
from typing import Any

import click

from ldm_export.cli.options import PATH, budget_options, read_size
from ldm_export.cli.show import show_report, stage_printer


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    help="Engine to measure, as for `run` (repeatable; default: all that run here).",
)
@click.option("--rounds", type=int, default=5, show_default=True, help="Processes per engine; the engines take turns.")
@click.option("--steps", type=int, help="Sampling steps of the image (default: the package's).")
@click.option("--size", metavar="WxH", help="Size in pixels (default: the package's).")
@click.option("--threads", type=int, help="CPU threads of an operator (default: the engine's choice).")
@budget_options
@click.option("--out", type=PATH, help="Folder for bench.json and bench.png (needs the extra plot).")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def bench(
    package: Path | None,
    engines: tuple[str, ...],
    rounds: int,
    steps: int | None,
    size: str | None,
    threads: int | None,
    lossy: dict[str, Any],
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure engines side by side on PACKAGE (default: the built-in one).

    For each engine: time to load, latency of every component and of a step, peak memory of the whole process, size of
    its files, error against the reference, images per minute. Run nothing else at the same time.

    \b
    Examples:
      ldm-export bench
      ldm-export bench ./sd15 --engine ort --engine openvino --size 512x512 --steps 2 --out ./bench
    """
    from ldm_export.bench import FILES, bench_package, write_results
    from ldm_export.plots import require_matplotlib
    from ldm_runtime.files.atomic import refuse_existing_in
    from ldm_runtime.pipeline import builtin_package

    if out is not None:
        require_matplotlib(str(out / "bench.png"))
        refuse_existing_in(out, FILES, force=force)
    report = bench_package(
        builtin_package() if package is None else package,
        engines=engines,
        rounds=rounds,
        steps=steps,
        size=read_size(size),
        threads=threads,
        **lossy,
        progress=stage_printer(),
    )
    show_report(report, as_json)  # first: it took minutes, and the disk may be full
    if out is not None:
        write_results(report, out, force=force)
