"""The gate's report as one self-contained HTML page: verdict, tables, drift plots (inline SVG), pictures."""

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ldm_export.precision.table import ROUNDING_FACTOR
from ldm_export.verify.report import CaseResult, Report, TrajectoryResult, closest

STYLE = """
:root { color-scheme: light dark; --line: #8885; --bad: #c62828; --good: #2e7d32; --ink: #1565c0; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #81c784; --ink: #90caf9; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
td { overflow-wrap: break-word; } .cases { font-size: .85rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }
figure img { display: block; width: 256px; image-rendering: pixelated; border: 1px solid var(--line); }
figcaption, .note { font-size: .85rem; opacity: .8; }
svg { width: 100%; max-width: 30rem; height: auto; margin-right: 1rem; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
svg .grid { stroke: var(--line); } svg .floor { stroke: var(--bad); stroke-dasharray: 5 4; }
svg .curve { fill: none; stroke: var(--ink); stroke-width: 1.8; } svg .dot { fill: var(--ink); }
code { font-size: .85em; overflow-wrap: anywhere; }
"""

# Plot geometry in SVG units.
WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 36


@dataclass(frozen=True)
class Picture:
    """A PNG file's bytes and what the page says under it."""

    caption: str
    png: bytes


def render(report: Report, pictures: Sequence[Picture]) -> str:
    """The whole page; it loads nothing from anywhere, and everything that came from a file is escaped."""
    verdict = "passed" if report.passed else "failed"
    parts = [
        f"<h1>{_text(report.package)}: parity <span class={verdict}>{verdict}</span></h1>",
        f"<p>Engine: {_text(report.engine)}. Every graph is compared with the torch model it was exported "
        f"from, computed in float64, at sizes other than those it was traced at; figures are the worst sample's. "
        f"A tolerance is {ROUNDING_FACTOR:g} times what torch itself loses by computing in float32.</p>",
        _failures(report),
        "<h2>Components</h2>",
        _graph_table(report),
        _trajectory(report.trajectory, pictures),
        "<h2>All cases</h2>",
        f"<div class=cases>{_case_table(report.cases)}</div>",
        "<h2>Contract and tokens</h2>",
        _fact_table(report),
        "<h2>Files this is about</h2>",
        _table(("file", "SHA-256"), [(_text(path), _code(digest)) for path, digest in report.artefacts.items()]),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(report.package)}: parity {verdict}</title><style>{STYLE}</style></head>\n"
        f"<body>{chr(10).join(parts)}</body></html>\n"
    )


def _failures(report: Report) -> str:
    if report.passed:
        return ""
    items = "".join(f"<li>{_text(failure)}</li>" for failure in report.failures)
    return f"<h2 class=failed>What failed</h2><ul>{items}</ul>"


def _graph_table(report: Report) -> str:
    rows = []
    for (component, artefact), cases in report.by_graph().items():
        failed = sum(not case.passed for case in cases)
        worst = closest(cases)
        rows.append(
            (
                _text(component),
                _text(artefact),
                _number(str(len(cases))),
                _number(_scientific(None if worst is None else worst.relative_rms)),
                _number(_scientific(None if worst is None else worst.tolerance)),
                _verdict(failed == 0),
            )
        )
    return _table(("component", "graph", "#cases", "#closest case's relative RMS", "#its tolerance", "verdict"), rows)


def _trajectory(trajectory: TrajectoryResult | None, pictures: Sequence[Picture]) -> str:
    if trajectory is None:
        return "<h2>Sampling run</h2><p class=failed>Not reached.</p>"
    width, height = trajectory.size
    settings = (
        f"{trajectory.sampler}, {trajectory.steps} steps, guidance {trajectory.guidance:g}, {width} x "
        f"{height} pixels, seed {trajectory.seed}, prompt “{trajectory.prompt}”, "
        f"negative “{trajectory.negative}”"
    )
    drift = trajectory.drift
    plots = _plot("Latents: PSNR per step (dB)", [step.psnr for step in drift], floor=trajectory.latents_floor) + _plot(
        "Latents: relative RMS per step (log10)",
        [math.log10(step.relative_rms) if step.relative_rms else None for step in drift],
        floor=None,
    )
    figures = "".join(
        f'<figure><img alt="{_text(picture.caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode("ascii")}">'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
        for picture in pictures
    )
    problem = "" if trajectory.problem is None else f"<p class=failed>{_text(trajectory.problem)}</p>"
    return (
        f"<h2>Sampling run</h2><p>{_text(settings)}: {_verdict(trajectory.passed)}</p>{problem}"
        f"<div>{plots}</div>{_image_line(trajectory)}<div>{figures}</div>"
    )


def _image_line(trajectory: TrajectoryResult) -> str:
    if trajectory.image_ssim is None:
        return "<p>No picture was compared.</p>"
    decibels = "equal" if trajectory.image_psnr is None else f"{trajectory.image_psnr:.1f} dB"
    return (
        f"<p>Picture: PSNR {decibels} (floor {trajectory.picture_floor:.0f} dB), "
        f"SSIM {trajectory.image_ssim:.6f}, largest difference "
        f"{trajectory.image_max_levels} of 255 levels.</p>"
    )


def _case_table(cases: Sequence[CaseResult]) -> str:
    rows = [
        (
            _text(case.component),
            _text(case.artefact),
            _text(case.case),
            _text(f"{case.output} {' x '.join(str(size) for size in case.shape)}"),
            _number(_scientific(case.relative_rms)),
            _number(_scientific(case.max_abs)),
            _number("—" if case.psnr is None else f"{case.psnr:.1f}"),
            _number(_scientific(case.tolerance)),
            _verdict(case.passed) + ("" if case.problem is None else f" {_text(case.problem)}"),
        )
        for case in cases
    ]
    names = (
        "component",
        "graph",
        "case",
        "output",
        "#relative RMS",
        "#max abs",
        "#PSNR dB",
        "#tolerance",
        "verdict",
    )
    return _table(names, rows)


def _fact_table(report: Report) -> str:
    rows = [(_text(fact.name), _code(fact.found), _code(fact.expected), _verdict(fact.passed)) for fact in report.facts]
    return _table(("fact", "package", "reference", "verdict"), rows)


def _plot(title: str, values: Sequence[float | None], *, floor: float | None) -> str:
    """A line plot over steps 1…n as SVG; None leaves a gap, `floor` is a dashed line that must stay below."""
    known = [value for value in values if value is not None]
    if not known:
        return f"<p class=note>{_text(title)}: no step differs, or none could be measured.</p>"
    ticks = _ticks([*known, *([] if floor is None else [floor])])
    low, high = ticks[0], ticks[-1]

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index / max(len(values) - 1, 1))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    marks = [f'<text x="{LEFT}" y="16" font-weight="600">{_text(title)}</text>']
    for tick in ticks:
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for index in sorted({0, (len(values) - 1) // 2, len(values) - 1}):
        marks.append(f'<text x="{x(index):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{index + 1}</text>')
    marks.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    if floor is not None:
        marks.append(f'<line class="floor" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(floor):.1f}" y2="{y(floor):.1f}"/>')
        marks.append(f'<text x="{WIDTH - RIGHT}" y="{y(floor) - 5:.1f}" text-anchor="end">floor {floor:.0f}</text>')
    points = [(x(index), y(value)) for index, value in enumerate(values) if value is not None]
    marks.append('<polyline class="curve" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
    marks += [f'<circle class="dot" r="2.6" cx="{a:.1f}" cy="{b:.1f}"/>' for a, b in points]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(title)}">{"".join(marks)}</svg>'


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that enclose the values, about five of them."""
    low, high = min(values), max(values)
    rough = (high - low) / 4 if high > low else 0.25
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`names` beginning with # are numeric columns; cells are HTML already."""
    head = "".join(
        f"<th class=number>{_text(name[1:])}</th>" if name.startswith("#") else f"<th>{_text(name)}</th>"
        for name in names
    )
    body = "".join(
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(text: str) -> str:
    return f"<td class=number>{_text(text)}</td>"


def _verdict(passed: bool) -> str:
    return "<span class=passed>passed</span>" if passed else "<span class=failed>failed</span>"


def _scientific(value: float | None) -> str:
    return "—" if value is None else "0" if value == 0 else f"{value:.2e}"


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
