"""Measures the built-in model, or another package, from cold: from the start of a process to its image, exactly and
within a budget in turns.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from PIL import Image

from benchmarks.start.contenders import EXPORT, RUNTIME, Contender
from benchmarks.start.measure import Measured, measure
from ldm_export.bench import MAX_ROUNDS, PROMPT, machine
from ldm_export.tables import markdown_table, spread
from ldm_runtime.budget import read_budget
from ldm_runtime.engines.choice import most_threads
from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.pipeline import builtin_package

EXACT = "exact"
FEWEST_ROUNDS = 9
MOST = 0.85  # of the exact time
PYTHON = """
import sys
import ldm_runtime

package, prompt, budget, threads, out = sys.argv[1:]
with ldm_runtime.load(package, budget=budget, threads=int(threads)) as pipe:
    pipe(prompt, seed=1)[0].save(out)
"""


@dataclass(frozen=True)
class Cold:
    """A way to draw within a budget. variant: what drew; "": exactly."""

    way: str
    budget: str
    runs: tuple[Measured, ...]
    variant: str = ""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("package", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--budget", "budgets", multiple=True, default=("psnr=30",), show_default=True, help="Beside exact (repeatable)."
)
@click.option(
    "--rounds", type=click.IntRange(1, MAX_ROUNDS), default=FEWEST_ROUNDS, show_default=True, help="In turns."
)
@click.option(
    "--threads", type=click.IntRange(1, most_threads()), default=2, show_default=True, help="Of each process."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file of all figures to write.")
def main(package: Path | None, budgets: tuple[str, ...], rounds: int, threads: int, out: Path | None) -> None:
    """Draw an image with PACKAGE (default: the built-in model) by its defaults, from cold, exactly and in a budget.

    The package has to hold variants: `ldm-export build --budget psnr=30 --out PACKAGE` makes one of the built-in model.

    \b
    Examples:
      python benchmarks/cold.py ./package --budget psnr=30 --budget psnr=25
      python benchmarks/cold.py ./package --rounds 15 --out cold.json
    """
    try:
        for budget in budgets:
            read_budget(budget)
        opened = open_package(builtin_package() if package is None else package)
        opened.confirm()
        found = measure_cold(opened, (EXACT, *budgets), rounds, threads)
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    said = f"{opened.manifest.name}, {machine()}, {threads} threads, {time.strftime('%Y-%m-%d')}, {rounds} rounds:"
    if out is not None:
        with atomic_file(out) as temporary:
            facts = {"machine": machine(), "measured": [asdict(each) for each in found]}
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{said}\n\n{render(found)}")


def measure_cold(package: Package, budgets: Sequence[str], rounds: int, threads: int) -> list[Cold]:
    """Measure each way to draw with each budget in every round, in the opposite order each time, after a round more."""
    image = package.manifest.contract.image
    size = (image.width, image.height)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "image.png")
        found = [Cold(way, budget, ()) for way in (RUNTIME, EXPORT) for budget in budgets]
        for index in range(rounds + 1):
            for place in list(range(len(found)))[:: 1 if index % 2 else -1]:
                each = found[place]
                click.echo(f"round {index} of {rounds}: {each.way}, {each.budget}", err=True)
                measured = measure(each.way, contender(package, each.way, each.budget, threads, out), size)
                with Image.open(out) as drawn:
                    variant = str(drawn.info.get("variant", ""))
                found[place] = replace(each, variant=variant, runs=(*each.runs, measured) if index else ())
    return found


def contender(package: Package, way: str, budget: str, threads: int, out: Path) -> Contender:
    """Return a process that draws one image by the package's defaults; all of its files count as read before."""
    place = str(package.path.absolute())
    values = {"--prompt": PROMPT, "--seed": "1", "--threads": str(threads), "--budget": budget, "--out": str(out)}
    told = [text for pair in values.items() for text in pair]
    commands = {
        RUNTIME: ["-c", PYTHON, place, PROMPT, budget, str(threads), str(out)],
        EXPORT: ["-m", "ldm_export", "run", place, *told, "--force"],
    }
    files = tuple(package.path / name for name in package.manifest.files)
    return Contender([sys.executable, "-P", *commands[way]], files, out)


def render(found: Sequence[Cold]) -> str:
    """Render the table and what it says of the most that a budget may take, judged within each round."""
    exact = {each.way: each for each in found if each.budget == EXACT}
    rows, lines = [], []
    for each in found:
        shares = [run.image / beside.image for run, beside in zip(each.runs, exact[each.way].runs, strict=True)]
        seconds, peaks = ([getattr(run, name) for run in each.runs] for name in ("image", "peak"))
        rows.append(
            [each.way, each.budget, each.variant or EXACT, spread(seconds), spread(peaks, 1e-6), spread(shares)]
        )
        if each.budget == EXACT:
            continue
        if not each.variant:
            lines.append(f"- {each.way}, {each.budget}: nothing of the package is within it here; drawn exactly")
            continue
        verdict = "**met**" if statistics.median(shares) <= MOST else "**missed**"
        few = f"; {len(shares)} rounds, fewer than {FEWEST_ROUNDS}" if len(shares) < FEWEST_ROUNDS else ""
        lines.append(f"- {each.way}, {each.budget}: at most {MOST} of exact: {verdict}; {spread(shares)}{few}")
    head = ["", "budget", "drawn by", "start to image, s", "peak, MB", f"/ {EXACT}"]
    return "\n\n".join([markdown_table(head, rows, "<<<>>>"), "\n".join(lines)])


if __name__ == "__main__":
    main()
