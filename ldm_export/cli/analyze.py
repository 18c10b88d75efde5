"""The verb `analyze`: measure on a model what the theory of latent diffusion claims."""

from pathlib import Path

import click

from ldm_export.cli.options import PATH, read_list
from ldm_export.cli.show import stage_printer
from ldm_export.process.streams import echo, echo_json
from ldm_runtime.errors import one_line


@click.command()
@click.argument("source", required=False, type=PATH)
@click.option("--data", type=PATH, help="Folder of images: captions.jsonl and its images, or images alone.")
@click.option("--only", metavar="SECTION,…", help="Sections to measure, with commas between (default: all).")
@click.option("--samples", type=int, help="Most images that are read of the folder (default: 512; with --quick 96).")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of all that is random: the same seed, the same figures."
)
@click.option(
    "--quick", is_flag=True, help="Few samples everywhere: minutes in place of most of an hour, rough figures."
)
@click.option(
    "--features",
    type=click.Choice(["efficientnet", "inception"]),
    default="efficientnet",
    show_default=True,
    help="Network that tells what looks alike; with inception, whose weights have to be on the machine, FID and IS.",
)
@click.option(
    "--out",
    type=PATH,
    default=Path("analysis"),
    show_default=True,
    help="Folder of the report; an interrupted analysis goes on there.",
)
@click.option("--force", is_flag=True, help="Replace an existing report.")
@click.option("--list", "lists", is_flag=True, help="List the sections, and measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def analyze(
    source: Path | None,
    data: Path | None,
    only: str | None,
    samples: int | None,
    seed: int,
    quick: bool,
    features: str,
    out: Path,
    force: bool,
    lists: bool,
    as_json: bool,
) -> None:
    """Measure on SOURCE (default: the built-in model) what theory claims of latent diffusion.

    SOURCE is a package or a checkpoint. The report is OUT/report.html, with plots and pictures, and OUT/report.json.
    The exit code is 1 if a section could not be measured; the others are in the report.

    \b
    Examples:
      ldm-export data --out data-cache/emoji-128 --size 128
      ldm-export analyze --data data-cache/emoji-128 --quick
      ldm-export analyze ./sd15 --data ./photos --only compression,information --out ./analysis
      ldm-export analyze --list
    """
    from ldm_export.analyze.sections import SECTIONS

    if lists:
        for section in SECTIONS.values():
            echo(f"{section.name:<16}{section.title}: {section.claim}")
        return
    if data is None:
        raise click.UsageError("--data is missing: the folder of images to measure with")
    import json

    from ldm_export.analyze.features import EXTRACTORS
    from ldm_export.analyze.report_folder import PAGE, WORK
    from ldm_export.analyze.run import analyze as run_analysis

    names = () if only is None else read_list(only)
    try:
        analysis = run_analysis(
            source,
            data=data,
            out=out,
            only=names,
            samples=samples,
            seed=seed,
            quick=quick,
            force=force,
            make_extractor=EXTRACTORS[features],
            progress=stage_printer(),
        )
    except KeyboardInterrupt:
        if (out / WORK).is_dir():
            echo(f"what is done is kept in {one_line(str(out / WORK))}: the same command goes on there", err=True)
        raise
    if as_json:
        echo_json(json.dumps(analysis.to_json(), indent=2))
    else:
        echo(f"{one_line(str(out / PAGE))}: {len(analysis.results) - len(analysis.failures)} sections")
    for failure in analysis.failures:
        echo(f"error: {failure}", err=True)
    if analysis.failures:
        raise click.exceptions.Exit(1)
