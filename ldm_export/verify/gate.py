"""The one parity gate: runs a package with the runtime that ships and compares it with its torch reference.

No torch is needed: inputs, outputs and a whole sampling run are in `verify/reference.safetensors`.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ldm_export.verify import page as report_page
from ldm_export.verify import reference_file
from ldm_export.verify import report as reports
from ldm_export.verify.compare import compare
from ldm_export.verify.facts import compare_facts
from ldm_export.verify.page import Picture
from ldm_export.verify.proven_contract import ProvenContract, proven_contract
from ldm_export.verify.reference_file import Case, Reference
from ldm_export.verify.report import CaseResult, FactResult, Report, TrajectoryResult, case_result
from ldm_export.verify.sampling_run import compare_run, lossy_tolerance
from ldm_runtime.engines import AUTO, ENGINES, EngineChoice, choose, open_engine, reads, require
from ldm_runtime.errors import InputError, LdmError, PackageError
from ldm_runtime.files.atomic import lies_in, make_folder, refuse_existing_in
from ldm_runtime.package.manifest import COMPONENTS
from ldm_runtime.package.open import TOKENIZER, Package, open_package

Progress = Callable[[str], None]
Result = FactResult | CaseResult | TrajectoryResult
PLAN = "plan"  # the name in reports of a TensorRT plan, which is no variant of a graph


def verify_package(
    path: Path,
    *,
    engine: str = "auto",
    out: Path | None = None,
    force: bool = False,
    stop_at_first_failure: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare every graph of the package, its facts and a sampling run with the reference, its contract with the
    one that the build proved.

    The package is only read. With `out`, report.json and report.html are written into that folder.

    Raises:
        PackageError: the package or its reference cannot be opened, or a file is not what the manifest says.
        EngineUnavailable: an engine that was asked for by name does not run on this machine.
        InputError: `out` lies in the package, whose identity a report must not change.
        LdmError: a report exists in `out` and `force` is false, or `out` cannot be written.
    """
    if out is not None:
        if lies_in(out, path):
            raise InputError(f"the report folder {out} lies in the package itself; choose one outside of {path}")
        refuse_existing_in(out, ("report.json", "report.html"), force=force)
    report, pictures = _verify(path, engine, stop_at_first_failure, progress, first=False)
    if out is not None:
        make_folder(out)
        reports.write(report, report_page.render(report, pictures), out, force=force)
    return report


def prove_package(path: Path, *, engine: str = "auto", progress: Progress | None = None) -> Report:
    """As `verify_package`, for a package that is being built: the report goes into its `verify` folder.

    That of an engine which is asked for by name goes into a folder of that name in it.
    """
    report, pictures = _verify(path, engine, False, progress, first=engine == AUTO)
    folder = path / "verify" if engine == AUTO else path / "verify" / engine
    folder.mkdir(exist_ok=True)
    reports.write(report, report_page.render(report, pictures), folder, force=True)
    return report


def _verify(
    path: Path, engine: str, stop_at_first_failure: bool, progress: Progress | None, *, first: bool
) -> tuple[Report, list[Picture]]:
    """first: the package is being built, so that there is no contract yet that was proven."""
    say = progress if progress is not None else lambda text: None
    choice = choose(engine)
    require(choice)
    package = open_package(path, check="full")
    if reference_file.FILE not in package.manifest.files:
        raise PackageError(f"{path} carries no reference to compare with ({reference_file.FILE}); build it again")
    say("verify: hashing the package")
    package.confirm()
    proven = None if first else reports.recorded(package).contract
    package = _with_plans_of(package, choice)
    reference = reference_file.read(package.file(reference_file.FILE))
    results: list[Result] = []
    pictures: list[Picture] = []
    used: dict[str, None] = {}  # names of the engines, each once, in the order in which they ran
    for result in _results(package, reference, proven, choice, used, pictures, say):
        results.append(result)
        if stop_at_first_failure and not result.passed:
            break
    package.confirm()  # what was compared is what was hashed
    runs = [result for result in results if isinstance(result, TrajectoryResult)]
    report = Report(
        schema_version=reports.SCHEMA_VERSION,
        package=package.manifest.name,
        engine=f"{', '.join(used)} ({platform.machine()})",
        passed=len(runs) == 1 and all(result.passed for result in results),
        facts=tuple(result for result in results if isinstance(result, FactResult)),
        cases=tuple(result for result in results if isinstance(result, CaseResult)),
        trajectory=runs[0] if runs else None,
        artefacts={name: package.manifest.files[name].sha256 for name in _artefacts(package)},
        contract=proven_contract(package.manifest.contract),
    )
    return report, pictures


def _with_plans_of(package: Package, choice: EngineChoice) -> Package:
    """The same package with no plans but of the components whose engine was asked for by name.

    "auto" is about the graphs: a plan would be compared on some machines and not on others.
    """
    planned = [name for name, engine in choice.names.items() if engine != AUTO and ENGINES[engine].plans]
    kept = {}
    for name, plans in package.manifest.engines.items():
        wanted = {component: plan for component, plan in plans.plans.items() if component in planned}
        if wanted:
            kept[name] = replace(plans, plans=wanted)
    return package.having(replace(package.manifest, engines=kept))


def _artefacts(package: Package) -> list[str]:
    """What the report is about: graphs, weights, plans, tokenizer, reference."""
    components = package.manifest.components.values()
    graphs = [variant.file for component in components for variant in component.variants]
    weights = [component.weights for component in components]
    plans = [plan.file for each in package.manifest.engines.values() for plan in each.plans.values()]
    return sorted({*graphs, *weights, *plans, TOKENIZER, reference_file.FILE})


def _results(
    package: Package,
    reference: Reference,
    proven: ProvenContract | None,
    choice: EngineChoice,
    used: dict[str, None],
    pictures: list[Picture],
    say: Progress,
) -> Iterator[Result]:
    """Everything that is compared, cheap things first."""
    yield from compare_facts(package, reference, proven)
    for name in COMPONENTS:
        for variant in package.manifest.components[name].variants:
            if reads(choice.names[name], variant):
                say(f"verify: {name}, {variant.name} graph")
                yield from _graph(package, reference, choice, used, name, variant.name)
            else:
                say(f"verify: {name}, {variant.name} graph left out: {choice.names[name]} does not run it")
        if choice.names[name] != AUTO and ENGINES[choice.names[name]].plans:
            say(f"verify: {name}, TensorRT plan")
            yield from _graph(package, reference, choice, used, name, PLAN)
    say(f"verify: sampling run of {reference.trajectory.steps} steps")
    result, made = compare_run(package, choice, reference.trajectory)
    pictures += made
    yield result


def _graph(
    package: Package, reference: Reference, choice: EngineChoice, used: dict[str, None], component: str, variant: str
) -> Iterator[CaseResult]:
    """Every case of one graph; a graph that cannot be opened is one failed case."""
    cases = [case for case in reference.cases if case.component == component]
    only = package if variant == PLAN else _with_one_graph(package, component, variant)
    try:
        opened = open_engine(choice, only, component)
    except LdmError as error:
        yield _uncompared(cases, variant, "graph", str(error))
        return
    lossy = lossy_tolerance(only, opened.name, component)
    used[opened.name] = None
    try:
        tolerance = None if lossy is None else lossy.relative_rms
        results = list(compare(opened.engine.run, cases, artefact=variant, tolerance=tolerance))
        yield from results
        if not results:
            yield _uncompared(cases, variant, "graph", "the plan's profile covers no case of the reference")
    finally:
        opened.engine.close()


def _uncompared(cases: Sequence[Case], variant: str, what: str, problem: str) -> CaseResult:
    """A graph that fails as a whole."""
    return case_result(
        component=cases[0].component,
        artefact=variant,
        case="opening",
        output=what,
        shape=(),
        tolerance=min(case.tolerance for case in cases),
        found=None,
        psnr=None,
        problem=problem,
    )


def _with_one_graph(package: Package, component: str, variant: str) -> Package:
    """The same package as if the component had this graph alone, so that engines have no choice."""
    manifest = package.manifest
    parts = manifest.components[component]
    only = replace(parts, variants=tuple(each for each in parts.variants if each.name == variant))
    changed = replace(manifest, components={**manifest.components, component: only})
    return package.having(changed)
