"""One component in OpenVINO's own format: made from the canonical graph, and measured against torch's outputs."""

from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.precision.table import PRECISIONS
from ldm_export.verify import reference_file
from ldm_export.verify.compare import measure
from ldm_runtime.engines.openvino.engine import OpenVinoEngine
from ldm_runtime.engines.openvino.library import import_openvino, read_graph
from ldm_runtime.package.artefacts import Difference, Precision
from ldm_runtime.package.manifest import Contract

GRAPH, WEIGHTS = "openvino_model.xml", "openvino_model.bin"  # of every component, in a folder of its name


def convert_and_measure(
    graph: Path, out: Path, precision: Precision, contract: Contract, component: str, reference: Path
) -> Difference | None:
    """Convert, then measure with the cases in the file `reference`; None if rounding in float32 explains it all.

    Raises VerificationError as `compare.measure`.

    It takes a process of its own: in a second conversion OpenVINO would go on numbering, and the file would differ.
    """
    convert(graph, out, precision)
    cases = reference_file.read(reference).cases_of(component)
    return measure(OpenVinoEngine(out, contract, component).run, cases, precision, target="openvino")


def convert(graph: Path, out: Path, precision: Precision) -> None:
    """Write the ONNX file `graph` in OpenVINO's format: `out` and the weights beside it."""
    openvino = import_openvino()
    model = read_graph(graph)
    if precision != "fp32":
        _store_weights(model, precision)
    openvino.save_model(model, str(out), compress_to_fp16=False)


def _store_weights(model: Any, precision: Precision) -> None:
    """Store matrices and kernels in a reduced precision, in place; they are widened again where they are used.

    OpenVINO's own way to store half precision takes the frequencies of the timesteps too, an error of 1e-3 in the UNet.
    """
    import openvino
    from openvino import opset12 as opset

    stored = PRECISIONS[precision].numpy
    assert stored is not None
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        if sum(size > 1 for size in node.get_output_shape(0)) < 2 or np.abs(node.data).max() > np.finfo(stored).max:
            continue
        narrow = opset.constant(node.data.astype(stored))
        narrow.set_friendly_name(node.get_friendly_name())
        wide = opset.convert(narrow, "f32")
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(wide.output(0))
