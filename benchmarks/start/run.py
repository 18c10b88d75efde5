"""Measures what an application's user waits for at the start, and pays in memory: the C++ library's tool `ldm` beside
Python and other programs, from the start of a process to its first step and to its image.

Each contender is a process of its own, which draws one image and says when its first step is done.
"""

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.start.contenders import COPYING, EXPORT, RUNTIME, TOOL, Drawing, Programs, contenders
from benchmarks.start.measure import Row, measure_all
from benchmarks.start.tables import render, write_page
from ldm_export.bench import MAX_ROUNDS, MAX_STEPS, machine
from ldm_export.cli.options import read_size
from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.request import check_image_size

PROGRAM = click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)
ROUNDS = click.IntRange(1, MAX_ROUNDS)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("package", required=False, type=FOLDER)
@click.option("--ldm", required=True, type=PROGRAM, help="The tool, as it was built.")
@click.option("--genai", type=PROGRAM, help="OpenVINO GenAI's program, built from benchmarks/start/programs/genai.cpp.")
@click.option("--large", type=FOLDER, help="Package of a published architecture, for a second table.")
@click.option("--sd-cli", type=PROGRAM, help="stable-diffusion.cpp's program, which draws in the second table.")
@click.option("--checkpoint", type=FOLDER, help="What --large was built from, a diffusers folder, for --sd-cli.")
@click.option("--rounds", type=ROUNDS, default=9, show_default=True, help="Rounds in which the contenders take turns.")
@click.option("--large-rounds", type=ROUNDS, default=3, show_default=True, help="Those of the second table.")
@click.option("--large-size", metavar="WxH", default="256x256", show_default=True, help="Size of its image in pixels.")
@click.option(
    "--large-steps", type=click.IntRange(2, MAX_STEPS), default=4, show_default=True, help="Steps of its image."
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Of each contender.")
@click.option("--note", metavar="TEXT", help="What a reader has to know of the machine, such as: shared with others.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file of all figures to write.")
@click.option("--write", is_flag=True, help="Write the tables into docs/embedding.md.")
def main(
    package: Path | None,
    ldm: Path,
    genai: Path | None,
    large: Path | None,
    sd_cli: Path | None,
    checkpoint: Path | None,
    rounds: int,
    large_rounds: int,
    large_size: str,
    large_steps: int,
    threads: int,
    note: str | None,
    out: Path | None,
    write: bool,
) -> None:
    """Measure the start of contenders that draw with PACKAGE (default: the built-in model) in turns.

    A second table is of --large, where stable-diffusion.cpp draws too, which knows only the published architectures. A
    package that was built with `--target openvino --genai` has the folder that OpenVINO GenAI opens. Who cannot be
    measured is in the table with the reason.

    \b
    Examples:
      python benchmarks/native_start.py --ldm build/cpp/ldm
      python benchmarks/native_start.py ./package --ldm build/cpp/ldm --genai build/genai --rounds 9 \\
        --large ./sd15 --checkpoint ./stable-diffusion-v1-5 --sd-cli build/sd-cli --out start.json --write
    """
    programs = Programs(ldm, genai, sd_cli)
    try:
        small = _drawing(builtin_package() if package is None else package, threads)
        tables = [Table(small, rounds, None, (TOOL, COPYING, RUNTIME, EXPORT))]
        if large is not None:
            drawing = _drawing(large, threads, read_size(large_size, "--large-size"), large_steps)
            tables.append(Table(drawing, large_rounds, checkpoint, (TOOL, RUNTIME)))
        measured = [_measure(table, programs) for table in tables]
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    said = f"{machine()}, {time.strftime('%Y-%m-%d')}{'' if note is None else f'; {note}'}."
    text = "\n\n".join([said, *(render(table.drawing, rows) for table, rows in zip(tables, measured, strict=True))])
    if out is not None:
        with atomic_file(out) as temporary:
            temporary.write_text(json.dumps([[asdict(row) for row in rows] for rows in measured], indent=1) + "\n")
    if write:
        write_page(text)
    click.echo(text)


@dataclass(frozen=True)
class Table:
    """What one table compares. checkpoint: for stable-diffusion.cpp. ways: this project's own, by title."""

    drawing: Drawing
    rounds: int
    checkpoint: Path | None
    ways: tuple[str, ...]


def _drawing(package: Path, threads: int, size: tuple[int, int] | None = None, steps: int | None = None) -> Drawing:
    """Return the image to draw; what is None is the package's. Raises LdmError where it cannot draw it."""
    opened = open_package(package)
    opened.confirm()
    contract = opened.manifest.contract
    width, height = (contract.image.width, contract.image.height) if size is None else size
    check_image_size(contract, width, height, "the size")
    return Drawing(opened, (width, height), contract.defaults.steps if steps is None else steps, threads)


def _measure(table: Table, programs: Programs) -> list[Row]:
    drawing = table.drawing
    with tempfile.TemporaryDirectory() as folder:
        who = contenders(drawing, programs, table.checkpoint, Path(folder), table.ways)
        return measure_all(who, drawing.size, table.rounds, lambda text: click.echo(text, err=True))


if __name__ == "__main__":
    main()
