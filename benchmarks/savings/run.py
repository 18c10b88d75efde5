"""What each exact saving of the OpenVINO engine gives: every one on and off, in runs that take turns."""

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from ldm_export.bench import MAX_ROUNDS, feeds, machine
from ldm_export.process.isolate import Outcome, run_isolated
from ldm_export.tables import markdown_table, spread
from ldm_export.verify.metrics import relative_rms
from ldm_runtime.engines.choice import choose, most_threads, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.openvino.library import missing_openvino
from ldm_runtime.engines.openvino.products import METHODS
from ldm_runtime.engines.openvino.savings import NAMES, SIZES
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.artefacts import Precision
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.request import check_image_size

STEPS = 20
NONE, ALL = "none", "all"
HEAD = ("component", "saving", "s without", "s with", "ratio", "s first", "GB of both", "relative RMS")


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


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("package", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--component",
    "components",
    multiple=True,
    help="Only this one (repeatable; default: the denoiser and the decoder).",
)
@click.option(
    "--saving",
    "savings",
    multiple=True,
    type=click.Choice([*NAMES, ALL]),
    help="Only this one (default: each, and all).",
)
@click.option("--rounds", type=click.IntRange(1, MAX_ROUNDS), default=5, show_default=True, help="In turns.")
@click.option(
    "--threads", type=click.IntRange(1, most_threads()), help="Of an operator (default: the engine's choice)."
)
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True, help="Samples of the denoiser.")
@click.option("--size", type=click.IntRange(1), help="Width and height of the image (default: the package's width).")
@click.option("--precision", type=click.Choice(["bf16"]), help="What is computed in (default: float32).")
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), help="File of all rounds to write.")
def main(
    package: Path | None,
    components: tuple[str, ...],
    savings: tuple[str, ...],
    rounds: int,
    threads: int | None,
    batch: int,
    size: int | None,
    precision: Precision | None,
    out: Path | None,
) -> None:
    """Measure what each exact saving of the OpenVINO engine gives to PACKAGE (default: the built-in model).

    Each saving, and all together, is an engine of its own beside one without any; both are in one process and evaluate
    the same inputs in turns, first one, then the other ahead. A ratio is the median of the ratios within a round, with
    the smallest and largest. The latents of a denoiser are equal in both halves of the batch, as guidance has them, the
    text is the same in all rounds, and the time that of one of 20 steps which were all seen before, as from the second
    image on. "sizes" fixes the sizes of the images and spares nothing else. Memory is that of the process with both
    engines; "s first" is the first evaluation with the saving, which compiles.

    \b
    Examples:
      python benchmarks/exact_savings.py
      python benchmarks/exact_savings.py ./sd15 --component unet --size 512 --precision bf16 --json savings.json
    """
    path = (builtin_package() if package is None else package).absolute()
    try:
        contract = _contract(path, components)
        side = contract.image.width if size is None else size
        check_image_size(contract, side, side, "--size")
        found = [
            (Setting(path, component, batch, side, threads, precision, rounds), saving)
            for component in components or _default_components(contract)
            for saving in savings or _savings_of(contract, component)
        ]
        outcomes = [(setting, saving, run_isolated(measure, setting, saving)) for setting, saving in _said(found)]
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    if out is not None:
        facts = {"machine": machine(), "size": side, "results": [_facts(*each) for each in outcomes]}
        with atomic_file(out) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{machine()}; {side}x{side}, {precision or 'fp32'}, {rounds} rounds\n")
    click.echo(markdown_table(HEAD, [_row(*each) for each in outcomes], "<<" + ">" * (len(HEAD) - 2)))


def feeds_of(contract: Contract, component: str, batch: int, size: int) -> list[dict[str, np.ndarray]]:
    """Draw the inputs of a component for images of `size`, one set for each step's time."""
    made, role = feeds(contract, component, (size, size), batch=batch), contract.denoiser
    if component != role.component:
        return [made]
    made[role.sample][:] = made[role.sample][:1]
    return [{**made, role.timestep: np.full_like(made[role.timestep], time)} for time in np.linspace(951, 1, STEPS)]


def measure(setting: Setting, saving: str) -> Measured:
    """Evaluate a component without and with a saving, in turns."""
    package = open_package(setting.path, check="size")
    inputs = feeds_of(package.manifest.contract, setting.component, setting.batch, setting.size)
    engines = {name: _opened(package, setting, name) for name in (NONE, saving)}
    _, plain = _timed(engines[NONE], inputs[0])
    first, spared = _timed(engines[saving], inputs[0])
    for each in inputs[1:] if saving in ("time", ALL) else ():
        engines[saving].run(each)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for index in range(setting.rounds + 1):
        for name in sorted(engines, reverse=index % 2 == 1):
            seconds[name].append(_timed(engines[name], inputs[index % len(inputs)])[0])
    return Measured(seconds[NONE][1:], seconds[saving][1:], first, relative_rms(spared, plain))  # the first warms up


def _contract(path: Path, components: tuple[str, ...]) -> Contract:
    """Return the package's contract. Raises LdmError where nothing can be measured of it."""
    missing = missing_openvino()
    if missing is not None:
        raise EngineUnavailable(f"openvino: {missing}")
    contract = open_package(path, check="size").manifest.contract
    for name in components:
        if name not in contract.components:
            raise InputError(f"--component got {name!r}; {path} has {', '.join(contract.components)}")
    return contract


def _default_components(contract: Contract) -> tuple[str, ...]:
    return contract.denoiser.component, contract.codec.decoder.component


def _savings_of(contract: Contract, component: str) -> tuple[str, ...]:
    """Name the savings that a component may have, and all together."""
    return (*(NAMES if component == contract.denoiser.component else (SIZES, *METHODS)), ALL)


def _said(found: list[tuple[Setting, str]]) -> Iterator[tuple[Setting, str]]:
    """Say what is measured before it is."""
    for number, (setting, saving) in enumerate(found, 1):
        click.echo(f"{number} of {len(found)}: {setting.component}, {saving}", err=True)
        yield setting, saving


def _opened(package: Package, setting: Setting, saving: str) -> Engine:
    choice = choose("openvino", threads=setting.threads, options={"openvino": {"savings": saving}})
    return open_engine(choice, package, setting.component, precision=setting.precision).engine


def _timed(engine: Engine, inputs: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the seconds of an evaluation, and its first output."""
    started = time.perf_counter()
    made = next(iter(engine.run(inputs).values()))
    return time.perf_counter() - started, made


def _facts(setting: Setting, saving: str, outcome: Outcome) -> dict[str, object]:
    found = {"component": setting.component, "saving": saving, "peak_bytes": outcome.peak_bytes}
    return {**found, **asdict(outcome.value)}


def _row(setting: Setting, saving: str, outcome: Outcome) -> list[str]:
    found: Measured = outcome.value
    return [
        setting.component,
        saving,
        f"{statistics.median(found.without):.3f}",
        f"{statistics.median(found.spared):.3f}",
        spread(found.ratios, form=".3f"),
        f"{found.first:.1f}",
        f"{outcome.peak_bytes / 1e9:.1f}",
        f"{found.relative_rms:.1e}",
    ]


if __name__ == "__main__":
    main()
