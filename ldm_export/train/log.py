"""The readable results of a training: metrics.csv, a loss curve and sample images."""

import csv
import io
import math
from pathlib import Path

from PIL import Image

from ldm_export.errors import TrainingError
from ldm_export.plots import draw_curves, has_matplotlib
from ldm_runtime.files.atomic import atomic_file, make_folder

Row = dict[str, float]
MAX_LOG_BYTES = 2**28  # ten million rows


class MetricsLog:
    """A table of numbers by step, rewritten as a whole, so that it always agrees with a resumed step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def resume(self, step: int) -> None:
        """Read the rows up to `step`; later rows, of an interrupted run after its last checkpoint, are dropped.

        Raises TrainingError for a file that is not such a table.
        """
        try:
            if not self.path.exists():
                return
            if not self.path.is_file() or self.path.stat().st_size > MAX_LOG_BYTES:
                raise ValueError("it is not a regular file, or too large")
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = [{key: _number(text) for key, text in row.items() if text} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["step"] <= step]
        except (OSError, ValueError, TypeError, AttributeError, KeyError, csv.Error) as error:
            raise TrainingError(
                f"{self.path} is damaged ({type(error).__name__}: {error}); remove it: only its figures are lost, no "
                f"training"
            ) from None

    def add(self, step: int, values: Row) -> None:
        self.rows.append({"step": step, **values})

    def save(self) -> None:
        """Write metrics.csv."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_file(self.path) as temporary:
            temporary.write_text(text.getvalue())

    def plot(self) -> None:
        """Draw loss.png beside metrics.csv, where matplotlib is installed."""
        curves = {}
        for name in ("loss", "held_out_loss"):
            points = [(row["step"], row[name]) for row in self.rows if math.isfinite(row.get(name, math.nan))]
            if points:
                curves[name] = points
        if curves and has_matplotlib():
            with atomic_file(self.path.with_name("loss.png")) as temporary:
                draw_curves(curves, "step").save(temporary)


def save_samples(grid: Image.Image, folder: Path, step: int) -> None:
    """Write the sample images of a step."""
    make_folder(folder)
    with atomic_file(folder / f"samples-{step:06d}.png") as temporary:
        grid.save(temporary)


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)
