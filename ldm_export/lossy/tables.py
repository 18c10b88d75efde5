"""Shrinks tables of embeddings: rows in eight bits with a scale each, widened after they are looked up."""

import numpy as np
import onnx_ir as ir

from ldm_export.lossy.layers import parameter_array, stored
from ldm_export.lossy.ranges import SMALLEST_SCALE
from ldm_export.optimise.matching import replace
from ldm_export.optimise.remove_unused import remove_unused

_LARGEST = 127  # of a signed number, on both sides
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def shrink_tables(model: ir.Model) -> dict[str, np.ndarray]:
    """Shrink all tables of `model`, which is changed in place; return what is to be stored for it, by name.

    Raises ExportError for NaN or infinity in one.
    """
    data: dict[str, np.ndarray] = {}
    for node in list(model.graph):
        table = _table(node)
        if table is not None:
            rows = parameter_array(table, str(node.name))
            scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / np.float32(_LARGEST), SMALLEST_SCALE)
            levels = np.clip(np.rint(rows / scales), -_LARGEST, _LARGEST).astype(np.int8)
            names = {f"{table.name}/int8": levels, f"{table.name}/scale": scales.astype(np.float32)}
            data |= names
            _widen(model.graph, node, [_initial(model.graph, *each) for each in names.items()])
    remove_unused(model)
    return data


def _table(node: ir.Node) -> ir.Value | None:
    """Return the table whose rows a node looks up, as it is stored; None for any other node."""
    if (node.op_type, node.domain) != ("Gather", "") or node.attributes.get_int("axis", 0) != 0:
        return None
    table = stored(node.inputs[0])
    is_table = table is not None and table.dtype in _FLOATS and table.shape is not None and len(table.shape) == 2
    return table if is_table and table is not None and table.const_value is not None else None


def _widen(graph: ir.Graph, node: ir.Node, parts: list[ir.Value]) -> None:
    """Put the product of numbers and scales, both looked up, in the place of a lookup."""
    looked_up = []
    for part, value in zip(("int8", "scale"), parts, strict=True):
        gather = ir.node("Gather", [value, node.inputs[1]], {"axis": 0}, name=f"{node.name}/{part}/Gather")
        gather.outputs[0].name = f"{node.name}/{part}"
        graph.insert_before(node, gather)
        looked_up.append(gather.outputs[0])
    cast = ir.node("Cast", [looked_up[0]], {"to": ir.DataType.FLOAT.value}, name=f"{node.name}/Cast")
    cast.outputs[0].name = f"{node.name}/wide"
    graph.insert_before(node, cast)
    replace(node, "Mul", [cast.outputs[0], looked_up[1]], {})


def _initial(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Return the initialiser `name`, a new one where a second lookup does not share it."""
    if name not in graph.initializers:
        tensor = ir.tensor(array, name=name)
        shape = ir.Shape(array.shape)
        graph.register_initializer(
            ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        )
    return graph.initializers[name]
