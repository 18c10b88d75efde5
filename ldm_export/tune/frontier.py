"""The frontier of a package: what each configuration takes and how far its images are from the exact ones."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from PIL import Image

from ldm_export.plots import FrontierPoint, draw_frontier, on_frontier
from ldm_export.tables import text_table

_HEAD = ("configuration", "s", "of the default", "load, s", "peak, MB", "files, MB", "relative RMS", "PSNR, dB", "SSIM")
_ALIGN = "<" + ">" * (len(_HEAD) - 1)
NO_TURN = "the time was over before its turn"
BEST = "*"  # marks the rows that no other one beats in both time and error


@dataclass(frozen=True)
class Row:
    """A configuration. The first of several rows is the default, which the times of all are compared with.

    seconds: of an image, with everything loaded; None: not measured. load_seconds: until it may draw. peak_bytes: of
    the whole process. file_bytes: of the files that it reads. relative_rms: the worst component's, of one evaluation.
    psnr, ssim: of the worst image beside the exact one; is_exact: it is that one, up to the rounding of float32. A
    lossy one without a psnr drew equal images. trouble: why it was not measured.
    """

    configuration: str
    is_exact: bool
    seconds: float | None
    load_seconds: float | None = None
    peak_bytes: int | None = None
    file_bytes: int | None = None
    relative_rms: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    trouble: str | None = None


def best_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other one is better than in time or error without being worse in the other."""
    measured = [(row, (row.seconds, _psnr(row))) for row in rows if row.seconds is not None]
    is_best = on_frontier([place for _, place in measured])
    return [row for (row, _), on in zip(measured, is_best, strict=True) if on]


def table(rows: Sequence[Row]) -> str:
    """Render the rows for a terminal. What is on the frontier has a star, what was not measured its reason below.

    Those whose turn did not come are one line.
    """
    best = best_rows(rows)
    begun = [row for row in rows if row.trouble != NO_TURN]
    lines = text_table(("", *_HEAD), _cells(begun, best), "<" + _ALIGN)
    lines += [f"  {row.configuration}: {row.trouble}" for row in begun if row.trouble is not None]
    return "\n".join([*lines, *([f"  {len(rows) - len(begun)} more: {NO_TURN}"] if len(begun) < len(rows) else [])])


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a head; what is not known is empty."""
    best, text = best_rows(rows), io.StringIO()
    names = [*asdict(rows[0]), "is_best"] if rows else []
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**asdict(row), "is_best": row in best})
    return text.getvalue()


def draw(rows: Sequence[Row]) -> Image.Image:
    """Draw time and error of what was measured."""
    points = [
        FrontierPoint(row.configuration, row.seconds, _psnr(row), row.file_bytes)
        for row in rows
        if row.seconds is not None and (row.is_exact or (row.psnr, row.ssim) != (None, None))
    ]
    return draw_frontier(points, "seconds for an image")


def _psnr(row: Row) -> float | None:
    return None if row.is_exact else row.psnr


def _cells(rows: Sequence[Row], best: Sequence[Row]) -> list[list[str]]:
    first = rows[0].seconds if rows else None
    return [
        [
            BEST if row in best else "",
            row.configuration,
            _number(row.seconds, "{:.3g}"),
            _number(None if first is None or row.seconds is None else row.seconds / first, "{:.2f}"),
            _number(row.load_seconds, "{:.2f}"),
            _number(row.peak_bytes, "{:.0f}", 1e6),
            _number(row.file_bytes, "{:.0f}", 1e6),
            _number(row.relative_rms, "{:.1e}"),
            "exact" if row.is_exact else _number(row.psnr, "{:.1f}") or ("equal" if row.ssim is not None else ""),
            "" if row.is_exact else _number(row.ssim, "{:.3f}"),
        ]
        for row in rows
    ]


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    return "" if value is None else form.format(value / unit)
