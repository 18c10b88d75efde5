"""The verb `verify`: compare a package with its reference again, offline."""

from pathlib import Path

import click

from ldm_export.cli.options import PATH
from ldm_export.cli.show import show_report, stage_printer
from ldm_export.process.streams import echo


@click.command()
@click.argument("package", required=False, type=PATH)
@click.option("--engine", default="auto", show_default=True, help="Engine to verify.")
@click.option("--out", type=PATH, help="Folder for report.json and report.html.")
@click.option("--force", is_flag=True, help="Replace an existing report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(package: Path | None, engine: str, out: Path | None, force: bool, as_json: bool) -> None:
    """Verify again, offline and without torch, that PACKAGE (default: the built-in one) equals its reference.

    The exit code is 1 if it does not.

    \b
    Examples:
      ldm-export verify
      ldm-export verify ./sd15
      ldm-export verify ./sd15 --out ./proof
      ldm-export verify ./sd15 --engine openvino
    """
    from ldm_export.verify.gate import verify_package
    from ldm_runtime.pipeline import builtin_package

    folder = builtin_package() if package is None else package
    report = verify_package(folder, engine=engine, out=out, force=force, progress=stage_printer())
    show_report(report, as_json)
    if not report.passed:
        for failure in report.failures:
            echo(f"error: {failure}", err=True)
        raise click.exceptions.Exit(1)
