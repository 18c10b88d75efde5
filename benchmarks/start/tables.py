"""The figures of contenders as Markdown: medians with their spread, and ratios within each round."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.start.contenders import SAMPLER, Drawing
from benchmarks.start.measure import Row
from ldm_export.tables import NONE, markdown_table, spread

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"
BEGIN, END = (
    "<!-- from here on written by benchmarks/native_start.py -->\n",
    "<!-- to here, by benchmarks/native_start.py -->\n",
)
HEAD = ("to the first step, s", "to the image, s", "peak, MB", "beyond the weights, MB", "code, MB")


def render(drawing: Drawing, rows: Sequence[Row]) -> str:
    """Render one table below a sentence that says what was drawn."""
    first = rows[0]
    rounds = len(first.runs)
    said = (
        f"{drawing.package.manifest.name}, {drawing.size[0]}x{drawing.size[1]} pixels, {drawing.steps} steps of"
        f" `{SAMPLER}`, guidance {drawing.guidance:g}, {drawing.threads} threads; weights of"
        f" {first.weight_bytes / 1e6:.0f} MB; {rounds} round{'' if rounds == 1 else 's'}:"
    )
    head = ["", *HEAD, f"image / {first.title}"]
    return f"{said}\n\n" + markdown_table(head, [_cells(row, first) for row in rows], "<" + ">" * len(HEAD) + ">")


def _cells(row: Row, first: Row) -> list[str]:
    if row.reason is not None:
        return [row.title, f"not measured: {row.reason}", *[""] * len(HEAD)]
    peaks = [run.peak for run in row.runs]
    ratios = [run.image / own.image for run, own in zip(row.runs, first.runs, strict=True)]
    code = max(sum(run.code.values()) for run in row.runs)
    return [
        row.title,
        spread([run.first for run in row.runs if run.first is not None]),
        spread([run.image for run in row.runs]),
        spread(peaks, 1e-6),
        spread([peak - row.weight_bytes for peak in peaks], 1e-6),
        f"{code / 1e6:.1f}" if code else NONE,
        f"{statistics.median(ratios):.2f}",
    ]


def write_page(text: str, page: Path = PAGE) -> None:
    """Write the text into the documentation, between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text.strip()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
