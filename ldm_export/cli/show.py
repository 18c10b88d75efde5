"""Output of the verbs: reports, notices, progress."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from ldm_export.process.streams import echo, echo_json

if TYPE_CHECKING:
    from ldm_export.bench import BenchReport
    from ldm_export.tune.report import TuneReport
    from ldm_export.verify.report import Report
    from ldm_runtime.run import Run, Step

LOG_EVERY_SECONDS = 2.0


def show_report(report: "BenchReport | TuneReport | Report", as_json: bool) -> None:
    if as_json:
        echo_json(report.to_json())
    else:
        echo(report.table())


def stage_printer() -> Callable[[str], None]:
    """Make a function that prints progress on stderr, after the seconds since the start."""
    started = time.monotonic()
    return lambda text: echo(f"[{time.monotonic() - started:7.1f} s] {text}", err=True)


def show_notices(notices: Iterable[object]) -> None:
    """Print notices, one a line, on stderr."""
    for notice in notices:
        echo(f"note: {notice}", err=True)


def show_steps(run: "Run") -> "Step":
    """Drive a run and return its last step; progress is a bar for a person, some lines for a log."""
    started = logged = time.monotonic()
    hidden = not sys.stderr.isatty()
    with click.progressbar(run, length=run.total, label="sampling", file=sys.stderr, hidden=hidden) as bar:
        for last in bar:
            now, done = time.monotonic(), last.index + 1
            ends_log = done == run.total and logged > started
            if hidden and (now - logged > LOG_EVERY_SECONDS or ends_log):
                left = (now - started) / done * (run.total - done)
                echo(f"step {done} of {run.total}, {left:.0f} s left", err=True)
                logged = now
    return last
