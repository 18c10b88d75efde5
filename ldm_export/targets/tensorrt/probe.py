"""Looks at every value of a graph: its size in float32, and what the reduced graph makes of it.

Both graphs are joined to one, which has the same inputs and weights, so that no value has to leave the engine: of each
there are three numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from ldm_export.optimise.matching import find_parameters
from ldm_export.precision.reduce import reduce_precision
from ldm_export.targets.tensorrt.reduced import PLAIN, Repair, exact_session, graph_beside, read_repaired
from ldm_export.verify.reference_file import Case
from ldm_runtime.package.artefacts import Precision

_FIGURES = ("largest", "power", "error")


@dataclass(frozen=True)
class Value:
    """One value of a graph that is computed, not stored."""

    name: str
    node: str  # that computes it
    operator: str
    reads: tuple[str, ...]  # the values that the node reads
    is_reduced: bool  # held in the precision, not in float32


@dataclass(frozen=True)
class Seen:
    """A value in one evaluation: its largest |number| in float32, and its error, a relative RMS or infinite."""

    value: Value
    largest: float
    error: float  # of what the reduced graph makes of it; infinite where that overflows


@dataclass(frozen=True)
class Stray:
    """The first value that is not what float32 has: too large for the precision, or too far away."""

    case: str
    seen: Seen

    @property
    def overflows(self) -> bool:
        return math.isinf(self.seen.error)

    def __str__(self) -> str:
        where = f"{self.seen.value.node} ({self.seen.value.operator})"
        if self.overflows:
            return f"the first value that overflows is {self.seen.largest:.6g} of {where}"
        return f"the first value that strays, by {self.seen.error:.2g} of its size, is that of {where}"


def look(canonical: Path, precision: Precision, cases: Sequence[Case], repair: Repair = PLAIN) -> dict[str, list[Seen]]:
    """Return case -> every value that the graph computes, in its order.

    Raises ExportError if the graph cannot be read or reduced.
    """
    exact = read_repaired(canonical, repair)
    ShapeInferencePass()(exact)
    emulated = read_repaired(canonical, repair)
    reduce_precision(emulated, precision, emulate=True, keep=repair.kept)
    values = _join(exact, emulated)
    with graph_beside(canonical, exact, f"{precision}-probe") as path:
        session = exact_session(path)
        names = [output.name for output in session.get_outputs()]
        return {
            case.name: _seen(values, dict(zip(names, session.run(names, case.inputs), strict=True))) for case in cases
        }


def first_stray(seen: Mapping[str, Sequence[Seen]], tolerance: float) -> Stray | None:
    """Return the first overflow of all cases, else the first value that differs by more than `tolerance`."""
    for limit in (math.inf, tolerance):
        for case, values in seen.items():
            for each in values:
                if each.error >= limit and each.error > tolerance:
                    return Stray(case, each)
    return None


def largest_values(seen: Mapping[str, Sequence[Seen]]) -> dict[str, float]:
    """Return value -> its largest |number| in float32 over all cases."""
    largest: dict[str, float] = {}
    for values in seen.values():
        for each in values:
            largest[each.value.name] = max(largest.get(each.value.name, 0.0), each.largest)
    return largest


def _join(exact: ir.Model, emulated: ir.Model) -> list[Value]:
    """Move all nodes of `emulated` into `exact`, whose outputs become figures of the values that are returned."""
    graph = exact.graph
    parameters = find_parameters(graph)
    computed = [node for node in graph if not parameters.issuperset(node.outputs)]
    graph.outputs.clear()
    twins = _move(emulated.graph, graph)
    values: list[Value] = []
    for node in computed:
        for value in node.outputs:
            rounded = twins.get(f"{value.name}/rounded")
            twin = rounded if rounded is not None else twins.get(str(value.name))
            if value.dtype == ir.DataType.FLOAT and twin is not None:
                _add_figures(graph, value, twin, len(values))
                reads = tuple(str(each.name) for each in node.inputs if each is not None)
                values.append(Value(str(value.name), str(node.name), node.op_type, reads, rounded is not None))
    return values


def _move(source: ir.Graph, graph: ir.Graph) -> dict[str, ir.Value]:
    """Move all nodes of `source` to the end of `graph`, and return their values by the names that they had."""
    shared = {str(value.name): value for value in (*graph.inputs, *graph.initializers.values())}
    twins = {}
    source.outputs.clear()
    for node in list(source):
        source.remove(node)
        for index, value in enumerate(node.inputs):
            if value is not None and value.producer() is None:
                node.replace_input_with(index, shared[str(value.name)])
        for value in node.outputs:
            twins[str(value.name)] = value
            value.name = f"{value.name}/twin"
        node.name = f"{node.name}/twin"
        graph.append(node)
    return twins


def _add_figures(graph: ir.Graph, exact: ir.Value, twin: ir.Value, index: int) -> None:
    """Append the largest |number| of a value, its sum of squares, and that of its twin's difference from it."""

    def put(op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(op_type, inputs, attributes)
        graph.append(node)
        return node.outputs[0]

    figures = (
        put("ReduceMax", put("Abs", exact), keepdims=0),
        put("ReduceSumSquare", exact, keepdims=0),
        put("ReduceSumSquare", put("Sub", twin, exact), keepdims=0),
    )
    for name, value in zip(_FIGURES, figures, strict=True):
        value.name, value.dtype, value.shape = f"{index}/{name}", ir.DataType.FLOAT, ir.Shape([])
        graph.outputs.append(value)


def _seen(values: Sequence[Value], figures: Mapping[str, np.ndarray]) -> list[Seen]:
    """Read the figures; of a value that is infinite in float32 too, as a mask is, nothing is said."""
    seen = []
    for index, value in enumerate(values):
        largest, power, error = (float(figures[f"{index}/{name}"]) for name in _FIGURES)
        if math.isfinite(power):
            relative = math.sqrt(error / power) if math.isfinite(error) and power > 0 else 0.0
            seen.append(Seen(value, largest, relative if math.isfinite(error) else math.inf))
    return seen
