"""What a section found: sentences, figures with their uncertainty and estimator, tables and pictures; JSON and back."""

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ldm_export.analyze.statistics import Interval
from ldm_export.errors import AnalysisError

SINGLE = "A single value: it has no interval."
Cell = str | int | float | None  # of a table; None is empty


@dataclass(frozen=True)
class Figure:
    """One measured number. `name` is its key in report.json, unique in its section.

    value: None where there is none to give, and `note` says why. low, high: the interval that `interval` describes,
    such as "95 % by bootstrap over 256 images"; "exact", without ends, of what is counted; "" where there is none. The
    unknown interval of a single value is taken off, and the note says so. estimator: how it was measured. limits: what
    it does not tell.
    """

    name: str
    title: str
    value: float | None
    unit: str
    estimator: str
    limits: str
    low: float | None = None
    high: float | None = None
    interval: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.low == -math.inf and self.high == math.inf:
            without = {"low": None, "high": None, "interval": "", "note": f"{self.note} {SINGLE}".strip()}
            for name, value in without.items():
                object.__setattr__(self, name, value)

    @classmethod
    def measured(
        cls, name: str, title: str, found: Interval, unit: str, estimator: str, limits: str, interval: str
    ) -> "Figure":
        """Return a figure with its interval, and what that is over."""
        return cls(name, title, found.value, unit, estimator, limits, found.low, found.high, interval)

    @classmethod
    def perhaps(
        cls, name: str, title: str, found: Interval, unit: str, estimator: str, limits: str, interval: str, note: str
    ) -> "Figure":
        """Return a figure with its interval; where one of its ends is not known (NaN) without, and `note` says why."""
        if math.isnan(found.low + found.high):
            return cls(name, title, found.value, unit, estimator, limits, note=note)
        return cls.measured(name, title, found, unit, estimator, limits, interval)


@dataclass(frozen=True)
class Table:
    """Rows of cells under `head`. Numbers stay numbers in report.json."""

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    name: str
    caption: str
    png: bytes


@dataclass
class Findings:
    """What a section found, in the order of the report.

    sentences: what the figures say, in plain words. warnings: what the owner of the model should look at.
    """

    sentences: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def value(self, name: str) -> float | None:
        """Return the value of a figure. KeyError if there is none of that name."""
        found = {figure.name: figure.value for figure in self.figures}
        return found[name]

    def require_finite(self) -> None:
        """Raise AnalysisError if a number is NaN or infinite."""
        for figure in self.figures:
            if any(each is not None and not math.isfinite(each) for each in (figure.value, figure.low, figure.high)):
                raise AnalysisError(
                    f"{figure.title} is {figure.value} (interval {figure.low} to {figure.high}): the model or the "
                    f"images make NaN or infinity in {figure.estimator}"
                )
        for table in self.tables:
            for row in table.rows:
                if any(isinstance(cell, float) and not math.isfinite(cell) for cell in row):
                    raise AnalysisError(f"the table {table.title!r} has NaN or infinity in the row {list(row)}")

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON; pictures in base64."""
        facts = asdict(self)
        for picture in facts["pictures"]:
            picture["png"] = base64.b64encode(picture["png"]).decode("ascii")
        return facts

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Findings":
        """Return what `to_json` wrote. Raises TypeError or KeyError for anything else."""
        return cls(
            sentences=list(facts["sentences"]),
            figures=[Figure(**each) for each in facts["figures"]],
            tables=[_table(each) for each in facts["tables"]],
            pictures=[Picture(**{**each, "png": base64.b64decode(each["png"])}) for each in facts["pictures"]],
            warnings=list(facts["warnings"]),
        )


def _table(facts: dict[str, Any]) -> Table:
    rows: Sequence[Sequence[Cell]] = facts["rows"]
    return Table(**{**facts, "head": tuple(facts["head"]), "rows": tuple(tuple(row) for row in rows)})
