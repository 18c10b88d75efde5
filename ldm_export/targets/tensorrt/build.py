"""Builds the TensorRT plans of a package, ahead of time: one a component and group of GPUs, from its own graphs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ldm_export.process.isolate import StageCost, run_isolated
from ldm_export.targets.target import Built, Progress
from ldm_export.targets.tensorrt.check import Work
from ldm_export.targets.tensorrt.narrow import measure_narrow, narrow_graph
from ldm_export.targets.tensorrt.plan import BuiltPlan, PlanRequest, build_plan
from ldm_export.targets.tensorrt.profiles import input_shapes
from ldm_export.targets.tensorrt.reduced import Repair, reduced_graph
from ldm_export.targets.tensorrt.repair import Measured, measure_or_repair
from ldm_export.verify import reference_file
from ldm_runtime.engines.cuda.device import compute_capability
from ldm_runtime.engines.tensorrt.fit import plan_name
from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX, read_header
from ldm_runtime.files.atomic import atomic_folder
from ldm_runtime.files.hash_cache import make_cache_folder
from ldm_runtime.package.artefacts import Artefact, PlanRequirements
from ldm_runtime.package.manifest import Manifest

FOLDER = "engines"


def build_tensorrt(work: Work, folder: Path, manifest: Manifest, progress: Progress) -> Built:
    """Build plans of every component into `engines/<flavour, version, GPUs, precision>/<component>.plan`.

    In a reduced precision the graphs are compared with the package's reference before, rounded as a GPU would, and
    repaired where they overflow in fp16.

    Raises:
        ExportError: TensorRT cannot build a graph.
        VerificationError: a component is not itself any more in that precision, and cannot be repaired.
        LdmError: a plan cannot be written; nothing is left of its set.
    """
    stages: list[StageCost] = []
    measured = _measure(work, folder, manifest, stages, progress)
    artefacts: dict[str, list[Artefact]] = {component: [] for component in manifest.components}
    (folder / FOLDER).mkdir(exist_ok=True)
    for name in work.groups:
        with atomic_folder(folder / FOLDER / name) as partial:
            for component in manifest.components:
                progress(f"{component}: building the plan {name}")
                plan = partial / f"{component}.plan"
                repair = measured[component].repair
                built = _build_plan(work, name, component, folder, manifest, plan, repair, stages, progress)
                artefacts[component].append(
                    _describe(work, name, component, manifest, plan, built, measured[component])
                )
    return Built(artefacts, stages)


def _measure(
    work: Work, folder: Path, manifest: Manifest, stages: list[StageCost], progress: Progress
) -> dict[str, Measured]:
    """Measure what each component differs by from the reference in a reduced precision; nothing in fp32."""
    measured = dict.fromkeys(manifest.components, Measured(None))
    for component, parts in manifest.components.items() if work.precision != "fp32" else ():
        progress(f"{component}: {work.precision} against the reference")
        graph, reference = folder / parts.canonical.file, folder / reference_file.FILE
        outcome = run_isolated(measure_or_repair, graph, reference, component, work.precision, progress=progress)
        stages.append(outcome.stage(f"{work.precision} {component}"))
        measured[component] = outcome.value
        weights, repair = work.weights[component], measured[component].repair
        if weights != "whole":
            progress(f"{component}: {work.precision} with weights in {weights} against the reference")
            outcome = run_isolated(measure_narrow, graph, reference, component, work.precision, weights, repair)
            stages.append(outcome.stage(f"{work.precision} {weights} {component}"))
            measured[component] = Measured(outcome.value, repair)
    return measured


def _build_plan(
    work: Work,
    name: str,
    component: str,
    folder: Path,
    manifest: Manifest,
    plan: Path,
    repair: Repair,
    stages: list[StageCost],
    progress: Progress,
) -> BuiltPlan:
    with _graph(folder / manifest.components[component].canonical.file, work, component, repair) as graph:
        request = PlanRequest(
            graph=graph,
            plan=plan,
            name=plan_name(component, *_sources(manifest, component)),
            flavour=work.flavour,
            capabilities=work.groups[name],
            profiles=(input_shapes(manifest.contract, component, work.ranges[component]),),
            options=work.options,
            timing_cache=_timing_cache(work.version) if work.flavour == CLASSIC else None,
        )
        outcome = run_isolated(build_plan, request, progress=progress)
    stages.append(outcome.stage(f"plan {component} {name}"))
    built: BuiltPlan = outcome.value
    return built


def _describe(
    work: Work,
    name: str,
    component: str,
    manifest: Manifest,
    plan: Path,
    built: BuiltPlan,
    measured: Measured,
) -> Artefact:
    graph, weights = _sources(manifest, component)
    requires = PlanRequirements(
        flavour=work.flavour,
        version=built.version,
        compute_capabilities=read_header(plan).capabilities if work.flavour == RTX else (compute_capability(),),
        options=work.options,
        graph=graph,
        weights=weights,
        profiles=(work.ranges[component],),
        activation_bytes=built.activation_bytes,
        weight_bytes=built.weight_bytes,
    )
    difference = measured.difference
    exactness: Literal["exact", "lossy"] = "exact" if difference is None else "lossy"
    files = (f"{FOLDER}/{name}/{plan.name}",)
    return Artefact(
        name=name,
        format="tensorrt",
        files=files,
        engine="tensorrt",
        precision=work.precision,
        exactness=exactness,
        difference=difference,
        requires=requires,
        kept=measured.repair.kept,
        rescaled=measured.repair.scale if measured.repair.carried else None,
    )


def _sources(manifest: Manifest, component: str) -> tuple[str, str]:
    """Return the SHA-256 of the graph and of the weights that a plan is built from."""
    parts = manifest.components[component]
    return manifest.files[parts.canonical.file].sha256, manifest.files[parts.weights].sha256


@contextlib.contextmanager
def _graph(canonical: Path, work: Work, component: str, repair: Repair) -> Iterator[Path]:
    """Yield the graph that the plan is built from: the canonical one, or its reduced form, which is then removed."""
    if work.precision == "fp32":
        yield canonical
    elif work.weights[component] == "whole":
        with reduced_graph(canonical, work.precision, repair=repair) as reduced:
            yield reduced
    else:
        with narrow_graph(canonical, work.precision, work.weights[component], repair=repair) as reduced:
            yield reduced


def _timing_cache(version: str) -> Path | None:
    folder = make_cache_folder("tensorrt")
    return None if folder is None else folder / f"timings-{version}-sm{compute_capability().replace('.', '')}"
