"""What a training leaves for people to read: metrics.csv and a loss curve."""

import csv
import io
from pathlib import Path

from ldm_export.drawing import draw_curves
from ldm_runtime.atomic import atomic_file

Row = dict[str, float]


class MetricsLog:
    """A table of numbers by step, rewritten whole, so that it never disagrees with a resumed step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def resume(self, step: int) -> None:
        """Read back the rows up to `step`; what an interrupted run wrote after its last checkpoint is dropped."""
        if self.path.is_file():
            with open(self.path, newline="") as file:
                found = [{key: _number(text) for key, text in row.items() if text} for row in csv.DictReader(file)]
            self.rows = [row for row in found if row["step"] <= step]

    def add(self, step: int, values: Row) -> None:
        self.rows.append({"step": step, **values})

    def save(self) -> None:
        """Write metrics.csv and, beside it, loss.png."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_file(self.path) as temporary:
            temporary.write_text(text.getvalue())
        curves = {}
        for name in ("loss", "held_out_loss"):
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            if points:
                curves[name] = points
        if curves:
            with atomic_file(self.path.with_name("loss.png")) as temporary:
                draw_curves(curves).save(temporary)


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)
