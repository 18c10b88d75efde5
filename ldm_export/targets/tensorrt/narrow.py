"""A component's graph with weights in eight or four bits, which a plan widens on the GPU (DequantizeLinear).

TensorRT for RTX 1.7 takes eight bits for convolutions and products, with a scale for each output, and four for products
in blocks of 32 inputs; it computes in the graph's own precision. Plans are as much smaller as their weights are.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ldm_export.errors import VerificationError
from ldm_export.lossy.layers import exposed, narrow, quantisable
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.store import store_data
from ldm_export.precision.reduce import reduce_precision
from ldm_export.targets.tensorrt.options import Weights
from ldm_export.targets.tensorrt.reduced import PLAIN, Repair, exact_session, graph_beside, read_repaired
from ldm_export.verify import reference_file
from ldm_export.verify.compare import compare, reduced_tolerance, worst
from ldm_export.verify.report import case_failure
from ldm_runtime.package.artefacts import Difference, Precision


@contextlib.contextmanager
def narrow_graph(
    canonical: Path, precision: Precision, weights: Weights, *, emulate: bool = False, repair: Repair = PLAIN
) -> Iterator[Path]:
    """Write the canonical graph in `precision` with narrow weights, which are in a file of its own; remove both after.

    What a repair keeps in float32 keeps its weights too. Raises ExportError if the graph cannot be read or reduced.
    """
    kind = f"{precision}-{weights}{'-emulated' if emulate else ''}"
    data = canonical.with_name(f".{canonical.stem}.{kind}-{os.getpid()}.safetensors")
    model = read_repaired(canonical, repair)
    layers = {layer.name for layer in quantisable(model)}
    keep = narrow(model) | layers.intersection(repair.kept)
    scheme = Scheme(
        "int4" if weights == "w4" else "int8",
        activations=False,
        in_eight_bits=exposed(model),
        blocks="DequantizeLinear",
    )
    try:
        model = store_data(quantise(model, {}, scheme, keep), data)
        model = reduce_precision(model, precision, emulate=emulate, keep=repair.kept)
        with graph_beside(canonical, model, kind) as path:
            yield path
    finally:
        data.unlink(missing_ok=True)


def measure_narrow(
    canonical: Path, reference: Path, component: str, precision: Precision, weights: Weights, repair: Repair
) -> Difference:
    """Return what a component differs by, every value rounded as a GPU would, and weights as they are stored.

    Raises:
        VerificationError: more than the tolerance of `precision`, or NaN or infinity.
        PackageError: there is no reference.
        ExportError: the graph cannot be reduced.
    """
    cases = reference_file.read(reference).cases_of(component)
    with narrow_graph(canonical, precision, weights, emulate=True, repair=repair) as path:
        session = exact_session(path)
        names = [output.name for output in session.get_outputs()]

        def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, inputs), strict=True))

        name, most = f"tensorrt {precision}, weights {weights}", reduced_tolerance(precision)
        results = list(compare(run, cases, artefact=name, tolerance=most))
    for result in results:
        if not result.passed:
            raise VerificationError(f"{case_failure(result)}; {_instead(precision, weights)}")
    found = worst(results)
    assert found is not None
    return found


def _instead(precision: Precision, weights: Weights) -> str:
    others = ["build with --weights w8"] if weights == "w4" else []
    others += ["build with --precision bf16, which may differ by more"] if precision == "fp16" else []
    return ", or ".join([*others, "leave --weights out"])
