"""Functions by which passes recognise and replace parts of a graph; types are onnx_ir's.

Fusions are matched by hand, not by the rules of onnxscript.rewriter. The activations were tried as such rules
(onnxscript 0.7, the built-in model): they fuse the same in 57 lines in place of 88, but every order of commutative
operands is a rule of its own, so that four become 30, the UNet of 1,198 nodes takes 0.33 s in place of 0.005 s, and new
nodes lose the name of their module, so that the graph is another one. Attention depends on the sizes noted at Reshapes
and on a causal mask, which are conditions in Python either way.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that makes `value`, if it is ONNX's operator of this type."""
    node = None if value is None else value.producer()
    return node if node is not None and (node.op_type, node.domain) == (op_type, "") else None


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of a Constant node; None for anything else, weights included: they are never looked into."""
    node = producer(value, "Constant")
    if node is None:
        return None
    (attribute,) = node.attributes.values()
    kinds = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    if attribute.name in kinds:
        return np.array(attribute.value, kinds[attribute.name])
    return attribute.value.numpy() if attribute.name == "value" else None


def scalar(value: ir.Value | None) -> float | None:
    """Return the number in a Constant of one element."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def is_weight(value: ir.Value) -> bool:
    """Tell whether `value` is a parameter, as it is stored or widened by a Cast."""
    cast = producer(value, "Cast")
    source = value if cast is None else cast.inputs[0]
    return source is not None and source.is_initializer()


def find_parameters(graph: ir.Graph) -> set[ir.Value]:
    """Return all values that follow from weights and constants alone."""
    parameters: set[ir.Value] = set(graph.initializers.values())
    for node in graph:
        if all(value is None or value in parameters for value in node.inputs):
            parameters.update(node.outputs)
    return parameters


def product_places(node: ir.Node, parameters: Collection[ir.Value]) -> tuple[int, int] | None:
    """Return which input of a product is computed and which is its weight; None for any other node."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain != "":
        return None
    places = [index for index in (0, 1) if node.inputs[index] in parameters]
    if places == [1]:
        return 0, 1
    return (1, 0) if places == [0] and node.op_type == "MatMul" else None


def is_padded_3x3(conv: ir.Node) -> bool:
    """Tell whether a Conv has a 3x3 weight, stride 1, one group, and one pixel of zeros around the image."""
    get = conv.attributes.get_ints
    weight = conv.inputs[1]
    sizes = dims(weight)
    return (
        weight is not None
        and is_weight(weight)
        and sizes is not None
        and all(isinstance(size, int) for size in sizes)
        and tuple(sizes[2:]) == (3, 3)
        and conv.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and conv.attributes.get_int("group", 1) == 1
        and tuple(get("pads", (0, 0, 0, 0))) == (1, 1, 1, 1)
        and tuple(get("strides", (1, 1))) == (1, 1)
        and tuple(get("dilations", (1, 1))) == (1, 1)
    )


def weight_channels(conv: ir.Node) -> tuple[int, int]:
    """Return (out, in) channels of a Conv whose weight's sizes are known."""
    out_channels, in_channels, *_ = (int(size) for size in dims(conv.inputs[1]) or ())
    return out_channels, in_channels


def operands(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """Return the two inputs of a commutative node in both orders."""
    first, second = node.inputs
    assert first is not None and second is not None
    return [(first, second), (second, first)]


def used_once(value: ir.Value) -> bool:
    """Tell whether one input of one node is all that reads `value`."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def dims(value: ir.Value | None) -> tuple[int | str, ...] | None:
    """Return the sizes of all axes, integers or names; None if one is unknown."""
    if value is None or value.shape is None:
        return None
    sizes = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def same_shape(first: ir.Value, second: ir.Value) -> bool:
    """Tell whether two values are known to have equal sizes, without broadcasting."""
    return dims(first) is not None and dims(first) == dims(second)


def last_axis(node: ir.Node, value: ir.Value | None) -> bool:
    """Tell whether the `axis` of a node, the last one by default, is the last one of `value`."""
    axis = node.attributes.get_int("axis", -1)
    return axis == -1 or (value is not None and value.shape is not None and axis == len(value.shape) - 1)


def make_constant(array: np.ndarray, before: ir.Node) -> ir.Value:
    """Insert a Constant node ahead of `before`."""
    node = ir.node("Constant", [], {"value": ir.tensor(array)}, name=f"{before.name}/constant")
    assert before.graph is not None
    before.graph.insert_before(before, node)
    value = node.outputs[0]
    value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
    return value


def make_sizes(before: ir.Node, *sizes: int) -> ir.Value:
    """Insert a Constant node of integers ahead of `before`."""
    return make_constant(np.array(sizes, np.int64), before)


def insert_before(
    last: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    part: str,
    attributes: Mapping[str, Any],
    outputs: int = 1,
) -> Sequence[ir.Value]:
    """Insert a node ahead of `last`, which is about to be replaced, and return its outputs; `part` ends its name."""
    node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=f"{last.name}/{part}")
    assert last.graph is not None
    last.graph.insert_before(last, node)
    return node.outputs


def multiply_input(node: ir.Node, index: int, factor: float) -> None:
    """Let a node read one of its inputs times `factor`; where that is 1 or there is no input, nothing changes."""
    value = node.inputs[index]
    if value is None or factor == 1:
        return
    number = make_constant(np.array(factor, np.float32), node)
    (product,) = insert_before(node, "Mul", [value, number], f"scaled_{index}", {})
    product.type, product.shape = value.type, value.shape
    node.replace_input_with(index, product)


def redirect(old: ir.Value, new: ir.Value) -> bool:
    """Let all that reads `old` read `new`; False if an output of the graph would lose its name by it."""
    if old.is_graph_output():
        if new.producer() is None or new.is_graph_output():
            return False
        old.name, new.name = f"{old.name}/unused", old.name
        new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    return True


def replace(
    last: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any],
    domain: str = "",
) -> None:
    """Put one new node in the place of `last`, the end of a matched pattern.

    Its output takes over name and readers of `last`'s. What fed `last` alone is left for `remove_unused`.
    """
    (old,) = last.outputs
    new = ir.Value(type=old.type, shape=old.shape)
    name = last.name if last.name is not None else ""
    name = name.replace(f"/{last.op_type}", f"/{op_type}")  # keeps the module and the number
    node = ir.node(op_type, inputs, attributes, domain=domain, outputs=[new], name=name)
    assert last.graph is not None
    last.graph.insert_before(last, node)
    new.name, old.name = old.name, f"{old.name}/replaced"
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    last.graph.remove(last, safe=True)
