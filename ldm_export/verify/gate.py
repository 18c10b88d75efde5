"""The one parity gate: runs a package with the runtime that ships and compares it with its torch reference.

No torch is needed: inputs, outputs and a whole sampling run are in `verify/reference.safetensors`.
"""

import contextlib
import io
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm_export.precision.table import PRECISIONS, Tolerance
from ldm_export.verify import metrics, reference_file
from ldm_export.verify import page as report_page
from ldm_export.verify import report as reports
from ldm_export.verify.page import Picture
from ldm_export.verify.proven_contract import ProvenContract, changes, proven_contract
from ldm_export.verify.reference_file import Case, Reference, Trajectory, compared_sizes
from ldm_export.verify.report import CaseResult, FactResult, Report, StepResult, TrajectoryResult, case_result
from ldm_runtime.engines import AUTO, ENGINES, Engine, EngineChoice, choose, graph_for, open_engine, reads, require
from ldm_runtime.engines.tensorrt.engine import fitting_plan
from ldm_runtime.errors import InputError, LdmError, OutOfProfile, PackageError, VerificationError
from ldm_runtime.files.atomic import lies_in, make_folder, refuse_existing_in
from ldm_runtime.image import to_images
from ldm_runtime.package.manifest import COMPONENTS
from ldm_runtime.package.open import TOKENIZER, Package, open_package
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.text.tokenizer import Tokenizer

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
    facts = [*_facts(package, reference), *_proven_sizes(package, reference)]
    yield from facts
    if proven is not None:
        told = {fact.name for fact in facts if not fact.passed}
        yield from (fact for fact in _contract(package, proven) if fact.name not in told)
    yield from _tokens(package, reference)
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
    result, made = _trajectory(package, choice, reference.trajectory)
    pictures += made
    yield result


def _facts(package: Package, reference: Reference) -> Iterator[FactResult]:
    """The manifest's contract against what torch computed with."""
    expected = asdict(reference.facts)
    for group, values in expected.items():
        found = asdict(getattr(package.manifest.contract, group))
        for name, value in values.items():
            yield FactResult(
                f"contract.{group}.{name}",
                json.dumps(value),
                json.dumps(found[name]),
                found[name] == value,
            )


def _proven_sizes(package: Package, reference: Reference) -> Iterator[FactResult]:
    """The sizes that the manifest calls proven are those of the reference's cases."""
    contract, passed = package.manifest.contract, package.manifest.proof.passed
    sizes = compared_sizes(reference, contract) if passed else {}
    for name, axis in contract.axes.items():
        expected = sorted(sizes.get(name, ()))
        found = list(axis.proven)
        yield FactResult(f"contract.axes.{name}.proven", json.dumps(expected), json.dumps(found), found == expected)


def _contract(package: Package, proven: ProvenContract) -> Iterator[FactResult]:
    """The whole contract against the one that was proven: every value that differs, then the digest."""
    found = proven_contract(package.manifest.contract)
    for name, before, now in changes(proven, package.manifest.contract):
        yield FactResult(name, before, now, False)
    yield FactResult("contract's SHA-256", proven.sha256, found.sha256, found.sha256 == proven.sha256)


def _tokens(package: Package, reference: Reference) -> Iterator[FactResult]:
    """The tokenizer's ids of texts on which tokenizers go wrong."""
    encoded = Tokenizer(package).encode(reference.prompts).ids
    for prompt, found, expected in zip(reference.prompts, encoded, reference.tokens, strict=True):
        shown = prompt if len(prompt) <= 40 else prompt[:39] + "…"
        passed = bool(np.array_equal(found, expected))
        yield FactResult(f"tokens of {shown!r}", _ids(expected), _ids(found), passed)


def _ids(row: np.ndarray) -> str:
    """Token ids without the padding, which repeats the last one."""
    changes = np.flatnonzero(row[:-1] != row[1:])
    kept = row[: changes[-1] + 2] if changes.size else row[:1]
    return f"{json.dumps(kept.tolist())} of {len(row)}"


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
    lossy = _lossy_tolerance(only, opened.name, component)
    used[opened.name] = None
    try:
        compared = 0
        for case in cases:
            with contextlib.suppress(OutOfProfile):  # a plan has not all the sizes of the reference
                yield from _case(opened.engine, variant, case, None if lossy is None else lossy.relative_rms)
                compared += 1
        if compared == 0:
            yield _uncompared(cases, variant, "graph", "the plan's profile covers no case of the reference")
    finally:
        opened.engine.close()


def _uncompared(cases: Sequence[Case], variant: str, what: str, problem: str) -> CaseResult:
    """A graph that fails as a whole."""
    return case_result(
        component=cases[0].component,
        variant=variant,
        case="opening",
        output=what,
        shape=(),
        tolerance=min(case.tolerance for case in cases),
        found=None,
        problem=problem,
    )


def _lossy_tolerance(package: Package, engine: str, component: str) -> Tolerance | None:
    """That of the graph or plan which the engine runs, if it is lossy by its precision; the manifest measured it."""
    if ENGINES[engine].plans:
        found = fitting_plan(package, component)
        return PRECISIONS[found.plans.precision].tolerance if found.plan.exactness == "lossy" else None
    variant = graph_for(engine, package.manifest.components[component])
    return PRECISIONS[variant.precision].tolerance if variant.exactness == "lossy" else None


def _with_one_graph(package: Package, component: str, variant: str) -> Package:
    """The same package as if the component had this graph alone, so that engines have no choice."""
    manifest = package.manifest
    parts = manifest.components[component]
    only = replace(parts, variants=tuple(each for each in parts.variants if each.name == variant))
    changed = replace(manifest, components={**manifest.components, component: only})
    return package.having(changed)


def _case(engine: Engine, variant: str, case: Case, tolerance: float | None) -> Iterator[CaseResult]:
    """One evaluation, judged output by output; `tolerance` None is the case's own. Raises OutOfProfile."""
    outputs: dict[str, np.ndarray] = {}
    failure: str | None = None
    try:
        outputs = engine.run(case.inputs)
    except OutOfProfile:
        raise
    except LdmError as error:
        failure = str(error)
    for name, expected in case.outputs.items():
        value = outputs.get(name)
        problem = failure if failure is not None else _problem(value, expected)
        yield case_result(
            component=case.component,
            variant=variant,
            case=case.name,
            output=name,
            shape=expected.shape,
            tolerance=case.tolerance if tolerance is None else tolerance,
            found=None if problem is not None or value is None else metrics.difference(value, expected),
            problem=problem,
        )


def _problem(value: np.ndarray | None, expected: np.ndarray) -> str | None:
    """Why an output cannot be compared at all."""
    if value is None:
        return "the engine did not return this output"
    if value.shape != expected.shape or value.dtype != expected.dtype:
        return f"it is {value.dtype} {value.shape}, expected {expected.dtype} {expected.shape}"
    if not np.isfinite(value).all():
        return "it holds NaN or infinity"
    return None


def _with_floors(package: Package, engines: Mapping[str, str], wanted: Trajectory) -> Trajectory:
    """With lower floors where a component is lossy; `engines`: component -> what runs it."""
    lossy = [_lossy_tolerance(package, engine, component) for component, engine in engines.items()]
    floors = [(each.latents_floor, each.image_floor) for each in lossy if each is not None]
    if not floors:
        return wanted
    latents, picture = (min(values) for values in zip(*floors, strict=True))
    return replace(
        wanted,
        latents_floor=min(wanted.latents_floor, latents),
        picture_floor=min(wanted.picture_floor, picture),
    )


def _trajectory(package: Package, choice: EngineChoice, wanted: Trajectory) -> tuple[TrajectoryResult, list[Picture]]:
    """Sample as a user does, with the package's own defaults, from the same seed."""
    drift: list[StepResult] = []
    picture: np.ndarray | None = None
    problem: str | None = None
    try:
        with Pipeline(package, choice) as pipe:
            wanted = _with_floors(package, pipe.info["engines"], wanted)
            task: dict[str, Any] = {}
            if pipe.contract.inpaints:  # all of it, so that it does not matter of which picture
                task = {"image": Image.new("RGB", wanted.size), "mask": Image.new("L", wanted.size, 255)}
            last = None
            for last in pipe.sample(
                wanted.prompt,
                negative=wanted.negative,
                steps=wanted.steps,
                seed=wanted.seed,
                size=wanted.size,
                **task,
            ):
                drift.append(_step(last.index, last.latents, wanted, last.timestep))
            if last is not None:
                picture = last.decode()
    except LdmError as error:
        problem = str(error)
    expected = wanted.picture[None]  # (1, 3, H, W)
    if problem is None and (picture is None or picture.shape != expected.shape):
        problem = f"the picture is {None if picture is None else picture.shape}, expected {expected.shape}"
    if problem is not None or picture is None:
        return _judge(wanted, drift, None, problem), []
    return _judge(wanted, drift, picture, None), _pictures(_bytes(wanted.picture), _bytes(picture[0]))


def _step(index: int, latents: np.ndarray, wanted: Trajectory, timestep: float) -> StepResult:
    if index >= len(wanted.latents) or latents.shape[1:] != wanted.latents.shape[1:] or len(latents) != 1:
        raise VerificationError(
            f"step {index + 1} has latents of shape {latents.shape}, expected {len(wanted.latents)} steps of "
            f"{(1, *wanted.latents.shape[1:])}"
        )
    if not np.isfinite(latents).all():
        raise VerificationError(f"the latents hold NaN or infinity after step {index + 1}")
    found = metrics.difference(latents, wanted.latents[index : index + 1])
    return StepResult(index, timestep, reports.finite_or_none(found.relative_rms), reports.finite_or_none(found.psnr))


def _judge(
    wanted: Trajectory, drift: list[StepResult], picture: np.ndarray | None, problem: str | None
) -> TrajectoryResult:
    """Latents at or above their floor after every step, and the picture (1, 3, H, W) at or above its own."""
    decibels = ssim = levels = None
    passed = problem is None and len(drift) == len(wanted.latents)
    passed = passed and all(step.psnr is None or step.psnr >= wanted.latents_floor for step in drift)
    if picture is not None:
        decibels = metrics.psnr(picture[0], wanted.picture)
        passed = passed and decibels >= wanted.picture_floor
        found, expected = _bytes(picture[0]), _bytes(wanted.picture)
        ssim = metrics.ssim(found.transpose(2, 0, 1), expected.transpose(2, 0, 1), 255)
        levels = int(metrics.max_abs(found, expected))
    return TrajectoryResult(
        sampler=wanted.sampler,
        steps=wanted.steps,
        guidance=wanted.guidance,
        size=wanted.size,
        seed=wanted.seed,
        prompt=wanted.prompt,
        negative=wanted.negative,
        drift=tuple(drift),
        psnr_floor=wanted.latents_floor,
        image_psnr=None if decibels is None else reports.finite_or_none(decibels),
        image_ssim=ssim,
        image_max_levels=levels,
        image_psnr_floor=wanted.picture_floor,
        problem=problem,
        passed=passed,
    )


def _bytes(picture: np.ndarray) -> np.ndarray:
    """(3, H, W) around [-1, 1] -> (H, W, 3) as a picture file holds it."""
    return np.asarray(to_images(picture[None], [{}])[0])


def _pictures(expected: np.ndarray, found: np.ndarray) -> list[Picture]:
    """torch's, the engine's, and their difference made visible."""
    difference = np.abs(expected.astype(np.int16) - found)
    gain = max(1, 255 // max(1, int(difference.max())))
    return [
        Picture("torch", _png(expected)),
        Picture("this engine", _png(found)),
        Picture(f"difference x {gain}", _png((difference * gain).astype(np.uint8))),
    ]


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
