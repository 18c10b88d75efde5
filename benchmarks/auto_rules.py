"""Measures what the rules of `--engine auto` rest on: OpenVINO beside ONNX Runtime, for the denoiser of each package.

`python benchmarks/auto_rules.py ./sd15 ./other --write` needs the extras cpu, openvino and export, and a machine that
does nothing else.
"""

import datetime
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]

import click  # noqa: E402

from ldm_export.bench import machine  # noqa: E402
from ldm_export.tables import markdown_table  # noqa: E402
from ldm_export.tune.candidates import EXACT, Candidate  # noqa: E402
from ldm_export.tune.measure import DENOISER, measure  # noqa: E402
from ldm_export.tune.race import Timing  # noqa: E402
from ldm_runtime.engines.openvino.rule import LEAST_COPIES, LEAST_STEPS, LEAST_UNIT, LEAST_WEIGHTS  # noqa: E402
from ldm_runtime.package.open import open_package  # noqa: E402
from ldm_runtime.package.safetensors import read_header  # noqa: E402

TABLE = ROOT / "benchmarks" / "auto_rules.md"
STEP, START, PEAK = (tuple(f"{what}, {engine}" for engine in ("ORT", "OpenVINO")) for what in ("step", "start", "peak"))
HEAD = ("package", "weights", "size", *STEP, "ratio", *START, "pays from", *PEAK)
ENGINES = ("ort", "openvino")


@dataclass(frozen=True)
class Result:
    """The rounds of one package. weights: of its denoiser. timings: engine of the denoiser -> a timing a round."""

    package: str
    weights: int
    size: tuple[int, int]
    steps: int
    timings: dict[str, list[Timing]]

    def step(self, engine: str) -> float:
        """Return the median seconds of a sampling step."""
        return statistics.median(each.parts[DENOISER] for each in self.timings[engine]) / self.steps

    def start(self, engine: str) -> float:
        """Return the median seconds until images are drawn at full speed."""
        return statistics.median(each.load_seconds for each in self.timings[engine])

    def peak(self, engine: str) -> int:
        return max(each.peak_bytes for each in self.timings[engine])

    @property
    def pays_from(self) -> float | None:
        """Return the sampling steps in a process from which on OpenVINO is faster, its slower start included."""
        gain = self.step("ort") - self.step("openvino")
        return None if gain <= 0 else max(0.0, self.start("openvino") - self.start("ort")) / gain

    def cells(self) -> list[str]:
        pays = self.pays_from
        return [
            self.package,
            f"{self.weights / 1e6:.0f} M",
            f"{self.size[0]}x{self.size[1]}",
            *(f"{self.step(engine):.3g} s" for engine in ENGINES),
            f"{self.step('openvino') / self.step('ort'):.2f}",
            *(f"{self.start(engine):.2f} s" for engine in ENGINES),
            "never" if pays is None else f"{pays:.0f} steps",
            *(f"{self.peak(engine) / 1e9:.2f} GB" for engine in ENGINES),
        ]


@click.command()
@click.argument("packages", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Processes for each engine.")
@click.option("--write", is_flag=True, help=f"Write {TABLE.relative_to(ROOT)}.")
def main(packages: Sequence[Path], rounds: int, write: bool) -> None:
    """Let ONNX Runtime and OpenVINO take turns at the denoisers of PACKAGES, and print the table of the rule.

    \b
    Example:
      python benchmarks/auto_rules.py ./sd15 --write
    """
    text = page([measured(path, rounds) for path in packages], rounds)
    click.echo(text)
    if write:
        TABLE.write_text(text, encoding="utf-8")


def measured(path: Path, rounds: int) -> Result:
    """Measure both engines in turns; everything but the denoiser is run by ONNX Runtime."""
    package = open_package(path)
    package.confirm()
    contract = package.manifest.contract
    denoiser, size = contract.denoiser.component, (contract.image.width, contract.image.height)
    weights = read_header(path / package.manifest.components[denoiser].weights).weights
    timings: dict[str, list[Timing]] = {engine: [] for engine in ENGINES}
    for index in range(rounds):
        for engine in ENGINES if index % 2 == 0 else ENGINES[::-1]:
            click.echo(f"round {index + 1} of {rounds}, {package.manifest.name}, {engine}", err=True)
            engines = {**dict.fromkeys(contract.components, "ort"), denoiser: engine}
            timings[engine].append(measure(path, size, Candidate(EXACT, engines, None)))
    return Result(package.manifest.name, weights, size, contract.defaults.steps, timings)


def page(results: Sequence[Result], rounds: int) -> str:
    """Write the table, with the machine and the rule that it shall justify."""
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    rule = (
        f"`--engine auto` takes OpenVINO for a denoiser of {LEAST_WEIGHTS:,} weights or more, on CPUs with "
        f"`{LEAST_UNIT}`, in packages that draw in {LEAST_STEPS} steps or more, with memory for {LEAST_COPIES} copies "
        "of the weights in float32."
    )
    align = "<" + ">" * (len(HEAD) - 1)
    return (
        "# What `--engine auto` rests on\n\n"
        f"Written by `benchmarks/auto_rules.py`. {machine()}, {when}, medians of "
        f"{rounds} rounds in turns. A step is a sampling step with guidance, the start is the time until images are "
        "drawn at full speed, and the peak that of the whole process; all but the denoiser is run by ONNX Runtime.\n\n"
        f"{markdown_table(HEAD, [each.cells() for each in results], align)}\n\n"
        f"{rule}\n"
    )


if __name__ == "__main__":
    main()
