"""Tables of strings: aligned columns for a terminal, and Markdown; and how repeated measurements are written there."""

import statistics
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]
NONE = "–"  # in a cell: there is no such figure


def text_table(head: Sequence[str], rows: Rows, align: str) -> list[str]:
    """Lay out lines of columns, each as wide as its widest cell; `align` has "<" or ">" for each column."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formats = list(zip(align, widths, strict=True))
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, (side, width) in zip(line, formats, strict=True)).rstrip()
        for line in lines
    ]


def markdown_table(head: Sequence[str], rows: Rows, align: str = "") -> str:
    """Write a Markdown table; `align` as in `text_table`, without it every column is aligned to the left."""
    rules = ["---:" if side == ">" else "---" for side in align.ljust(len(head), "<")]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rules, *rows])


def spread(values: Sequence[float], scale: float = 1.0, form: str = "") -> str:
    """Write the median of values times `scale`, with the smallest and the largest in brackets; of none a dash.

    form: of each number, as of `format`; "": three digits, but all of those before the point.
    """
    if not values:
        return NONE
    ends = (statistics.median(values), min(values), max(values))
    median, low, high = (format(scale * each, form) if form else three_digits(scale * each) for each in ends)
    return f"{median} ({low} to {high})"


def three_digits(value: float) -> str:
    """Write three digits of a number, but all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
