"""The gate's part for variants: each is held to the error that was recorded of it.

Against torch a variant may differ by what was recorded and a fifth more. That alone would hide a small fault in a large
error, so its outputs are compared with its own of when it was measured too. Of a denoiser with caching, the graph that
reads deep features has to make of those of one evaluation what the graph that kept them made.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ldm_export.precision.table import RECORDED_FACTOR
from ldm_export.verify import metrics, variant_file
from ldm_export.verify.compare import compare
from ldm_export.verify.images import side_by_side, to_bytes
from ldm_export.verify.page import Figure
from ldm_export.verify.reference_file import Case, Reference
from ldm_export.verify.report import CaseResult, FactResult, VariantResult, finite_or_none
from ldm_export.verify.variant_file import OwnRecord
from ldm_export.verify.variant_run import draw_reference, evaluate_ways, given
from ldm_runtime.deep_features import DeepFeatures
from ldm_runtime.engines.choice import EngineChoice
from ldm_runtime.errors import LdmError, OutOfProfile
from ldm_runtime.files import strict_json
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import Caching, Variant
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.variants import abilities_here, why_not

# Of a case's own error, against what the variant made when it was measured. With other threads it makes the same
# numbers, to the bit; a tiny decoder's layer with its weights x 1.5, among others of a large error, made 0.13 of it.
OWN_SHARE, SMALLEST_OWN = 0.1, 1e-4
CACHED_SHARE = 0.25  # of the component's error, between two graphs of one evaluation
PSNR_MARGIN = 2.0  # dB, of the sampling run's image


def verify_variants(
    package: Package, choice: EngineChoice, reference: Reference, say: Callable[[str], None]
) -> Iterator[tuple[VariantResult, list[Figure]]]:
    """Compare each variant of a package; one that a run would not draw with here, by `choice`, is left out."""
    for variant in package.manifest.variants:
        reason = why_not(variant, package, choice, abilities_here())
        if reason is not None:
            say(f"verify: variant {variant.name} left out: {reason}")
            yield VariantResult.left_out_for(variant.name, reason), []
            continue
        say(f"verify: variant {variant.name}")
        try:
            yield verify_variant(package, choice, variant, reference)
        except LdmError as error:  # the others are compared all the same
            yield VariantResult.failed(variant.name, str(error)), []


def verify_variant(
    package: Package, choice: EngineChoice, variant: Variant, reference: Reference
) -> tuple[VariantResult, list[Figure]]:
    """Compare one variant with torch and with its record; the images are torch's and its own.

    Raises:
        PackageError: the record is missing or damaged.
        LdmError: it cannot be drawn with.
    """
    own = variant_file.read(package.file(variant_file.file_of(variant.name)), variant, reference)
    fact = _recorded(variant, own)
    with Pipeline(package, choice, variant=variant) as pipe:
        made = evaluate_ways(pipe, variant, reference)
        image = draw_reference(pipe, variant, reference.trajectory)
        cached = [] if variant.run.caching is None else list(_cached(pipe, variant, variant.run.caching, reference))
    cases = [result for case in made for result in _case(variant, case, reference, own)] + cached
    floor, psnr, ssim = _judged(image, variant, own, reference)
    passed = fact.passed and all(case.passed for case in cases) and psnr >= floor
    result = VariantResult(
        name=variant.name,
        left_out=None,
        facts=(fact,),
        cases=tuple(cases),
        image_psnr=finite_or_none(psnr),
        image_ssim=ssim,
        image_floor=floor,
        problem=None,
        passed=passed,
    )
    return result, side_by_side(to_bytes(reference.trajectory.image), to_bytes(image), variant.name)


def _recorded(variant: Variant, own: OwnRecord) -> FactResult:
    """Compare the manifest's variant with the one that was measured: its figures are those of the record."""
    found, expected = strict_json.plain(variant), own.variant
    return FactResult(
        f"variants[{variant.name}]", _changed(expected, found), _changed(found, expected), found == expected
    )


def _changed(value: Any, other: Any) -> str:
    """Return the JSON of what is in `value` and not the same in `other`; all of it where nothing is."""
    if isinstance(value, dict) and isinstance(other, dict):
        value = {key: each for key, each in value.items() if key not in other or other[key] != each} or value
    return strict_json.spelt(value)


def _case(variant: Variant, made: Case, reference: Reference, own: OwnRecord) -> Iterator[CaseResult]:
    """Judge a case of a way: against torch if it is of a real run, and against the variant's own outputs."""
    component, artefact = made.component, variant.ways[made.component].artefact
    exact = next(case for case in reference.cases_of(component) if case.name == made.name)
    recorded = next(case for case in own.cases_of(component) if case.name == made.name)
    run = given(made.outputs)
    if exact.is_captured:
        most = max(SMALLEST_OWN, RECORDED_FACTOR * variant.error.components[component].relative_rms)
        yield from compare(run, [exact], artefact=artefact, tolerance=most)
    tolerance = max(SMALLEST_OWN, OWN_SHARE * _difference(recorded, exact))
    yield from compare(run, [recorded], artefact=f"{artefact}, as recorded", tolerance=tolerance)


def _cached(pipe: Pipeline, variant: Variant, caching: Caching, reference: Reference) -> Iterator[CaseResult]:
    """Hold the graph that reads deep features to the one that keeps them: within one evaluation nothing is stale."""
    role = pipe.contract.denoiser
    features = DeepFeatures(pipe.component(role.component).components, role.component, caching)
    recorded = variant.error.components.get(role.component)
    tolerance = max(SMALLEST_OWN, 0.0 if recorded is None else CACHED_SHARE * recorded.relative_rms)
    for case in reference.cases_of(role.component):
        batch = len(case.inputs[role.sample])
        with suppress(OutOfProfile):
            whole = features.evaluate(case.inputs, batch, whole=True)
            expected = replace(case, outputs={name: whole[name] for name in case.outputs})
            made = features.evaluate(case.inputs, batch, whole=False)
            name = f"{caching.reads}, after {caching.keeps}"
            yield from compare(given(made), [expected], artefact=name, tolerance=tolerance)


def _difference(case: Case, exact: Case) -> float:
    return min(metrics.difference(case.outputs[name], exact.outputs[name]).relative_rms for name in exact.outputs)


def _judged(image: np.ndarray, variant: Variant, own: OwnRecord, reference: Reference) -> tuple[float, float, float]:
    """Return the floor of the image's PSNR, its PSNR and its SSIM: of bytes, beside torch's image.

    The prompt is not one of those that were measured, so that the variant's own image of it may set a lower floor. The
    image need be no nearer than that of an exact run.
    """
    exact = to_bytes(reference.trajectory.image)
    psnr, ssim = image_error(image, exact)
    recorded = [image_error(own.image, exact)[0], reference.trajectory.image_floor]
    recorded += [] if variant.error.psnr is None else [variant.error.psnr]
    return min(recorded) - PSNR_MARGIN, psnr, ssim


def image_error(image: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Return PSNR in dB and SSIM of an image (3, H, W) as bytes beside bytes (H, W, 3)."""
    levels = to_bytes(image)
    ssim = metrics.ssim(levels.transpose(2, 0, 1), exact.transpose(2, 0, 1), 255)
    return metrics.psnr(levels, exact, peak=255), ssim
