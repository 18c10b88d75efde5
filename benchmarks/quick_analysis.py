"""Runs `ldm-export analyze --quick` of all sections on the built-in model and made-up images, within its bounds of time
and memory: `python benchmarks/quick_analysis.py`. Exits with 1 where a section has no findings, or a bound is exceeded.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS, MOST_BYTES = 300.0, 6e9
IMAGES, SIDE = 64, 128  # as many as a section needs; pixels
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 70, 200), "yellow": (230, 200, 40)}
STYLES = ("flat", "3d")
SHAPES = ("disc", "square", "ring", "cross")


@click.command()
@click.option("--images", type=click.IntRange(IMAGES), default=IMAGES, show_default=True, help="How many to make up.")
@click.option("--seconds", type=float, default=MOST_SECONDS, show_default=True, help="The most it may take.")
def main(images: int, seconds: float) -> None:
    """Measure one run, print the sections by their time, and compare it with the bounds."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "images"), Path(folder, "analysis")
        write_images(data, images)
        taken, peak, report = measure(data, out)
    sections = report["sections"]
    for name, section in sorted(sections.items(), key=lambda item: -item[1]["seconds"]):
        click.echo(f"{name:<16}{section['seconds']:8.1f} s")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    click.echo(
        f"{len(sections)} sections of {images} images: {taken:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of "
        f"processors, at most {peak / 1e9:.2f} GB in a process"
    )
    found = faults(report, taken, peak, seconds)
    for fault in found:
        click.echo(f"error: {fault}", err=True)
    if found:
        sys.exit(1)


def measure(data: Path, out: Path) -> tuple[float, float, dict[str, Any]]:
    """Run the analysis in a process and return its seconds, the bytes of its largest process, and its report."""
    started = time.monotonic()
    command = [sys.executable, "-m", "ldm_export", "analyze", "--data", str(data), "--out", str(out), "--quick"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    taken, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    report = out / "report.json"
    if not report.is_file():
        raise click.ClickException(f"the analysis ended with {done.returncode}, and without a report")
    return taken, peak, json.loads(report.read_text(encoding="utf-8"))


def faults(report: dict[str, Any], taken: float, peak: float, most_seconds: float = MOST_SECONDS) -> list[str]:
    """Return what is wrong with a run, a sentence each."""
    found = [f"{name}: {each['problem']}" for name, each in report["sections"].items() if each["problem"] is not None]
    if taken > most_seconds:
        found.append(f"it took {taken:.0f} s; expected at most {most_seconds:.0f} s")
    if peak > MOST_BYTES:
        found.append(f"it held {peak / 1e9:.2f} GB; expected at most {MOST_BYTES / 1e9:.0f} GB")
    return found


def write_images(folder: Path, count: int) -> None:
    """Write shapes on nothing, with the captions of the emoji's form: what and in which style."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        colour, style = list(COLOURS)[number % len(COLOURS)], STYLES[number // 2 % len(STYLES)]
        shape = SHAPES[number // len(COLOURS) % len(SHAPES)]
        name = f"{number:03}.png"
        Image.fromarray(draw(shape, COLOURS[colour], style, random)).save(folder / name)
        rows.append({"file": name, "caption": f"{colour} {shape}, {style} style"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def draw(shape: str, colour: tuple[int, int, int], style: str, random: np.random.Generator) -> np.ndarray:
    """Draw a shape somewhere on nothing, shaded where it is 3d: uint8 (SIDE, SIDE, 4)."""
    (x0, y0), radius = random.uniform(0.35, 0.65, 2) * SIDE, random.uniform(0.2, 0.3) * SIDE
    y, x = (np.mgrid[:SIDE, :SIDE] - np.array([y0, x0])[:, None, None]) / radius
    away = np.hypot(x, y)
    inside = {
        "disc": away < 1,
        "square": np.maximum(abs(x), abs(y)) < 0.9,
        "ring": (away < 1) & (away > 0.5),
        "cross": (np.minimum(abs(x), abs(y)) < 0.35) & (away < 1.2),
    }[shape]
    light = np.clip(1 - 0.4 * np.hypot(x + 0.4, y + 0.4), 0, 1) if style == "3d" else np.ones_like(away)
    grain = random.normal(0, 6, (SIDE, SIDE, 1))
    rgb = np.clip(np.array(colour) * light[..., None] + grain, 0, 255)
    return np.concatenate([rgb, 255 * inside[..., None]], axis=2).astype(np.uint8)


if __name__ == "__main__":
    main()
