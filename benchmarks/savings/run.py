"""What each exact saving of the OpenVINO engine gives: every one on and off, in runs that take turns.

    python benchmarks/exact_savings.py [PACKAGE] [--component unet] [--rounds 5] [--threads N] [--batch 2] [--size 512]
                                       [--precision bf16] [--json savings.json]

Without PACKAGE it is the built-in model. Each saving, and all together, is an engine of its own beside one without any;
both are in one process and evaluate the same inputs in turns, first one, then the other ahead. A ratio is the median of
the ratios within a round, with the smallest and largest. The latents of a denoiser are equal in both halves of the
batch, as guidance has them, the text is the same in all rounds, and the time that of one of 20 steps which were all
seen before, as from the second image on. "sizes" fixes the sizes of the images and spares nothing else. Memory is that
of the process with both engines; "s first" is the first evaluation with the saving, which compiles.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ldm_export.bench import feeds, machine
from ldm_export.process.isolate import Outcome, run_isolated
from ldm_export.tables import markdown_table
from ldm_export.verify.metrics import relative_rms
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.openvino import missing_openvino
from ldm_runtime.engines.openvino_products import METHODS
from ldm_runtime.engines.openvino_savings import NAMES, SIZES
from ldm_runtime.package.artefacts import Precision
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.pipeline import builtin_package

STEPS = 20
NONE, ALL = "none", "all"


def feeds_of(package: Package, component: str, batch: int, size: int) -> list[dict[str, np.ndarray]]:
    """Draw the inputs of a component for images of `size`, one set for each step's time."""
    contract = package.manifest.contract
    made, role = feeds(contract, component, (size, size), batch=batch), contract.denoiser
    if component != role.component:
        return [made]
    made[role.sample][:] = made[role.sample][:1]
    return [{**made, role.timestep: np.full_like(made[role.timestep], time)} for time in np.linspace(951, 1, STEPS)]


@dataclass(frozen=True)
class Setting:
    """What is measured with one component. batch: of a denoiser. size: of the image. precision: None: float32."""

    path: Path
    component: str
    batch: int
    size: int
    threads: int | None
    precision: Precision | None
    rounds: int


@dataclass(frozen=True)
class Measured:
    """Seconds of each round without and with a saving. first: of the first evaluation with it, which compiles.

    relative_rms: how far the outputs lie apart.
    """

    without: list[float]
    spared: list[float]
    first: float
    relative_rms: float

    @property
    def ratios(self) -> list[float]:
        return [own / plain for own, plain in zip(self.spared, self.without, strict=True)]


def measure(setting: Setting, savings: str) -> Measured:
    """Evaluate a component without and with `savings`, in turns."""
    package = open_package(setting.path, check="size")
    inputs = feeds_of(package, setting.component, setting.batch, setting.size)
    engines = {name: _opened(package, setting, name) for name in (NONE, savings)}
    outputs = {}
    for name, engine in engines.items():
        start = time.perf_counter()
        outputs[name] = next(iter(engine.run(inputs[0]).values()))
        first = time.perf_counter() - start
    if savings in ("time", ALL):
        for each in inputs[1:]:
            engines[savings].run(each)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for index in range(setting.rounds + 1):
        for name in sorted(engines, reverse=index % 2 == 1):
            start = time.perf_counter()
            engines[name].run(inputs[index % len(inputs)])
            seconds[name].append(time.perf_counter() - start)
    error = relative_rms(outputs[savings], outputs[NONE])
    return Measured(seconds[NONE][1:], seconds[savings][1:], first, error)  # the first warms up


def _opened(package: Package, setting: Setting, savings: str) -> Engine:
    choice = choose("openvino", threads=setting.threads, options={"openvino": {"savings": savings}})
    return open_engine(choice, package, setting.component, precision=setting.precision).engine


def _row(component: str, savings: str, outcome: Outcome) -> list[str]:
    found: Measured = outcome.value
    ratios = found.ratios
    return [
        component,
        savings,
        f"{statistics.median(found.without):.3f}",
        f"{statistics.median(found.spared):.3f}",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        f"{found.first:.1f}",
        f"{outcome.peak_bytes / 1e9:.1f}",
        f"{found.relative_rms:.1e}",
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", type=Path, default=builtin_package())
    parser.add_argument("--component", action="append", help="default: the denoiser and the decoder")
    parser.add_argument("--saving", action="append", choices=[*NAMES, ALL], help="default: each alone, then all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, default=2, help="of the denoiser")
    parser.add_argument("--size", type=int, help="of the image; default: the package's width")
    parser.add_argument("--precision", choices=["bf16"], help="what is computed in")
    parser.add_argument("--json", type=Path, help="also write the seconds of all rounds")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    missing = missing_openvino()
    if missing is not None:
        sys.exit(f"error: {missing}")
    path = arguments.package.absolute()
    contract = open_package(path, check="size").manifest.contract
    size = arguments.size or contract.image.width
    denoiser, decoder = contract.denoiser.component, contract.codec.decoder.component
    rows, results = [], []
    for component in arguments.component or [denoiser, decoder]:
        setting = Setting(
            path, component, arguments.batch, size, arguments.threads, arguments.precision, arguments.rounds
        )
        for savings in arguments.saving or [*(NAMES if component == denoiser else (SIZES, *METHODS)), ALL]:
            outcome = run_isolated(measure, setting, savings)
            rows.append(_row(component, savings, outcome))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
            found = {"component": component, "saving": savings, "peak_bytes": outcome.peak_bytes}
            results.append({**found, **asdict(outcome.value)})
    print(f"{machine()}; {size}x{size}, {arguments.precision or 'fp32'}, {arguments.rounds} rounds\n")
    head = ["component", "saving", "s without", "s with", "ratio", "s first", "GB of both", "relative RMS"]
    print(markdown_table(head, rows, "<<>>>>>>"))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "size": size, "results": results}, indent=1) + "\n")
