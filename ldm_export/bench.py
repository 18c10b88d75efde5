"""Measures engines side by side on one package: loading, latency, memory, size, error against the reference.

Every engine runs in a process of its own in every round, and the rounds take turns, so that what disturbs the machine
disturbs all of them alike.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.plots import draw_bars
from ldm_export.process.isolate import run_isolated
from ldm_export.tables import spread, text_table
from ldm_export.verify import reference_file
from ldm_export.verify.compare import compare, worst
from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.checks import check_integer
from ldm_runtime.engines.choice import AUTO, EngineChoice, choose, open_engine, open_way, readable_by, require
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.units import cpu_names, cpu_units, describe_units
from ldm_runtime.files.atomic import atomic_file, make_folder
from ldm_runtime.image import save_png
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.request import check_image_size
from ldm_runtime.variants import Chosen, choose_variant, named_variant

FILES = ("bench.json", "bench.png")
MAX_ROUNDS = 1000
MAX_STEPS = 1000
SECONDS_PER_GRAPH = 1.0  # a graph is run again until this has passed, and at least twice
PROMPT = "a photograph of an astronaut riding a horse"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class GraphRun:
    """One component in one process."""

    engine: str  # the one that "auto" took, where that was asked for
    files: tuple[str, ...]  # that it read
    load_seconds: float
    seconds: tuple[float, ...]  # of each evaluation after the first
    relative_rms: float | None  # the worst against the reference's cases; None where the package has no reference


@dataclass(frozen=True)
class EngineRun:
    """One engine in one process: all graphs, one after the other, then a whole image."""

    graphs: dict[str, GraphRun]
    step_seconds: tuple[float, ...]  # of each sampling step; some samplers evaluate the UNet several times in one
    image_seconds: float  # from the prompt to pixels, with everything loaded
    notices: tuple[str, ...]
    peak_bytes: int


@dataclass(frozen=True)
class EngineResult:
    """All rounds of one engine, and the bytes of the files that it reads. variant: that it drew with, None exactly."""

    engine: str
    file_bytes: int
    rounds: tuple[EngineRun, ...]
    variant: str | None = None

    @property
    def title(self) -> str:
        return self.engine if self.variant is None else f"{self.engine}, {self.variant}"


@dataclass(frozen=True)
class BenchReport:
    """All figures, with the machine and the package."""

    package: str
    machine: str
    size: tuple[int, int]
    steps: int
    threads: int | None
    text_encoders: tuple[str, ...]  # components
    decoder: str
    results: tuple[EngineResult, ...]

    def bars(self) -> dict[str, dict[str, float]]:
        """Return engine -> median seconds of an image, by part."""
        drawn = {}
        for result in self.results:
            graphs = result.rounds[0].graphs
            median = {
                name: statistics.median(seconds for each in result.rounds for seconds in each.graphs[name].seconds)
                for name in graphs
            }
            drawn[result.title] = {
                "text, twice": 2 * sum(median[name] for name in self.text_encoders),
                f"{self.steps} steps": statistics.median(sum(each.step_seconds) for each in result.rounds),
                "decoder": median[self.decoder],
            }
        return drawn

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    def table(self) -> str:
        """Render for a terminal: medians, with the smallest and largest in brackets."""
        lines = [f"{self.package}, {self.size[0]}x{self.size[1]}, {self.steps} steps, {self.machine}"]
        for result in self.results:
            peak = max(each.peak_bytes for each in result.rounds)
            error = worst_error(result)
            lines += [
                "",
                f"{result.title}: {result.file_bytes / 1e6:.0f} MB of files, {peak / 1e6:.0f} MB at the peak, "
                + ("no reference" if error is None else f"{error:.1e} from the reference"),
            ]
            rows = []
            for name in result.rounds[0].graphs:
                loads = [each.graphs[name].load_seconds for each in result.rounds]
                runs = [1000 * seconds for each in result.rounds for seconds in each.graphs[name].seconds]
                rows.append([name, spread(loads, form=".2f"), spread(runs, form=".1f")])
            steps = [1000 * seconds for each in result.rounds for seconds in each.step_seconds]
            images = [each.image_seconds for each in result.rounds]
            rows.append(["step", "", spread(steps, form=".1f")])
            rows.append(["image", "", spread(images, 1000, ".0f")])
            lines += [f"  {line}" for line in text_table(["", "load, s", "run, ms"], rows, "<>>")]
            lines.append(f"  {60 / statistics.median(images):.2f} images a minute")
            lines += [f"  note: {notice}" for notice in result.rounds[0].notices]
        return "\n".join(lines)


def bench_package(
    path: Path,
    *,
    engines: Sequence[str] = (),
    rounds: int = 5,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    budget: str = "exact",
    variant: str | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure `engines` (none: all that run here) on the package in `path`; nothing is written.

    steps, size: of the image, None takes the package's; at its size the graphs are measured too, with a batch of
    two in the UNet, as guidance has it. budget, variant: as of `ldm_runtime.load`, for each engine; the steps are those
    of all, also where a variant takes fewer.

    Raises:
        InputError: an engine, a number, a size, a budget or a variant that cannot be.
        EngineUnavailable: an engine that was asked for does not run here.
        PackageError: no package there, or a damaged one.
    """
    say = progress if progress is not None else lambda text: None
    choices = {name: choose(name, threads=threads) for name in engines}
    limit = read_budget(budget)
    rounds = check_integer("rounds", rounds, 1, MAX_ROUNDS)
    package = open_package(path)
    contract = package.manifest.contract
    steps = contract.defaults.steps if steps is None else check_integer("steps", steps, 1, MAX_STEPS)
    width, height = (contract.image.width, contract.image.height) if size is None else size
    check_image_size(contract, width, height, "the size")
    package.confirm()
    if not choices:
        names = _that_run_here(package) if variant is None else [AUTO]  # a variant has engines of its own
        choices = {name: choose(name, threads=threads) for name in names}
    for choice in choices.values():
        require(choice)
    chosen = {name: _chosen(package, limit, variant, choice) for name, choice in choices.items()}
    measured: dict[str, list[EngineRun]] = {name: [] for name in choices}
    for index in range(rounds):
        for name, choice in choices.items():
            say(f"bench: round {index + 1} of {rounds}, {name}")
            outcome = run_isolated(_measure, path, choice, chosen[name], steps, (width, height))
            measured[name].append(EngineRun(**outcome.value, peak_bytes=outcome.peak_bytes))
    package.confirm()  # the processes opened the files anew
    results = tuple(
        EngineResult(name, _file_bytes(package, runs[0]), tuple(runs), chosen[name].name)
        for name, runs in measured.items()
    )
    texts = tuple(text.component for text in contract.text)
    decoder = contract.codec.decoder.component
    return BenchReport(package.manifest.name, machine(), (width, height), steps, threads, texts, decoder, results)


def write_results(report: BenchReport, out: Path, *, force: bool) -> None:
    """Write bench.json and bench.png into the folder `out`."""
    make_folder(out)
    table, plot = (out / name for name in FILES)
    with atomic_file(table, force=force) as temporary:
        temporary.write_text(report.to_json(), encoding="utf-8")
    save_png(draw_bars(report.bars(), "s"), plot, {"package": report.package}, force=force)


def worst_error(result: EngineResult) -> float | None:
    """Return the largest relative RMS of any graph against the reference."""
    errors = [graph.relative_rms for each in result.rounds for graph in each.graphs.values()]
    known = [error for error in errors if error is not None]
    return max(known) if known else None


def _that_run_here(package: Package) -> list[str]:
    return [
        name
        for name, kind in ENGINES.items()
        if all(readable_by(kind, package, component) for component in package.manifest.components)
        and kind.missing() is None
    ]


def _chosen(package: Package, budget: Budget, variant: str | None, choice: EngineChoice) -> Chosen:
    if variant is None:
        return choose_variant(package, budget, choice)
    return named_variant(package, variant, budget, choice)


def _measure(path: Path, choice: EngineChoice, chosen: Chosen, steps: int, size: tuple[int, int]) -> dict[str, Any]:
    """Measure the fields of an EngineRun but its memory, which the caller sees from outside."""
    package = open_package(path, check="size")  # the caller has hashed it, and sees to it that nothing changes
    contract = package.manifest.contract
    has_reference = reference_file.FILE in package.manifest.files
    reference = reference_file.read(package.file(reference_file.FILE)) if has_reference else None
    ways = {} if chosen.variant is None else chosen.variant.ways
    graphs = {}
    for component in contract.components:
        started = time.perf_counter()
        way = ways.get(component)
        opened = open_engine(choice, package, component) if way is None else open_way(choice, package, component, way)
        loaded = time.perf_counter() - started
        cases = [] if reference is None else reference.cases_of(component)
        error = worst(compare(opened.engine.run, cases, artefact=opened.name))
        seconds = _latencies(opened.engine, feeds(contract, component, size))
        opened.engine.close()
        graphs[component] = GraphRun(
            opened.name, opened.artefact.files, loaded, seconds, None if error is None else error.relative_rms
        )
    with Pipeline(package, choice, variant=chosen.variant, notices=chosen.notices) as pipe:
        request: dict[str, Any] = {"steps": steps, "size": size, "seed": 0, **inpainted_image(contract, size)}
        for _ in pipe.sample(PROMPT, **{**request, "steps": min(steps, 2)}):  # warms up
            pass
        started = time.perf_counter()
        run = pipe.sample(PROMPT, **request)
        ends = [time.perf_counter()]  # the text is embedded by now
        latents = np.empty(0)
        for step in run:
            latents = step.latents
            ends.append(time.perf_counter())
        pipe.decode_array(latents)
        elapsed = time.perf_counter() - started
        notices = tuple(map(str, run.notices))
    step_seconds = tuple(float(each) for each in np.diff(ends))
    return {"graphs": graphs, "step_seconds": step_seconds, "image_seconds": elapsed, "notices": notices}


def _latencies(engine: Engine, inputs: dict[str, np.ndarray]) -> tuple[float, ...]:
    """Measure seconds of each evaluation; the first, which may still allocate and compile, does not count."""
    engine.run(inputs)
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < SECONDS_PER_GRAPH:
        started = time.perf_counter()
        engine.run(inputs)
        seconds.append(time.perf_counter() - started)
    return tuple(seconds)


def feeds(contract: Contract, component: str, size: tuple[int, int], *, batch: int = 2) -> dict[str, np.ndarray]:
    """Draw random inputs as a run with guidance makes them: one text or image, `batch` samples for the denoiser."""
    denoiser = contract.denoiser
    count = batch if component == denoiser.component else 1
    sizes = contract.sizes(component, batch=count, width=size[0], height=size[1])
    ends = {text.component: text.tokenizer.eos_token_id for text in contract.text}
    random = np.random.default_rng(0)
    arrays = {}
    for spec in contract.components[component].inputs:
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims)
        if component in ends:
            arrays[spec.name] = np.full(shape, ends[component], spec.dtype)
        elif component == denoiser.component and spec.name == denoiser.timestep:
            arrays[spec.name] = np.full(shape, 500.0, spec.dtype)
        else:
            arrays[spec.name] = random.standard_normal(shape).astype(spec.dtype)
    return arrays


def inpainted_image(contract: Contract, size: tuple[int, int]) -> dict[str, Any]:
    """Return what an inpainting model reads besides: a black image with all of it masked."""
    if not contract.inpaints:
        return {}
    from PIL import Image

    return {"image": Image.new("RGB", size), "mask": Image.new("L", size, 255)}


def _file_bytes(package: Package, run: EngineRun) -> int:
    """Add up the files that were opened, each once."""
    files = {file for graph in run.graphs.values() for file in graph.files}
    return sum(package.manifest.files[file].size for file in files)


def machine() -> str:
    """Name the processor with its units for few bits, the system and Python, for a reader."""
    names = cpu_names()
    model = f"{len(names)} x {names[0]}" if len(names) > 1 else names[0]
    return f"{model} ({describe_units(cpu_units())}), {platform.system()}, Python {platform.python_version()}"
