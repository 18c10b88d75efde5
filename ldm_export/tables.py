"""Tables of strings: aligned columns for a terminal, and Markdown."""

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


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
