"""The one loop over the reference's cases: run a graph, measure the difference, judge it.

Whatever runs the graph is a function of its inputs: an engine of the runtime, or an emulation of one.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from ldm_export.errors import VerificationError
from ldm_export.precision.table import PRECISIONS
from ldm_export.verify import metrics
from ldm_export.verify.reference_file import Case
from ldm_export.verify.report import CaseResult, case_failure, case_result
from ldm_runtime.errors import LdmError, OutOfProfile
from ldm_runtime.package.artefacts import Difference, Precision

Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def compare(run: Run, cases: Iterable[Case], *, artefact: str, tolerance: float | None = None) -> Iterator[CaseResult]:
    """Run every case and judge it output by output.

    Cases of a size that an artefact was not built for are left out.

    artefact: the name that the results carry. tolerance: of the relative RMS; None takes each case's own.
    """
    for case in cases:
        with contextlib.suppress(OutOfProfile):
            yield from _case(run, case, artefact, case.tolerance if tolerance is None else tolerance)


def worst(results: Iterable[CaseResult]) -> Difference | None:
    """Return the largest figures of all results; None where there is no result.

    Raises VerificationError for an output that could not be compared.
    """
    largest: Difference | None = None
    for result in results:
        if result.relative_rms is None or result.max_abs is None:
            raise VerificationError(case_failure(result))
        seen = Difference(0.0, 0.0) if largest is None else largest
        largest = Difference(max(seen.relative_rms, result.relative_rms), max(seen.max_abs, result.max_abs))
    return largest


def measure(run: Run, cases: Sequence[Case], precision: Precision, *, target: str) -> Difference | None:
    """Return what an artefact for `target` in `precision` differs by; None if rounding in float32 explains it.

    Raises VerificationError if a case exceeds the tolerance, which is the case's own in fp32, or cannot be compared.
    """
    return judge(list(compare_in(run, cases, precision, target=target)), cases, precision)


def compare_in(run: Run, cases: Iterable[Case], precision: Precision, *, target: str) -> Iterator[CaseResult]:
    """Run every case and judge it by the tolerance of `precision`, which is the case's own in fp32."""
    return compare(run, cases, artefact=f"{target} {precision}", tolerance=reduced_tolerance(precision))


def reduced_tolerance(precision: Precision) -> float | None:
    """Return the largest relative RMS in a reduced precision; None where each case has its own, as in fp32."""
    row = PRECISIONS[precision].tolerance
    return None if precision == "fp32" or row is None else row.relative_rms


def judge(results: Sequence[CaseResult], cases: Sequence[Case], precision: Precision) -> Difference | None:
    """Return the largest difference of all results; None if rounding in float32 explains it.

    Raises VerificationError for one that did not pass.
    """
    for result in results:
        if not result.passed:
            raise VerificationError(f"{case_failure(result)}; {advice(precision)}")
    own = {case.name: case.tolerance for case in cases}
    exact = all(result.relative_rms is not None and result.relative_rms <= own[result.case] for result in results)
    return None if exact else worst(results)


def advice(precision: Precision) -> str:
    """Say what to do where a component is not itself in `precision`."""
    instead = PRECISIONS[precision].instead
    return "no package is left" if instead is None else f"build with --precision {instead}"


def _case(run: Run, case: Case, artefact: str, tolerance: float) -> Iterator[CaseResult]:
    """Judge one evaluation. Raises OutOfProfile."""
    outputs: Mapping[str, np.ndarray] = {}
    failure: str | None = None
    try:
        outputs = run(case.inputs)
    except OutOfProfile:
        raise
    except LdmError as error:
        failure = str(error)
    for name, expected in case.outputs.items():
        value = outputs.get(name)
        problem = failure if failure is not None else _problem(value, expected)
        measured = None if problem is not None or value is None else (value, expected)
        yield case_result(
            component=case.component,
            artefact=artefact,
            case=case.name,
            output=name,
            shape=expected.shape,
            tolerance=tolerance,
            found=None if measured is None else metrics.difference(*measured),
            psnr=None if measured is None else metrics.lowest_psnr(*measured),
            problem=problem,
        )


def _problem(value: np.ndarray | None, expected: np.ndarray) -> str | None:
    """Return why an output cannot be compared at all."""
    if value is None:
        return "the engine did not return this output"
    if value.shape != expected.shape or value.dtype != expected.dtype:
        return f"it is {value.dtype} {value.shape}, expected {expected.dtype} {expected.shape}"
    if not np.isfinite(value).all():
        return "it holds NaN or infinity"
    return None
