"""Compares a component in fp16 or bf16 with the package's reference, before a plan is built of it.

The graph is rounded as `reduce_precision` emulates it and run by ONNX Runtime on the CPU, whose own kernels for half
precision would hide an overflow.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.package.write import read_manifest
from ldm_export.precision.reduce import reduce_precision
from ldm_export.precision.table import PRECISIONS
from ldm_export.verify import metrics, reference_file
from ldm_runtime.engines.ort.session import import_onnxruntime
from ldm_runtime.errors import PackageError, VerificationError
from ldm_runtime.package.manifest import Difference, Precision


@contextlib.contextmanager
def reduced_graph(canonical: Path, precision: Precision, *, emulate: bool = False) -> Iterator[Path]:
    """The canonical graph in `precision`, in a file beside it that shares its weights and is removed afterwards.

    Raises ExportError if the graph cannot be read or reduced.
    """
    kind = f"{precision}-emulated" if emulate else precision
    path = canonical.with_name(f".{canonical.stem}.{kind}-{os.getpid()}.onnx")
    try:
        write_graph(reduce_precision(read_graph(canonical), precision, emulate=emulate), path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def measure_reduced(folder: Path, component: str, precision: Precision) -> Difference:
    """The worst difference of `component` in `precision` over the package's reference cases.

    Raises:
        VerificationError: NaN or infinity, or more than the tolerance; it names the component.
        PackageError: the package has no reference.
        ExportError: the graph cannot be reduced.
    """
    manifest = read_manifest(folder)
    if reference_file.FILE not in manifest.files:
        raise PackageError(
            f"{folder} carries no reference ({reference_file.FILE}) to prove {precision}; build it again"
        )
    cases = [each for each in reference_file.read(folder / reference_file.FILE).cases if each.component == component]
    worst = Difference(0.0, 0.0)
    with reduced_graph(folder / manifest.components[component].canonical.file, precision, emulate=True) as path:
        session = exact_session(path)
        for case in cases:
            names = list(case.outputs)
            for name, value in zip(names, session.run(names, case.inputs), strict=True):
                found = _compare(component, precision, case, name, value)
                worst = Difference(max(worst.relative_rms, found.relative_rms), max(worst.max_abs, found.max_abs))
    return worst


def _compare(
    component: str, precision: Precision, case: reference_file.Case, name: str, value: np.ndarray
) -> Difference:
    if not np.isfinite(value).all():
        raise VerificationError(
            f"{component} overflows in {precision}: {name} holds NaN or infinity in the case {case.name!r}; "
            f"build with --precision {PRECISIONS[precision].instead}"
        )
    found = metrics.difference(value, case.outputs[name])
    tolerance = PRECISIONS[precision].tolerance.relative_rms
    if not found.relative_rms <= tolerance:
        raise VerificationError(
            f"{component} is not the same in {precision}: {name} differs by {found.relative_rms:.1e} (relative RMS) in "
            f"the case {case.name!r}, more than {tolerance:.0e}; build with --precision {PRECISIONS[precision].instead}"
        )
    return Difference(found.relative_rms, found.max_abs)


def exact_session(path: Path) -> Any:
    """A session that runs the graph as it is written: an optimiser would take roundings for casts without effect."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
