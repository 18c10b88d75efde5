"""A component's graph in a reduced precision: what a plan is built from, and its emulation against the reference.

ONNX Runtime runs the emulation on the CPU: its own kernels for half precision would hide an overflow.
"""

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.optimise.rescale_residual import rescale_residual
from ldm_export.optimise.split_attention_scale import split_attention_scale
from ldm_export.precision.reduce import reduce_precision
from ldm_export.verify.compare import compare_in
from ldm_export.verify.reference_file import Case
from ldm_export.verify.report import CaseResult
from ldm_runtime.engines.ort.session import import_onnxruntime
from ldm_runtime.package.artefacts import Precision


@dataclass(frozen=True)
class Repair:
    """What lets a graph compute in a precision in which it would overflow; nothing of it is the plain graph.

    scale: the power of two by which the residual streams with the values `carried` are divided; attention's scale moves
    into its projections with it, so that 1 is that alone, and None no rewrite. kept: operators in float32, by name.
    """

    scale: float | None = None
    carried: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


PLAIN = Repair()


def read_repaired(canonical: Path, repair: Repair) -> ir.Model:
    """Read a canonical graph with its rewrites, which change no result in float32. Raises ExportError."""
    model = read_graph(canonical)
    if repair.scale is not None:
        model, _ = rescale_residual(model, repair.scale, repair.carried)
        model, _ = split_attention_scale(model)
    return model


@contextlib.contextmanager
def reduced_graph(
    canonical: Path, precision: Precision, *, emulate: bool = False, repair: Repair = PLAIN
) -> Iterator[Path]:
    """Write the canonical graph in `precision` to a file beside it that shares its weights; remove it afterwards.

    Raises ExportError if the graph cannot be read or reduced.
    """
    kind = f"{precision}-emulated" if emulate else precision
    model = reduce_precision(read_repaired(canonical, repair), precision, emulate=emulate, keep=repair.kept)
    with graph_beside(canonical, model, kind) as path:
        yield path


@contextlib.contextmanager
def graph_beside(canonical: Path, model: ir.Model, kind: str) -> Iterator[Path]:
    """Write a graph to a file of its own beside the canonical one, whose weights it reads; remove it afterwards."""
    path = canonical.with_name(f".{canonical.stem}.{kind}-{os.getpid()}.onnx")
    try:
        write_graph(model, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def compare_reduced(
    canonical: Path, cases: Sequence[Case], precision: Precision, repair: Repair = PLAIN
) -> Generator[CaseResult, None, None]:
    """Compare a component's graph in `precision` with its cases, output by output.

    Raises ExportError if the graph cannot be reduced.
    """
    with reduced_graph(canonical, precision, emulate=True, repair=repair) as path:
        session = exact_session(path)
        names = [output.name for output in session.get_outputs()]

        def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, inputs), strict=True))

        yield from compare_in(run, cases, precision, target="tensorrt")


def exact_session(path: Path) -> Any:
    """Make a session that runs the graph as written: an optimiser would drop roundings as casts without effect."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
