"""A component's graph in a reduced precision: what a plan is built from, and its emulation against the reference.

ONNX Runtime runs the emulation on the CPU: its own kernels for half precision would hide an overflow.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.precision.reduce import reduce_precision
from ldm_export.verify import reference_file
from ldm_export.verify.compare import measure
from ldm_runtime.engines.ort.session import import_onnxruntime
from ldm_runtime.package.artefacts import Difference, Precision


@contextlib.contextmanager
def reduced_graph(canonical: Path, precision: Precision, *, emulate: bool = False) -> Iterator[Path]:
    """Write the canonical graph in `precision` to a file beside it that shares its weights; remove it afterwards.

    Raises ExportError if the graph cannot be read or reduced.
    """
    kind = f"{precision}-emulated" if emulate else precision
    path = canonical.with_name(f".{canonical.stem}.{kind}-{os.getpid()}.onnx")
    try:
        write_graph(reduce_precision(read_graph(canonical), precision, emulate=emulate), path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def measure_reduced(canonical: Path, reference: Path, component: str, precision: Precision) -> Difference | None:
    """Return what a component's graph in `precision` differs by from the file `reference`; None: rounding only.

    Raises:
        VerificationError: NaN or infinity, or more than the tolerance; it names the component.
        PackageError: there is no reference.
        ExportError: the graph cannot be reduced.
    """
    cases = reference_file.read(reference).cases_of(component)
    with reduced_graph(canonical, precision, emulate=True) as path:
        session = exact_session(path)
        names = [output.name for output in session.get_outputs()]

        def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, inputs), strict=True))

        return measure(run, cases, precision, target="tensorrt")


def exact_session(path: Path) -> Any:
    """Make a session that runs the graph as written: an optimiser would drop roundings as casts without effect."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
