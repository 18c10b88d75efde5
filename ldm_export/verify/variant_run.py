"""Runs a variant where the reference has something to compare with: every case of its ways, and the sampling run."""

import importlib.metadata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ldm_export.errors import VerificationError
from ldm_export.verify.compare import Run, compare, worst
from ldm_export.verify.inpainting_probe import probe_task
from ldm_export.verify.reference_file import Case, Reference, Trajectory
from ldm_runtime.errors import OutOfProfile
from ldm_runtime.package.artefacts import Difference
from ldm_runtime.package.variants import Variant
from ldm_runtime.pipeline import Pipeline

_DISTRIBUTIONS = {
    "ort": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "openvino": ("openvino",),
}


def evaluate_ways(pipe: Pipeline, variant: Variant, reference: Reference) -> tuple[Case, ...]:
    """Return the reference's cases of all ways with the outputs of `pipe`, which draws with the variant.

    A case of a size that a way was not built for is left out.

    Raises:
        EngineError: an engine fails.
        NonFiniteError: NaN or infinity comes out of one.
        VerificationError: an output is missing.
    """
    made = []
    for component in variant.ways:
        for case in reference.cases_of(component):
            with suppress(OutOfProfile):
                outputs = pipe.component(component).run(dict(case.inputs))
                for name in case.outputs:
                    if name not in outputs:
                        raise VerificationError(f"{component} of {variant.name} gives no output {name!r}")
                made.append(replace(case, outputs={name: outputs[name] for name in case.outputs}))
    return tuple(made)


def worst_captured(made: tuple[Case, ...], reference: Reference) -> dict[str, Difference]:
    """Return by component the largest difference from torch in the cases of a real run, for which a way is made.

    Raises VerificationError for NaN or infinity.
    """
    found: dict[str, Difference] = {}
    for component in dict.fromkeys(case.component for case in made):
        exact = {case.name: case for case in reference.cases_of(component) if case.is_captured}
        pairs = [(case, exact[case.name]) for case in made if case.component == component and case.name in exact]
        results = [each for own, case in pairs for each in compare(given(own.outputs), [case], artefact="")]
        difference = worst(results)
        if difference is None:
            raise VerificationError(f"the reference has no case of {component} that is of a real run")
        found[component] = difference
    return found


def given(outputs: Mapping[str, np.ndarray]) -> Run:
    """Return what stands for an engine whose outputs are known."""
    return lambda feeds: outputs


def draw_reference(pipe: Pipeline, variant: Variant, expected: Trajectory) -> np.ndarray:
    """Draw the reference's sampling run with a variant: its image (3, H, W). Raises LdmError."""
    run = pipe.sample(
        expected.prompt,
        negative=expected.negative,
        steps=expected.steps if variant.run.steps is None else None,
        seed=expected.seed,
        size=expected.size,
        **probe_task(pipe.contract, expected.size),
    )
    *_, last = run
    return np.asarray(last.decode()[0])


def versions_of(variant: Variant) -> dict[str, str]:
    """Return the versions of what a variant is computed with; without ways that is ONNX Runtime."""
    engines = {"ort", *(way.engine.partition(":")[0] for way in variant.ways.values())}
    versions = {}
    for name in sorted({name for engine in engines for name in _DISTRIBUTIONS.get(engine, ())}):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
