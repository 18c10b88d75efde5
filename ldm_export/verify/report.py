"""The parity gate's findings: a strict, machine-readable record, and the same as a table for a terminal."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from ldm_export.tables import text_table
from ldm_export.verify.proven_contract import ProvenContract, digest
from ldm_export.verify.reference_file import SamplingRun
from ldm_runtime.errors import PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.artefacts import Difference
from ldm_runtime.package.open import Package, refused

SCHEMA_VERSION = 4
MAX_BYTES = 2**24  # a report has some ten thousand
MAX_SHOWN = 200  # characters of a fact in a sentence


@dataclass(frozen=True)
class FactResult:
    """One contract field or token list, compared with the proven one or the reference's."""

    name: str  # JSON path in the manifest, or whose tokens these are
    expected: str  # JSON
    found: str  # JSON
    passed: bool


@dataclass(frozen=True)
class CaseResult:
    """One output of one graph for one case; figures are the worst sample's, None where not measurable."""

    component: str
    artefact: str  # its name
    case: str
    output: str
    shape: tuple[int, ...]
    relative_rms: float | None
    max_abs: float | None
    psnr: float | None  # dB; None also where nothing differs
    tolerance: float  # of relative_rms
    problem: str | None  # why the case failed without figures, or beyond them
    passed: bool


@dataclass(frozen=True)
class StepResult:
    """The latents after one sampling step, engine against torch."""

    index: int
    timestep: float
    relative_rms: float | None
    psnr: float | None  # dB; None where nothing differs, or not measurable

    def holds(self, floor: float) -> bool:
        """Tell whether the latents are near enough: equal ones have no PSNR, and neither have those of no scale."""
        return self.relative_rms == 0 if self.psnr is None else self.psnr >= floor


@dataclass(frozen=True)
class TrajectoryResult(SamplingRun):
    """The sampling run of an engine from the same noise, and the image at its end, with the floors that hold for it."""

    drift: tuple[StepResult, ...]
    image_psnr: float | None  # dB, before rounding to bytes; None where nothing differs, or not measurable
    image_ssim: float | None  # of the bytes
    image_max_levels: int | None  # largest difference of a byte
    problem: str | None
    passed: bool


@dataclass(frozen=True)
class VariantResult:
    """A variant beside what was recorded of it, or why it was left out; then nothing was compared.

    facts: the variant as the manifest has it. cases: of its ways, against torch and, "as recorded", against its own
    outputs of when it was measured. image_psnr, image_ssim: of the sampling run's image as bytes, beside torch's; PSNR
    in dB, None where nothing differs. problem: why it failed as a whole.
    """

    name: str
    left_out: str | None
    facts: tuple[FactResult, ...]
    cases: tuple[CaseResult, ...]
    image_psnr: float | None
    image_ssim: float | None
    image_floor: float | None  # dB
    problem: str | None
    passed: bool

    @classmethod
    def left_out_for(cls, name: str, reason: str) -> "VariantResult":
        """Make the result of a variant that cannot run here."""
        return cls(name, reason, (), (), None, None, None, None, passed=True)

    @classmethod
    def failed(cls, name: str, problem: str) -> "VariantResult":
        """Make the result of a variant that fails as a whole."""
        return cls(name, None, (), (), None, None, None, problem, passed=False)

    @property
    def failures(self) -> list[str]:
        """List one sentence per failure."""
        where = f"variant {self.name}"
        if self.problem is not None:
            return [f"{where}: {self.problem}"]
        sentences = [f"{where}: {_fact_failure(fact)}" for fact in self.facts if not fact.passed]
        sentences += [f"{where}: {case_failure(case)}" for case in self.cases if not case.passed]
        if self.image_psnr is not None and self.image_floor is not None and self.image_psnr < self.image_floor:
            sentences.append(
                f"{where}: sampling run: the image's PSNR is {self.image_psnr:.1f} dB, less than "
                f"{self.image_floor:.1f} dB"
            )
        return sentences

    def line(self) -> str:
        """Render for a terminal."""
        if self.left_out is not None:
            return f"variant {self.name}  left out: {self.left_out}"
        failed = len(self.failures)
        image = "equal or not measurable" if self.image_psnr is None else f"{self.image_psnr:.1f} dB"
        floor = "" if self.image_floor is None else f" (floor {self.image_floor:.1f})"
        verdict = "passed" if self.passed else f"{failed} failed"
        return f"variant {self.name}  {len(self.cases)} cases, image PSNR {image}{floor}  {verdict}"


@dataclass(frozen=True)
class Report:
    """The gate's verdict on one package.

    `artefacts` says which files it is about (path -> SHA-256), `contract` what they were proven to keep.
    """

    schema_version: int
    package: str
    engine: str
    passed: bool
    facts: tuple[FactResult, ...]
    cases: tuple[CaseResult, ...]
    trajectory: TrajectoryResult | None  # None: not reached
    artefacts: dict[str, str]
    contract: ProvenContract
    variants: tuple[VariantResult, ...] = dataclasses.field(default=(), metadata=strict_json.OPTIONAL)

    @property
    def failures(self) -> list[str]:
        """List one sentence per failure, in the order of the checks."""
        sentences = [_fact_failure(fact) for fact in self.facts if not fact.passed]
        sentences += [case_failure(case) for case in self.cases if not case.passed]
        if self.trajectory is None:
            if not sentences:
                sentences.append("the sampling run was not reached")
        elif not self.trajectory.passed:
            sentences.append(_trajectory_failure(self.trajectory))
        return sentences + [sentence for variant in self.variants for sentence in variant.failures]

    @property
    def first_failure(self) -> str:
        """Return the first sentence of a report that did not pass, and how many more there are."""
        first, *others = self.failures
        return f"{first} (and {len(others)} more)" if others else first

    def summary(self) -> dict[str, dict[str, float] | float]:
        """Return per component the case closest to its tolerance, over all graphs; the sampling run's figures."""
        figures: dict[str, dict[str, float] | float] = {}
        for name in dict.fromkeys(case.component for case in self.cases):
            worst = closest([case for case in self.cases if case.component == name])
            if worst is not None and worst.relative_rms is not None:
                figures[name] = {"relative_rms": worst.relative_rms, "tolerance": worst.tolerance}
        if self.trajectory is not None:
            measured = [step.psnr for step in self.trajectory.drift if step.psnr is not None]
            if measured:
                figures["trajectory_psnr"] = min(measured)
            if self.trajectory.image_psnr is not None:
                figures["image_psnr"] = self.trajectory.image_psnr
            if self.trajectory.image_ssim is not None:
                figures["image_ssim"] = self.trajectory.image_ssim
        return figures

    def to_json(self) -> str:
        return json.dumps(strict_json.plain(self), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def table(self) -> str:
        """Render for a terminal: one line per component and graph, the drift, the verdict."""
        rows = []
        for (component, artefact), cases in self.by_graph().items():
            worst = closest(cases)
            shown = "not measurable" if worst is None else f"{worst.relative_rms:.2e} of {worst.tolerance:.2e}"
            failed = sum(not case.passed for case in cases)
            verdict = "passed" if failed == 0 else f"{failed} failed"
            rows.append([component, artefact, str(len(cases)), shown, verdict])
        lines = text_table(["component", "graph", "cases", "relative RMS, tolerance", "verdict"], rows, "<<>><")
        if self.trajectory is not None:
            lines.append(_trajectory_line(self.trajectory))
        lines += [variant.line() for variant in self.variants]
        lines.append(f"{self.package} on {self.engine}: {'passed' if self.passed else 'FAILED'}")
        return "\n".join(lines)

    def by_graph(self) -> dict[tuple[str, str], list[CaseResult]]:
        """Group the cases by (component, artefact), in order."""
        groups: dict[tuple[str, str], list[CaseResult]] = {}
        for case in self.cases:
            groups.setdefault((case.component, case.artefact), []).append(case)
        return groups


def closest(cases: list[CaseResult]) -> CaseResult | None:
    """Return the measured case that is closest to its tolerance, or farthest beyond; None if none was measurable."""
    measured = [case for case in cases if case.relative_rms is not None]
    return max(measured, key=_ratio, default=None)


def finite_or_none(figure: float) -> float | None:
    """Return the figure as the record holds it: None for an infinite PSNR (nothing differs) and for NaN."""
    return figure if math.isfinite(figure) else None


def case_result(
    *,
    component: str,
    artefact: str,
    case: str,
    output: str,
    shape: tuple[int, ...],
    tolerance: float,
    found: Difference | None,
    psnr: float | None,
    problem: str | None,
) -> CaseResult:
    """Judge one output: it passes if nothing went wrong and its relative RMS is within tolerance."""
    figures = found if found is not None else Difference(math.nan, math.nan)
    return CaseResult(
        component=component,
        artefact=artefact,
        case=case,
        output=output,
        shape=shape,
        relative_rms=finite_or_none(figures.relative_rms),
        max_abs=finite_or_none(figures.max_abs),
        psnr=None if psnr is None else finite_or_none(psnr),
        tolerance=tolerance,
        problem=problem,
        passed=problem is None and figures.relative_rms <= tolerance,  # false for NaN
    )


@refused()
def parse(text: str, where: str) -> Report:
    """Read a report.json strictly; `where` names it in messages.

    Raises:
        PackageError: malformed, of another schema version, or its verdict contradicts its own results.
    """
    value = strict_json.parse(text, where)
    if isinstance(value, dict) and value.get("schema_version") != SCHEMA_VERSION:
        version = strict_json.spelt(value.get("schema_version"))
        raise PackageError(
            f"{where} has schema_version {version}, this program reads {SCHEMA_VERSION}, "
            f"which records the contract that was proven; build the package again",
            code="proof.invalid",
        )
    report = strict_json.read(Report, value, where)
    if report.passed != (not report.failures):
        raise PackageError(
            f"{where} contradicts itself: passed is {report.passed}; verify the package again", code="proof.invalid"
        )
    if report.contract.sha256 != digest(report.contract.facts):
        raise PackageError(
            f"{where} contradicts itself: its contract has another digest; build the package again",
            code="proof.invalid",
        )
    return report


def recorded(package: Package) -> Report:
    """Read the report of the build, which the package carries.

    Raises:
        PackageError: it is missing, as `parse`, or a link to elsewhere.
    """
    name = package.manifest.proof.report
    content = package.folder.read(name, MAX_BYTES)
    with refused():
        text = strict_json.decode(content, str(package.path / name))
    return parse(text, str(package.path / name))


def write(report: Report, page: str, folder: Path, *, force: bool) -> None:
    """Write report.json and report.html into `folder`, each whole or not at all."""
    with atomic_file(folder / "report.html", force=force) as path:
        path.write_text(page, encoding="utf-8")
    with atomic_file(folder / "report.json", force=force) as path:
        path.write_text(report.to_json(), encoding="utf-8")


def _fact_failure(fact: FactResult) -> str:
    return f"{fact.name}: the package has {_cut(fact.found)}, but was proven with {_cut(fact.expected)}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def case_failure(case: CaseResult) -> str:
    """Say in a sentence without its end what is wrong with a case that failed."""
    where = f"{case.component} ({case.artefact}), case {case.case}, {case.output}"
    if case.problem is not None:
        return f"{where}: {case.problem}"
    shown = "not measurable" if case.relative_rms is None else f"{case.relative_rms:.2e}"
    return f"{where}: relative RMS is {shown}, more than the tolerance {case.tolerance:.2e}"


def _trajectory_failure(trajectory: TrajectoryResult) -> str:
    if trajectory.problem is not None:
        return f"sampling run: {trajectory.problem}"
    for step in trajectory.drift:
        if not step.holds(trajectory.latents_floor):
            psnr = "not measurable" if step.psnr is None else f"{step.psnr:.1f} dB"
            return (
                f"sampling run: after step {step.index + 1} the latents' PSNR is {psnr}, less than "
                f"{trajectory.latents_floor:.0f} dB"
            )
    shown = "not measurable" if trajectory.image_psnr is None else f"{trajectory.image_psnr:.1f} dB"
    return f"sampling run: the image's PSNR is {shown}, less than {trajectory.image_floor:.0f} dB"


def _trajectory_line(trajectory: TrajectoryResult) -> str:
    measured = [step.psnr for step in trajectory.drift if step.psnr is not None]
    latents = f"{min(measured):.1f} dB" if measured else "equal or not measurable"
    image = "equal or not measurable" if trajectory.image_psnr is None else f"{trajectory.image_psnr:.1f} dB"
    verdict = "passed" if trajectory.passed else "failed"
    return (
        f"sampling run  {trajectory.sampler}, {trajectory.steps} steps: latents PSNR {latents} "
        f"(floor {trajectory.latents_floor:.0f}), image PSNR {image}  {verdict}"
    )


def _ratio(case: CaseResult) -> float:
    assert case.relative_rms is not None
    return case.relative_rms / case.tolerance
