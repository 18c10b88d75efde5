"""The loop over cases: what is run, how it is judged, and what an artefact's precision allows it."""

import numpy as np
import pytest

from ldm_export.errors import VerificationError
from ldm_export.precision.table import PRECISIONS, REDUCED
from ldm_export.verify.compare import compare, measure, worst
from ldm_export.verify.reference_file import Case
from ldm_runtime.errors import EngineError, OutOfProfile
from ldm_runtime.package.artefacts import Difference

VALUES = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def case(name: str = "seeded", tolerance: float = 1e-6) -> Case:
    return Case("unet", name, tolerance, {"sample": VALUES}, {"out_sample": 2 * VALUES})


def scaled(factor: float):
    return lambda inputs: {"out_sample": (factor * inputs["sample"].astype(np.float64)).astype(np.float32)}


def test_an_equal_output_passes_and_a_scaled_one_fails_by_its_scale():
    (equal,) = compare(scaled(2), [case()], artefact="canonical")
    assert equal.passed and (equal.relative_rms, equal.max_abs, equal.psnr) == (0, 0, None)
    assert (equal.component, equal.artefact, equal.case, equal.shape) == ("unet", "canonical", "seeded", (2, 3))
    (wrong,) = compare(scaled(2.02), [case()], artefact="canonical")
    assert not wrong.passed and wrong.relative_rms == pytest.approx(0.01, rel=1e-3) and wrong.psnr > 20


def test_a_given_tolerance_replaces_the_cases_own():
    (result,) = compare(scaled(2.02), [case()], artefact="canonical", tolerance=0.02)
    assert result.passed and result.tolerance == 0.02


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (lambda inputs: {}, "did not return this output"),
        (lambda inputs: {"out_sample": VALUES[:1]}, r"it is float32 \(1, 3\), expected float32 \(2, 3\)"),
        (lambda inputs: {"out_sample": VALUES.astype(np.float64)}, "it is float64"),
        (lambda inputs: {"out_sample": VALUES * np.float32(np.inf)}, "NaN or infinity"),
    ],
)
def test_an_output_that_cannot_be_compared_fails_with_the_reason(run, problem):
    (result,) = compare(run, [case()], artefact="canonical", tolerance=1.0)
    assert not result.passed and result.relative_rms is None
    with pytest.raises(VerificationError, match=problem):
        worst([result])


def test_an_engine_that_fails_is_a_failed_case():
    def fail(inputs):
        raise EngineError("out of memory")

    (result,) = compare(fail, [case()], artefact="canonical")
    assert not result.passed and result.problem == "out of memory"


def test_cases_that_a_profile_does_not_cover_are_left_out():
    def run(inputs):
        raise OutOfProfile("too large")

    assert list(compare(run, [case(), case("other")], artefact="plan")) == []
    assert worst([]) is None


def test_the_worst_is_taken_of_each_figure():
    results = [*compare(scaled(2.02), [case()], artefact="a"), *compare(scaled(2), [case()], artefact="a")]
    found = worst(results)
    assert found.relative_rms == results[0].relative_rms and found.max_abs == results[0].max_abs


def test_float32_is_exact_or_refused():
    assert measure(scaled(2), [case()], "fp32", target="openvino") is None
    with pytest.raises(
        VerificationError, match=r"unet \(openvino fp32\), case seeded, .* 1\.00e-03, more than .* no package"
    ):
        measure(scaled(2.002), [case()], "fp32", target="openvino")


@pytest.mark.parametrize("precision", REDUCED)
def test_a_reduced_precision_is_measured_within_its_tolerance_and_refused_beyond(precision):
    limit = PRECISIONS[precision].tolerance.relative_rms
    found = measure(scaled(2 * (1 + limit / 2)), [case(), case("other")], precision, target="openvino")
    assert isinstance(found, Difference) and found.relative_rms == pytest.approx(limit / 2, rel=1e-3)
    with pytest.raises(VerificationError, match=rf"unet \(openvino {precision}\).*more than .*build with --precision"):
        measure(scaled(2 * (1 + limit * 2)), [case()], precision, target="openvino")


def test_a_reduced_precision_within_rounding_is_exact():
    assert measure(scaled(2), [case()], "fp16", target="openvino") is None
