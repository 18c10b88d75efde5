"""Builds the TensorRT plans of a package, ahead of time: one per component and group of GPUs, from its own graphs.

TensorRT for RTX builds without a GPU, for any it knows; classic TensorRT builds on the GPU that runs the plan.
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldm_export.package.write import add_artefacts, read_manifest
from ldm_export.precision.table import PRECISIONS
from ldm_export.process.isolate import Stage, available_memory, run_isolated
from ldm_export.recipes.build import TensorRtRecipe
from ldm_export.targets.tensorrt.plan import BuiltPlan, PlanRequest, build_plan
from ldm_export.targets.tensorrt.profiles import AxisRanges, axis_ranges, input_shapes, read_profile
from ldm_export.targets.tensorrt.reduced import measure_reduced, reduced_graph
from ldm_runtime.engines.cuda.device import compute_capability
from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.tensorrt.fit import plan_name
from ldm_runtime.engines.tensorrt.library import CLASSIC, FLAVOURS, NAMES, RTX, Flavour, import_tensorrt, read_header
from ldm_runtime.errors import EngineUnavailable, ExportError, InputError
from ldm_runtime.files.atomic import atomic_folder, refuse_foreign
from ldm_runtime.files.hash_cache import make_cache_folder
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import COMPONENTS, Artefact, Difference, Manifest, PlanRequirements, Precision

# Capability -> precisions in which TensorRT for RTX builds plans for it.
CAPABILITIES: dict[str, tuple[Precision, ...]] = {
    capability: tuple(name for name, each in PRECISIONS.items() if capability in each.rtx)
    for capability in sorted({each for row in PRECISIONS.values() for each in row.rtx}, key=float)
}
TURING = "7.5"  # has plans of its own: NVIDIA says that it slows down the other GPUs of a plan

# Measured with TensorRT for RTX 1.7: 3.6 times 128 MB of float32 weights, 3.2 times the 3.4 GB of SD 1.5's UNet.
MEMORY_FACTOR = 3.6
MEMORY_FIXED = 600 << 20
PLAN_FIXED = 24 << 20  # of kernels in one plan: 2 to 15 MB

Progress = Callable[[str], None]
Option = Literal["refit", "weight_stripped"]


@dataclass(frozen=True)
class TensorRtTarget(TensorRtRecipe):
    """What plans shall be built, and in which precision they compute."""

    precision: Precision = "fp32"

    @property
    def options(self) -> tuple[Option, ...]:
        asked: dict[Option, bool] = {"refit": self.refit, "weight_stripped": self.weight_stripped}
        return tuple(name for name, wanted in asked.items() if wanted)


def check_target(target: TensorRtTarget) -> None:
    """Refuse what can be refused without a package: what NVIDIA's tables exclude, and what is missing here.

    Raises:
        InputError: an unknown flavour, capability, precision or profile, or two that do not go together.
        EngineUnavailable: that flavour is not installed, or needs a GPU that is not here.
    """
    if target.flavour not in FLAVOURS:
        raise InputError(f"--flavour got {target.flavour!r}; expected {', '.join(FLAVOURS)}")
    if target.precision not in PRECISIONS:
        raise InputError(f"--precision got {target.precision!r}; expected {', '.join(PRECISIONS)}")
    read_profile(target.profiles)
    if target.flavour != CLASSIC:
        _check_rtx_table(target)
    if target.weight_stripped and target.precision != "fp32":
        raise InputError(
            f"--weight-stripped takes the weights from the package's graphs, which compute in fp32; got "
            f"--precision {target.precision}"
        )
    if target.flavour == CLASSIC and missing_gpu() is not None:
        raise EngineUnavailable(_needs_gpu())
    flavour = import_tensorrt(target.flavour).flavour
    if target.options and missing_gpu() is not None:
        raise EngineUnavailable(
            f"{NAMES[flavour]} builds plans for refitting or without weights on a machine with a GPU only, and here is "
            f"missing {missing_gpu()}; leave --refit and --weight-stripped out, or build on the machine with the GPU"
        )
    if flavour == CLASSIC:
        _check_classic(target)


def _check_rtx_table(target: TensorRtTarget) -> None:
    for capability in target.compute_capabilities:
        if capability not in CAPABILITIES:
            known = re.fullmatch(r"\d+\.\d", capability) is not None
            raise InputError(
                f"--compute-capability got {capability!r}; TensorRT for RTX builds for {', '.join(CAPABILITIES)}"
                + ("; other GPUs need --flavour classic, built on the GPU itself" if known else "")
            )
        if target.precision not in CAPABILITIES[capability]:
            raise InputError(
                f"GPUs of compute capability {capability} do not compute in {target.precision} with TensorRT for RTX; "
                f"choose --precision {' or '.join(CAPABILITIES[capability])}, or leave {capability} out"
            )


def _needs_gpu() -> str:
    return (
        f"classic TensorRT builds plans on the GPU that runs them, and here is missing {missing_gpu()}; "
        f"`--flavour rtx` builds for RTX GPUs without one"
    )


def _check_classic(target: TensorRtTarget) -> None:
    """Classic TensorRT is the one that is installed, and may have been chosen for that reason."""
    if missing_gpu() is not None:
        raise EngineUnavailable(_needs_gpu())
    if target.compute_capabilities:
        raise InputError("classic TensorRT builds for the GPU of this machine; leave --compute-capability out")
    here = compute_capability()
    able = [name for name, each in PRECISIONS.items() if each.classic <= tuple(int(part) for part in here.split("."))]
    if target.precision not in able:
        raise InputError(
            f"the GPU here, of compute capability {here}, does not compute in {target.precision}; choose "
            f"{' or '.join(able)}"
        )


def require_room(where: Path, parameters: Mapping[str, int], target: TensorRtTarget, max_memory: int | None) -> None:
    """Raise ExportError if the largest plan would not fit into memory, or all of them not onto the disk of `where`.

    parameters: number of weights of each model. max_memory: bytes; None takes what the machine has available.
    """
    largest = max(parameters, key=lambda name: parameters[name])
    needed = int(4 * parameters[largest] * MEMORY_FACTOR) + MEMORY_FIXED
    limit = available_memory() if max_memory is None else max_memory
    if limit is not None and needed > limit:
        whose = "the machine has available" if max_memory is None else "--max-memory allows"
        raise ExportError(
            f"building the plan of {largest} needs about {needed / 1e9:.1f} GB, but {whose} {limit / 1e9:.1f} GB; free "
            f"memory, raise the limit, or use a larger machine"
        )
    groups = len(_groups(import_tensorrt(target.flavour).flavour, target.compute_capabilities))
    space = groups * (PRECISIONS[target.precision].bytes * sum(parameters.values()) + PLAN_FIXED * len(COMPONENTS))
    free = shutil.disk_usage(where).free
    if space > free:
        raise ExportError(
            f"the TensorRT plans need about {space / 1e9:.2f} GB of disk space, but {free / 1e9:.2f} GB are free in "
            f"{where}; free space or build elsewhere"
        )


def build_tensorrt(
    folder: Path, target: TensorRtTarget, *, progress: Progress | None = None, max_memory: int | None = None
) -> list[Stage]:
    """Build plans of every component of the finished package in `folder`, and list them in its manifest.

    Plans go to `engines/<flavour, version, GPUs, precision>/<component>.plan`; plans of the same name are replaced.
    In a reduced precision the graphs are compared with the package's reference before, rounded as a GPU would.
    max_memory: bytes that one stage's process may need; None takes what the machine has available.

    Raises:
        InputError, EngineUnavailable: as `check_target`, or a profile that the package cannot do.
        ExportError: not enough memory or space, or TensorRT cannot build a graph.
        VerificationError: a component is not itself any more in that precision.
        PackageError: there is no package in `folder`.
    """
    say = progress if progress is not None else lambda text: None
    check_target(target)
    manifest = read_manifest(folder)
    ranges = axis_ranges(manifest.contract, read_profile(target.profiles))
    library = import_tensorrt(target.flavour)
    groups = _groups(library.flavour, target.compute_capabilities)
    parameters = {name: _parameters(folder / manifest.components[name].weights) for name in COMPONENTS}
    require_room(folder, parameters, target, max_memory)
    stages: list[Stage] = []
    differences = _gate(folder, target, stages, say)
    built: dict[str, list[Artefact]] = {component: [] for component in COMPONENTS}
    with contextlib.ExitStack() as undo:
        if not (folder / "engines").exists():
            (folder / "engines").mkdir()
            undo.callback(shutil.rmtree, folder / "engines", ignore_errors=True)
        for group in groups:
            name = _identity(library.flavour, library.version, group, target)
            with atomic_folder(folder / "engines" / name, replace=_require_plans) as partial:
                job = _Job(folder, partial, name, library.flavour, group, target)
                for component in COMPONENTS:
                    made = _build_plan(job, component, manifest, ranges[component], differences[component], stages, say)
                    built[component].append(made)
        add_artefacts(folder, built)
        undo.pop_all()
    return stages


def _require_plans(folder: Path) -> None:
    """Raise LdmError unless a folder holds plans alone, so that others may replace them."""
    refuse_foreign(folder, lambda name: name in {f"{component}.plan" for component in COMPONENTS}, "a set of plans")


def _groups(flavour: Flavour, capabilities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Which GPUs share a plan, in the table's order; () is a plan for all of TensorRT for RTX's but Turing."""
    if flavour == CLASSIC or not capabilities:
        return [()]
    rest = tuple(each for each in CAPABILITIES if each in capabilities and each != TURING)
    return [group for group in ((TURING,) if TURING in capabilities else (), rest) if group]


def _identity(flavour: Flavour, version: str, group: tuple[str, ...], target: TensorRtTarget) -> str:
    """The folder's name, such as rtx-1.7.1.116-sm86-sm89-fp16."""
    if flavour == CLASSIC:
        group = (compute_capability(),)
    gpus = [f"sm{each.replace('.', '')}" for each in group] or ["portable"]
    options = [each.replace("_", "-") for each in target.options]
    return "-".join([flavour, version, *gpus, target.precision, *options])


def _parameters(weights: Path) -> int:
    count = 0
    for info in safetensors.read_header(weights).tensors.values():
        size = 1
        for length in info.shape:
            size *= length
        count += size
    return count


def _gate(folder: Path, target: TensorRtTarget, stages: list[Stage], say: Progress) -> dict[str, Difference | None]:
    """Component -> what it differs by from the reference in the precision that is asked for; None in fp32."""
    differences: dict[str, Difference | None] = dict.fromkeys(COMPONENTS)
    for component in COMPONENTS if target.precision != "fp32" else ():
        say(f"{component}: {target.precision} against the reference")
        outcome = run_isolated(measure_reduced, folder, component, target.precision)
        stages.append(outcome.stage(f"{target.precision} {component}"))
        differences[component] = outcome.value
    return differences


@dataclass(frozen=True)
class _Job:
    """One set of plans that is being built."""

    package: Path
    partial: Path  # becomes engines/<name>
    name: str
    flavour: Flavour
    group: tuple[str, ...]
    target: TensorRtTarget


def _build_plan(
    job: _Job,
    component: str,
    manifest: Manifest,
    ranges: AxisRanges,
    difference: Difference | None,
    stages: list[Stage],
    say: Progress,
) -> Artefact:
    say(f"{component}: building the plan {job.name}")
    parts = manifest.components[component]
    plan = job.partial / f"{component}.plan"
    graph_sha, weights_sha = (manifest.files[file].sha256 for file in (parts.canonical.file, parts.weights))
    with _graph(job, parts.canonical.file) as graph:
        request = PlanRequest(
            graph=graph,
            plan=plan,
            name=plan_name(component, graph_sha, weights_sha),
            flavour=job.flavour,
            capabilities=job.group,
            profiles=(input_shapes(manifest.contract, component, ranges),),
            options=job.target.options,
            timing_cache=_timing_cache() if job.flavour == CLASSIC else None,
        )
        outcome = run_isolated(build_plan, request, progress=say)
    stages.append(outcome.stage(f"plan {component} {job.name}"))
    built: BuiltPlan = outcome.value
    requires = PlanRequirements(
        flavour=job.flavour,
        version=built.version,
        compute_capabilities=read_header(plan).capabilities if job.flavour == RTX else (compute_capability(),),
        options=job.target.options,
        graph=graph_sha,
        weights=weights_sha,
        profiles=(ranges,),
        activation_bytes=built.activation_bytes,
        weight_bytes=built.weight_bytes,
    )
    return Artefact(
        name=job.name,
        format="tensorrt",
        files=(f"engines/{job.name}/{plan.name}",),
        engine="tensorrt",
        precision=job.target.precision,
        exactness="exact" if difference is None else "lossy",
        difference=difference,
        requires=requires,
    )


@contextlib.contextmanager
def _graph(job: _Job, canonical: str) -> Iterator[Path]:
    """The graph that the plan is built from: the canonical one, or its reduced form as long as that is needed."""
    source = job.package / canonical
    if job.target.precision == "fp32":
        yield source
        return
    with reduced_graph(source, job.target.precision) as reduced:
        yield reduced


def _timing_cache() -> Path | None:
    version, folder = import_tensorrt(CLASSIC).version, make_cache_folder("tensorrt")
    return None if folder is None else folder / f"timings-{version}-sm{compute_capability().replace('.', '')}"
