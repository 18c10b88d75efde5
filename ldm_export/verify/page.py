"""The gate's report as one self-contained HTML page: verdict, tables, plots, images. The template is beside it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ldm_export.plots import FrontierPoint, draw_drift, draw_frontier, has_matplotlib, to_png
from ldm_export.precision.table import ROUNDING_FACTOR
from ldm_export.verify.report import CaseResult, Report, TrajectoryResult, closest
from ldm_runtime.package.variants import Variant

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Figure:
    """A PNG or SVG file and its caption."""

    caption: str
    content: bytes


def render(report: Report, images: Sequence[Figure], variants: Sequence[Variant] = ()) -> str:
    """Render the whole page. It loads nothing from anywhere, and everything that came from a file is escaped.

    variants: those that the package records. Without matplotlib the drift and the variants are tables alone.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"scientific": _scientific, "data_url": _data_url}
    plots = [] if report.trajectory is None or not has_matplotlib() else _plots(report.trajectory)
    graphs = [_graph(*key, cases) for key, cases in report.by_graph().items()]
    page = environment.get_template(TEMPLATE)
    return page.render(
        report=report,
        factor=ROUNDING_FACTOR,
        graphs=graphs,
        plots=plots,
        has_plots=has_matplotlib(),
        images=images,
        variants=variants,
        frontier=_frontier(variants) if variants and has_matplotlib() else None,
    )


def _frontier(variants: Sequence[Variant]) -> Figure:
    """Draw what the variants took and lost where they were measured, beside the exact run."""
    points = [FrontierPoint("exact", 1.0, None)]
    points += [FrontierPoint(each.name, each.time, each.error.psnr) for each in variants]
    return Figure(
        "Time and PSNR of the variants", to_png(draw_frontier(points, "time of a run, in that of the exact one"))
    )


def _graph(component: str, artefact: str, cases: list[CaseResult]) -> dict[str, Any]:
    passed = all(case.passed for case in cases)
    return {"component": component, "artefact": artefact, "cases": cases, "worst": closest(cases), "passed": passed}


def _plots(trajectory: TrajectoryResult) -> list[Figure]:
    """Draw the drift as SVG files; curves without a value are left out."""
    drift = trajectory.drift
    psnr = [step.psnr for step in drift]
    # Zero has no place on a logarithmic axis.
    rms = [step.relative_rms if step.relative_rms else None for step in drift]
    plots = []
    for title, values, floor in (
        ("Latents: PSNR per step (dB)", psnr, trajectory.latents_floor),
        ("Latents: relative RMS per step", rms, None),
    ):
        if any(value is not None for value in values):
            plots.append(Figure(title, draw_drift(title, values, floor, log=floor is None)))
    return plots


def _scientific(value: float | None) -> str:
    return "—" if value is None else "0" if value == 0 else f"{value:.2e}"


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
