"""What a tuning found, for a terminal, as JSON, and as files: the table, the frontier as CSV and as a plot."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ldm_export.tune import frontier
from ldm_export.tune.candidates import EXACT
from ldm_export.tune.frontier import Row
from ldm_export.tune.race import ENOUGH
from ldm_runtime.engines.profile import Best
from ldm_runtime.files.atomic import atomic_file, make_folder
from ldm_runtime.image import save_png

JSON, CSV, PLOT = FILES = ("tune.json", "frontier.csv", "frontier.png")


@dataclass(frozen=True)
class TuneReport:
    """All that was measured of a package, and what is drawn with from now on.

    rows: the default first. chosen: what the profile has. profile: its file, None where the time was too short for one,
    or where it could not be written, which `unkept` says. notices: what was left out, as sentences.
    """

    package: str
    machine: str
    size: tuple[int, int]
    steps: int
    minutes: float
    default_seconds: float | None
    rows: tuple[Row, ...]
    chosen: tuple[Best, ...]
    profile: str | None
    unkept: str | None
    notices: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    def table(self) -> str:
        """Render for a terminal."""
        size = f"{self.size[0]}x{self.size[1]}"
        lines = [f"{self.package}, {size}, {self.steps} steps, {self.machine}", "", frontier.table(self.rows), ""]
        lines += [self._choice(each) for each in self.chosen]
        lines += [] if self.profile is None else [f"profile: {self.profile}"]
        lines += [f"note: {notice}" for notice in self.notices]
        return "\n".join(lines)

    def _choice(self, chosen: Best) -> str:
        what = "exact images" if chosen.variant == EXACT else f"the variant {chosen.variant}"
        if not chosen.engines and chosen.threads is None and chosen.variant == EXACT:
            return f"{what}: the default; nothing else was faster in {ENOUGH} rounds by more than both spreads"
        engines = ", ".join(f"{component} {name}" for component, name in chosen.engines.items()) or "the usual engines"
        threads = "" if chosen.threads is None else f", --threads {chosen.threads}"
        if self.default_seconds is None:
            return f"{what}: {engines}{threads}; the default does not run here"
        share = chosen.seconds / self.default_seconds
        return f"{what}: {engines}{threads}; {share:.2f} of the default's {self.default_seconds:.3g} s"


def write_results(report: TuneReport, out: Path, *, force: bool) -> None:
    """Write the FILES into the folder `out`."""
    make_folder(out)
    for name, content in ((JSON, report.to_json()), (CSV, frontier.to_csv(report.rows))):
        with atomic_file(out / name, force=force) as temporary:
            temporary.write_text(content, encoding="utf-8")
    save_png(frontier.draw(report.rows), out / PLOT, {"package": report.package}, force=force)
