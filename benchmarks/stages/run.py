"""Measures time and peak memory of every stage between a checkpoint and an image, each in a process of its own.

    python benchmarks/stage_memory.py ./sdxl --out runs/sdxl-stages --size 512x512 --steps 2 --most 14 --most-run 8

Pages of files that are mapped count as memory. A stage that is done is not done again: delete the folder to start anew.
Checkpoints of real sizes with random weights: `python -m tests.make_sd15`, `python -m tests.make_sdxl`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from ldm_export.build import build_package, memory_needs
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.process.isolate import StageCost, run_isolated
from ldm_export.recipes.build import BuildRecipe
from ldm_export.tables import markdown_table
from ldm_export.verify.gate import verify_package

PROMPT = "a lighthouse at dusk"


def build(source: Path, package: Path) -> list[StageCost]:
    """Build, and return the stages of it."""
    return build_package(source, package, recipe=BuildRecipe(), progress=report).stages


def verify(package: Path) -> None:
    """Verify as the command does. Raises AssertionError where the package does not pass."""
    assert verify_package(package, progress=report).passed


def draw(package: Path, size: tuple[int, int], steps: int) -> None:
    """Draw one image."""
    import ldm_runtime

    with ldm_runtime.load(package, check="size") as pipe:
        pipe(PROMPT, size=size, steps=steps, seed=0)


def report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Costs:
    """The costs of stages that are done, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        kept = json.loads(file.read_text()) if file.exists() else []
        self.stages = [StageCost(*each) for each in kept]

    def add(self, *stages: StageCost) -> None:
        self.stages += stages
        self.file.write_text(json.dumps(self.stages, indent=1))
        for stage in stages:
            report(f"{stage.name}: {stage.seconds:.0f} s, {stage.peak_bytes / 1e9:.2f} GB")

    def has(self, name: str) -> bool:
        return any(stage.name == name for stage in self.stages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--most", type=float, default=float("inf"), help="GB that no stage may exceed")
    parser.add_argument("--most-run", type=float, default=float("inf"), help="GB that drawing may not exceed")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    package, costs = arguments.out / "package", Costs(arguments.out / "stages.json")
    width, height = (int(side) for side in arguments.size.split("x"))
    if not costs.has("build"):
        outcome = run_isolated(build, arguments.checkpoint, package)
        costs.add(*outcome.value, outcome.stage("build"))
    if not costs.has("verify again"):
        costs.add(run_isolated(verify, package).stage("verify again"))
    name = f"draw {arguments.size}, {arguments.steps} steps"
    if not costs.has(name):
        costs.add(run_isolated(draw, package, (width, height), arguments.steps).stage(name))
    needs = memory_needs(open_checkpoint(arguments.checkpoint))
    rows = [[each.name, f"{each.seconds:.0f} s", f"{each.peak_bytes / 1e9:.1f} GB"] for each in costs.stages]
    rows += [[f"estimated: {stage}", "", f"{need / 1e9:.1f} GB"] for stage, need in needs.items()]
    table = markdown_table(["stage", "time", "peak memory"], rows, "<>>")
    (arguments.out / "stages.md").write_text(f"{table}\n\n{os.cpu_count()} CPUs\n")
    print(table)
    limits = {
        each.name: arguments.most_run if each.name.startswith("draw") else arguments.most for each in costs.stages
    }
    over = [each for each in costs.stages if each.peak_bytes > 1e9 * limits[each.name]]
    for each in over:
        report(f"{each.name} took {each.peak_bytes / 1e9:.2f} GB, more than {limits[each.name]:g} GB")
    return 1 if over else 0
