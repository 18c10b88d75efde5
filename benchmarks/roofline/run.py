"""Measures the rates of this processor in float32, bfloat16, float16 and eight bits, and writes what they bound."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks.roofline.bounds import render
from benchmarks.roofline.shapes import SHAPES, Shape
from benchmarks.roofline.ways import Evaluate, Refused, Way, ways
from ldm_export.bench import MAX_ROUNDS, machine
from ldm_runtime.engines.choice import most_threads
from ldm_runtime.engines.units import cpu_units
from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_file

SHORTEST = 0.1  # seconds that a layer is run for in each round

Say = Callable[[str], None]
Measured = dict[str, dict[str, list[float]]]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of roofline.md and roofline.json.")
@click.option("--rounds", type=click.IntRange(1, MAX_ROUNDS), default=5, show_default=True, help="Rounds in turns.")
@click.option("--threads", type=click.IntRange(1, most_threads()), default=2, show_default=True, help="Of each engine.")
def main(out: Path, rounds: int, threads: int) -> None:
    """Measure how fast ONNX Runtime and OpenVINO multiply here, in layers as Stable Diffusion 1.5 has them.

    Nothing else should run meanwhile. It takes a few minutes.

    \b
    Example:
      python benchmarks/roofline.py --out runs/roofline
    """
    try:
        notes: dict[str, str] = {}
        seconds = measure(ways(cpu_units()), SHAPES, rounds, threads, notes, lambda text: click.echo(text, err=True))
        text = render(f"{machine()}, {time.strftime('%Y-%m-%d')}", threads, SHAPES, seconds, notes)
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / "roofline.json") as temporary:
        facts = {"machine": machine(), "threads": threads, "seconds": seconds, "notes": notes}
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with atomic_file(out / "roofline.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(text)


def measure(
    ways: Sequence[Way], shapes: Sequence[Shape], rounds: int, threads: int, notes: dict[str, str], say: Say
) -> Measured:
    """Return seconds of an evaluation by way, shape and round; every way has its turn in each round.

    `notes` gets what each way computed in, or why it did not run: then it has no figures.
    """
    seconds: Measured = {way.name: {} for way in ways}
    refused: set[str] = set()
    kinds: dict[str, list[str]] = {way.name: [] for way in ways}
    for shape in shapes:
        say(shape.name)
        evaluations: dict[str, Evaluate] = {}
        for way in ways:
            if way.name in refused:
                continue
            try:
                evaluations[way.name], kind = way.open(way.graph(shape), shape.feed(), threads)
                kinds[way.name] += [kind] if kind not in kinds[way.name] else []
            except Refused as error:
                refused.add(way.name)
                seconds[way.name], notes[way.name] = {}, f"not run; {error}"
        for index in range(rounds):
            for name in list(evaluations)[:: 1 if index % 2 == 0 else -1]:
                seconds[name].setdefault(shape.name, []).append(best_of(evaluations[name]))
    notes.update({name: f"computed in {', '.join(each)}" for name, each in kinds.items() if name not in refused})
    return seconds


def best_of(evaluate: Evaluate, shortest: float = SHORTEST, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the shortest of the evaluations, at least two, that fit into `shortest` seconds, after one to warm up."""
    evaluate()
    best, begun, count = math.inf, clock(), 0
    while count < 2 or clock() - begun < shortest:
        started = clock()
        evaluate()
        best, count = min(best, clock() - started), count + 1
    return best


if __name__ == "__main__":
    main()
