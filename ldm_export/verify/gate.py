"""The one parity gate: runs a package with the runtime that ships and compares it with its torch reference.

No torch is needed: inputs, outputs and a whole sampling run are in `verify/reference.safetensors`.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ldm_export.verify import page as report_page
from ldm_export.verify import reference_file, reference_rules
from ldm_export.verify import report as reports
from ldm_export.verify.compare import compare
from ldm_export.verify.facts import compare_facts
from ldm_export.verify.inpainting_probe import require_same_probe
from ldm_export.verify.page import Figure
from ldm_export.verify.proven_contract import ProvenContract, proven_contract
from ldm_export.verify.reference_file import FILE, Case, Reference
from ldm_export.verify.report import CaseResult, FactResult, Report, TrajectoryResult, VariantResult, case_result
from ldm_export.verify.sampling_run import compare_run, lossy_tolerance
from ldm_export.verify.variant_file import FOLDER as VARIANTS
from ldm_export.verify.variant_file import file_of
from ldm_export.verify.variants import verify_variants
from ldm_runtime.engines.choice import (
    AUTO,
    EngineChoice,
    OpenedEngine,
    artefacts_for,
    choose,
    open_engine,
    readable_by,
    require,
)
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import InputError, LdmError, PackageError
from ldm_runtime.files.atomic import lies_in, make_folder, refuse_existing_in
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package, open_package

Progress = Callable[[str], None]
Result = FactResult | CaseResult | TrajectoryResult | VariantResult


def verify_package(
    path: Path,
    *,
    engine: str = "auto",
    out: Path | None = None,
    force: bool = False,
    stop_at_first_failure: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare every graph, the facts and a sampling run with the reference, and the contract with the proven one.

    A variant is compared with what was recorded of it, where this machine can run it. The package is only read. With
    `out`, report.json and report.html are written into that folder.

    Raises:
        PackageError: the package or its reference cannot be opened, or a file is not what the manifest says.
        EngineUnavailable: an engine that was asked for by name does not run on this machine, or none does.
        InputError: `out` lies in the package, whose identity a report must not change.
        LdmError: a report exists in `out` and `force` is false, or `out` cannot be written.
    """
    if out is not None:
        if lies_in(out, path):
            raise InputError(f"the report folder {out} lies in the package itself; choose one outside of {path}")
        refuse_existing_in(out, ("report.json", "report.html"), force=force)
    choice = proving_engines(engine)
    package = open_package(path, check="full")
    if FILE not in package.manifest.files:
        raise PackageError(
            f"{path} carries no reference to compare with ({FILE}); build it again", code="proof.invalid"
        )
    say = progress if progress is not None else lambda text: None
    say("verify: hashing the package")
    package.confirm()
    report, images = _verify(package, choice, reports.recorded(package).contract, stop_at_first_failure, say)
    if out is not None:
        make_folder(out)
        reports.write(report, report_page.render(report, images, package.manifest.variants), out, force=force)
    return report


def prove_package(path: Path, manifest: Manifest, *, engine: str = AUTO, progress: Progress | None = None) -> Report:
    """Compare as `verify_package` does, while the package is being built: the hashes of `manifest` were just made.

    The report goes into its `verify` folder, that of an engine which is asked for by name into a folder of that name
    in it.
    """
    say = progress if progress is not None else lambda text: None
    package = Package(path, manifest, "", "size")
    proven = None if engine == AUTO else reports.recorded(package).contract
    report, images = _verify(package, proving_engines(engine), proven, False, say)
    folder = path / "verify" if engine == AUTO else path / "verify" / engine
    folder.mkdir(exist_ok=True)
    reports.write(report, report_page.render(report, images), folder, force=True)
    return report


def prove_variants(path: Path, manifest: Manifest, *, proven: Report, progress: Progress | None = None) -> Report:
    """Compare the variants that a package in the making got after `proven`, the report of all that is exact in it.

    Returns that report with the variants, which goes into the folder `verify/variants`. What is exact is not compared
    again: the variants brought files of their own, and changed none.
    """
    package, choice = Package(path, manifest, "", "size"), proving_engines()
    reference = reference_file.read(package.file(FILE))
    say = progress if progress is not None else lambda text: None
    results: list[VariantResult] = []
    images: list[Figure] = []
    for result, figures in verify_variants(package, choice, reference, say):
        results.append(result)
        images += figures
    package.confirm()
    files = _files_of(results, manifest)
    report = replace(
        proven,
        passed=proven.passed and all(result.passed for result in results),
        artefacts=proven.artefacts | {name: manifest.files[name].sha256 for name in sorted(files)},
        variants=tuple(results),
    )
    folder = path / VARIANTS
    folder.mkdir(exist_ok=True)
    reports.write(report, report_page.render(report, images, manifest.variants), folder, force=True)
    return report


def proving_engines(engine: str = AUTO) -> EngineChoice:
    """Read which engines to prove. Raises EngineUnavailable where one does not run on this machine.

    "auto" is about what runs everywhere: what is made for one machine, or faster on one, would be compared on some and
    not on others.
    """
    elsewhere = [name for name, kind in ENGINES.items() if kind.pick is not None or kind.is_faster is not None]
    choice = choose(engine, without=elsewhere)
    require(choice)
    return choice


def _verify(
    package: Package, choice: EngineChoice, proven: ProvenContract | None, stop_at_first_failure: bool, say: Progress
) -> tuple[Report, list[Figure]]:
    """Compare everything; proven: None while there is no contract that was proven."""
    reference = reference_file.read(package.file(FILE))
    reference_rules.require_complete(reference, package.manifest.contract)
    require_same_probe(reference, package.manifest.contract)
    results: list[Result] = []
    images: list[Figure] = []
    opened: list[OpenedEngine] = []  # in the order in which they ran
    for result in _results(package, reference, proven, choice, opened, images, say):
        results.append(result)
        if stop_at_first_failure and not result.passed:
            break
    package.confirm()  # what was compared is what was hashed
    runs = [result for result in results if isinstance(result, TrajectoryResult)]
    variants = tuple(result for result in results if isinstance(result, VariantResult))
    files = {file for each in opened for file in each.artefact.files} | _files_of(variants, package.manifest)
    files |= {text.tokenizer.file for text in package.manifest.contract.text} | {FILE}
    report = Report(
        schema_version=reports.SCHEMA_VERSION,
        package=package.manifest.name,
        engine=f"{', '.join(dict.fromkeys(each.name for each in opened))} ({platform.machine()})",
        passed=len(runs) == 1 and all(result.passed for result in results),
        facts=tuple(result for result in results if isinstance(result, FactResult)),
        cases=tuple(result for result in results if isinstance(result, CaseResult)),
        trajectory=runs[0] if runs else None,
        artefacts={name: package.manifest.files[name].sha256 for name in sorted(files)},
        contract=proven_contract(package.manifest.contract),
        variants=variants,
    )
    return report, images


def _files_of(results: Sequence[VariantResult], manifest: Manifest) -> set[str]:
    """List the files of the variants that were compared."""
    compared = {result.name for result in results if result.left_out is None}
    files: set[str] = set()
    for variant in manifest.variants:
        if variant.name in compared:
            files |= {file_of(variant.name)} & manifest.files.keys()
            for name, component in manifest.components.items():
                used = variant.artefacts_of(name, manifest.contract.denoiser.component)
                files |= {file for each in component.artefacts if each.name in used for file in each.files}
    return files


def _results(
    package: Package,
    reference: Reference,
    proven: ProvenContract | None,
    choice: EngineChoice,
    opened: list[OpenedEngine],
    images: list[Figure],
    say: Progress,
) -> Iterator[Result]:
    """Yield every comparison, cheap ones first."""
    yield from compare_facts(package, reference, proven)
    for name in package.manifest.components:
        for artefact in _compared(package, choice, name, say):
            yield from _graph(package, reference, choice, opened, name, artefact)
    say(f"verify: sampling run of {reference.trajectory.steps} steps")
    result, figures = compare_run(package, choice, reference.trajectory)
    images += figures
    yield result
    for variant, figures in verify_variants(package, choice, reference, say):
        images += figures
        yield variant


def _compared(package: Package, choice: EngineChoice, component: str, say: Progress) -> Iterator[Artefact | None]:
    """Choose which artefacts of a component to compare; None is the one that the engine picks for this machine."""
    name = choice.names(package.manifest.contract)[component]
    picks = name != AUTO and ENGINES[name].pick is not None
    read = [] if picks else artefacts_for(choice, package, component)
    pickable = package.manifest.pickable(component)
    for artefact in package.manifest.components[component].artefacts:
        if artefact not in pickable:
            say(f"verify: {component}, {artefact.name} left out: no engine picks it by itself")
        elif artefact in read:
            say(f"verify: {component}, {artefact.name}")
            yield artefact
        elif not picks or artefact not in readable_by(ENGINES[name], package, component):
            say(f"verify: {component}, {artefact.name} left out: {name} does not run it")
    if picks:
        say(f"verify: {component}, what {name} picks for this machine")
        yield None


def _graph(
    package: Package,
    reference: Reference,
    choice: EngineChoice,
    opened: list[OpenedEngine],
    component: str,
    artefact: Artefact | None,
) -> Iterator[CaseResult]:
    """Compare every case of one artefact; one that cannot be opened is one failed case."""
    cases = reference.cases_of(component)
    try:
        tested = open_engine(choice, package, component, artefact)
    except LdmError as error:
        name = choice.names(package.manifest.contract)[component] if artefact is None else artefact.name
        yield _uncompared(cases, name, str(error))
        return
    opened.append(tested)
    lossy, name = lossy_tolerance(tested.artefact), tested.artefact.name
    try:
        tolerance = None if lossy is None else lossy.relative_rms
        is_covered = False
        for result in compare(tested.engine.run, cases, artefact=name, tolerance=tolerance):
            is_covered = True
            yield result
        if not is_covered:
            yield _uncompared(cases, name, "its profile covers no case of the reference")
    finally:
        tested.engine.close()


def _uncompared(cases: Sequence[Case], artefact: str, problem: str) -> CaseResult:
    """Make the result of an artefact that fails as a whole."""
    return case_result(
        component=cases[0].component,
        artefact=artefact,
        case="opening",
        output="graph",
        shape=(),
        tolerance=min(case.tolerance for case in cases),
        found=None,
        psnr=None,
        problem=problem,
    )
