"""The report as one self-contained HTML page. The template is beside it."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from ldm_export.analyze.findings import Cell, Figure
from ldm_export.plots import shortened
from ldm_runtime.errors import printable

if TYPE_CHECKING:
    from ldm_export.analyze.run import Analysis

TEMPLATE = "page.html.j2"
LONGEST_NAME = 60  # characters
LONGEST_CELL = 300  # characters: a caption may have thousands


def render(analysis: "Analysis") -> str:
    """Render the whole page. It loads nothing from anywhere, and everything that came from a file is escaped: what
    would be markup, and what would turn the direction of the page's own sentences, or is not seen.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": shown_value,
        "interval": shown_interval,
        "cell": shown_cell,
        "name": shown_name,
        "data_url": _data_url,
    }
    return environment.get_template(TEMPLATE).render(facts=analysis.facts, results=analysis.results)


def shown_number(value: float) -> str:
    """Write a number with four digits, large ones with separators."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def shown_value(figure: Figure) -> str:
    """Write the value of a figure with its unit."""
    return "—" if figure.value is None else f"{shown_number(figure.value)} {figure.unit}".strip()


def shown_interval(figure: Figure) -> str:
    """Write the interval of a figure, and what it is over; that there is none, if so."""
    if figure.low is None or figure.high is None:
        return figure.interval or ("" if figure.value is None else "no interval")
    return f"{shown_number(figure.low)} to {shown_number(figure.high)} ({figure.interval})"


def shown_cell(cell: Cell) -> str:
    """Write a cell of a table, a long text cut in its middle."""
    if cell is None:
        return ""
    return shown_number(cell) if isinstance(cell, int | float) else shortened(cell, LONGEST_CELL)


def shown_name(name: str) -> str:
    """Write a name that came from a file or folder, cut in the middle where it is long."""
    return shortened(name, LONGEST_NAME)


def _visible(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def _data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
