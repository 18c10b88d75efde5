"""Makes a graph compute in fp16 or bf16 where that is safe, with types that say so: what strongly typed engines need.

Inputs and outputs of the graph stay float32, weights stay as they are stored and are cast where they are read, so that
no second copy of them is needed. Norms, softmax, sums and the angles of the timestep embedding stay float32, after the
operators that autocast keeps in float32: https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
"""

from collections.abc import Collection, Iterable

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from ldm_export.errors import ExportError
from ldm_export.precision.table import PRECISIONS, REDUCED
from ldm_runtime.package.artefacts import Precision

TYPES = {name: ir.DataType[PRECISIONS[name].onnx] for name in REDUCED}

_FLOAT = ir.DataType.FLOAT
_HALVES = tuple(TYPES.values())
# Reductions and functions whose sums, squares or exponentials leave fp16's range, or whose arguments need its digits.
_FLOAT32 = {"InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization"}
_FLOAT32 |= {"Softmax", "LogSoftmax", "Sin", "Cos", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "CumSum"}
_FLOAT32 |= {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceL1", "ReduceProd", "ReduceLogSumExp"}
_FLOAT32 |= {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "ArgMax", "ArgMin", "TopK", "IsNaN", "IsInf"}
# Operators that move numbers about: these keep the type that they have.
MOVES = {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Slice", "Split", "Expand", "Identity", "Flatten", "Tile"}
MOVES |= {"GatherND", "DepthToSpace", "SpaceToDepth"}
_ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
_READS_SHAPE = {"Shape", "Size"}
_INTEGERS = {ir.DataType.INT64, ir.DataType.INT32}


def reduce_precision(
    model: ir.Model, precision: Precision, *, emulate: bool = False, keep: Collection[str] = ()
) -> ir.Model:
    """Let `model`, which is changed in place, compute in `precision`.

    emulate: let all kernels compute in float32 and round what the reduced graph would hold to `precision` and back, so
    that an engine without kernels for it shows its rounding, and an overflow as infinity. The sums inside of a matrix
    product or convolution are float32 then, which is what GPUs' tensor cores have too.
    keep: names of nodes that compute in float32 besides.

    Raises ExportError for a graph with another graph inside, a value of unknown type, or without a node of `keep`.
    """
    if _untyped(model):
        ShapeInferencePass()(model)
        untyped = _untyped(model)
        if untyped:
            raise ExportError(f"ONNX's shape inference finds no type for {untyped[0]!r}; export the component again")
    unknown = set(keep) - {str(node.name) for node in model.graph}
    if unknown:
        raise ExportError(f"the graph has no node {min(unknown)!r} that could stay in float32")
    _Reduction(model, precision, emulate, keep).apply()
    RemoveUnusedNodesPass()(model)
    return model


def _untyped(model: ir.Model) -> list[str | None]:
    return [value.name for node in model.graph for value in node.outputs if value.dtype is None and value.uses()]


class _Reduction:
    """One walk over the nodes in their order. A value is "reduced" if the reduced graph holds it in that type."""

    def __init__(self, model: ir.Model, precision: Precision, emulate: bool, keep: Collection[str]) -> None:
        self.graph = model.graph
        self.suffix = precision
        self.type = TYPES[precision]
        self.emulate = emulate
        self.reduced: set[ir.Value] = set()
        self.rounded: dict[ir.Value, ir.Value] = {}  # what stands for a value in an emulation
        self.cast: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.exact = _exact_nodes(model.graph) | {node for node in model.graph if node.name in keep}

    def apply(self) -> None:
        for node in list(self.graph):
            if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
                raise ExportError(f"the node {node.name!r} ({node.op_type}) has a graph inside, which stays in float32")
            self._visit(node)
        for index, output in enumerate(self.graph.outputs):
            if output in self.reduced:
                self._restore(index, output)

    def _visit(self, node: ir.Node) -> None:
        floats = [(index, value) for index, value in enumerate(node.inputs) if value is not None and _is_float(value)]
        if node.op_type in _READS_SHAPE or not floats or _widens(node):
            return  # has no numbers to compute with, or widens a stored weight
        if node.op_type in MOVES:
            source = floats[0][1]
            node.replace_input_with(floats[0][0], self.rounded.get(source, source))
            if source in self.reduced:
                self._mark(node)
        elif self._stays_float32(node, [value for _, value in floats]):
            for index, value in floats:
                node.replace_input_with(index, self._widened(value, node))
        else:
            for index, value in floats if node.op_type != "Resize" else floats[:1]:  # its scales are always float32
                node.replace_input_with(index, self._narrowed(value, node))
            self._mark(node)
            for value in node.outputs if self.emulate else ():
                self.rounded[value] = self._round(value, node)

    def _stays_float32(self, node: ir.Node, floats: list[ir.Value]) -> bool:
        """Tell whether a node keeps float32: such an operator, or arithmetic between two, as a norm's own epsilon."""
        if node.op_type in _FLOAT32 or node in self.exact or node.op_type == "Cast":
            return True
        readers = [reader for output in node.outputs for reader, _ in output.uses()]
        computed = [value for value in floats if not _is_parameter(value)]
        return (
            node.op_type in _ARITHMETIC
            and len(readers) > 0
            and all(reader.op_type in _FLOAT32 for reader in readers)
            and all(value not in self.reduced for value in computed)
        )

    def _mark(self, node: ir.Node) -> None:
        for value in node.outputs:
            if _is_float(value):
                self.reduced.add(value)
                if not self.emulate:
                    value.dtype = self.type

    def _narrowed(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Return `value` as a reduced node reads it."""
        if value in self.reduced:
            return self.rounded.get(value, value)
        stored = value.producer()
        source = stored.inputs[0] if stored is not None and _widens(stored) else value
        assert source is not None
        if source.dtype == self.type:
            return value if self.emulate else source
        narrow = self._as(source, self.type, before)
        return self._as(narrow, _FLOAT, before) if self.emulate else narrow

    def _widened(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Return `value` as a float32 node reads it."""
        if value not in self.reduced:
            return value
        return self.rounded.get(value, value) if self.emulate else self._as(value, _FLOAT, before)

    def _as(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        if (value, dtype) not in self.cast:
            node = _cast(value, dtype, f"{value.name}/{_short(dtype)}")
            self.graph.insert_before(before, node)
            self.cast[value, dtype] = node.outputs[0]
        return self.cast[value, dtype]

    def _round(self, value: ir.Value, after: ir.Node) -> ir.Value:
        narrow = _cast(value, self.type, f"{value.name}/{self.suffix}")
        wide = _cast(narrow.outputs[0], _FLOAT, f"{value.name}/rounded")
        self.graph.insert_after(after, [narrow, wide])
        return wide.outputs[0]

    def _restore(self, index: int, output: ir.Value) -> None:
        """Keep the name of an output of the graph, and make it float32."""
        source = self.rounded.get(output, output)
        name = output.name
        output.name = f"{name}/computed"
        node = _cast(source, _FLOAT, str(name))
        self.graph.append(node)
        self.graph.outputs[index] = node.outputs[0]


def _exact_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Find nodes whose results become an angle or an integer, such as a timestep or a size: their digits count."""
    exact: set[ir.Node] = set()
    waiting = [node for node in graph if node.op_type in ("Sin", "Cos") or _makes_integers(node)]
    while waiting:
        node = waiting.pop()
        if node not in exact:
            exact.add(node)
            waiting += [
                source for value in node.inputs if value is not None and (source := value.producer()) is not None
            ]
    return exact


def _makes_integers(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.outputs[0].dtype in _INTEGERS and _has_float(node.inputs)


def _has_float(values: Iterable[ir.Value | None]) -> bool:
    return any(value is not None and _is_float(value) for value in values)


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (_FLOAT, *_HALVES)


def _widens(node: ir.Node) -> bool:
    """Tell whether `node` casts a weight that is stored in half precision."""
    weight = node.inputs[0] if node.op_type == "Cast" else None
    return weight is not None and weight.is_initializer() and weight.dtype in _HALVES


def _is_parameter(value: ir.Value) -> bool:
    source = value.producer()
    return source is None or source.op_type == "Constant" or _widens(source)


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    out = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    return ir.node("Cast", [value], {"to": dtype.value}, outputs=[out], name=f"{name}/Cast")


def _short(dtype: ir.DataType) -> str:
    return next((name for name, each in TYPES.items() if each == dtype), "fp32")
