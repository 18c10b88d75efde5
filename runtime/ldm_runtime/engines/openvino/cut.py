"""Cuts what depends on some inputs alone out of a model of OpenVINO, so that it can be computed apart."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_PRODUCTS = ("MatMul", "Convolution", "GroupConvolution")


@dataclass(frozen=True)
class Cut:
    """A model of what was cut out. values: its outputs, which the rest takes as inputs. batched: those whose first
    dimension is open, as the batch is."""

    model: Any
    values: tuple[str, ...]
    batched: frozenset[str]


def cut_off(model: Any, inputs: Collection[str], name: str) -> Cut | None:
    """Cut all products with weights that depend on `inputs` alone, and what leads to them, out of `model`, in place.

    What depends on the shape of another input alone is no reason to leave it in: the part takes that input too. What
    follows the last product, such as a change of layout, stays, where OpenVINO fuses it. Where the model reads what was
    cut off it gets inputs called `name.0`, `name.1` and so on. None: there is nothing to cut off.

    The model must have no control flow and no state.
    """
    nodes = model.get_ordered_ops()
    inside = _inside(nodes, set(inputs))
    staying = _staying(nodes, inside)
    edges = [
        output
        for node in nodes
        if node.get_instance_id() in inside
        for output in node.outputs()
        if any(reader.get_node().get_instance_id() in staying for reader in output.get_target_inputs())
    ]
    if not edges:
        return None
    part = _model(edges, nodes)
    values = tuple(f"{name}.{index}" for index in range(len(edges)))
    for value, output in zip(values, part.outputs, strict=True):
        output.get_tensor().set_names({value})
    batched = {
        value for value, edge in zip(values, edges, strict=True) if edge.get_partial_shape()[0].is_dynamic
    }  # before the edges are given another source
    model.add_parameters([_give(edge, value, inside) for edge, value in zip(edges, values, strict=True)])
    model.validate_nodes_and_infer_types()
    return Cut(part, values, frozenset(batched))


def _inside(nodes: list[Any], inputs: set[str]) -> set[int]:
    """Return the numbers of the nodes to cut off: products that depend on `inputs` alone, and what they depend on."""
    depends: dict[int, set[str]] = {}
    for node in nodes:
        if node.get_type_name() == "Parameter":
            depends[node.get_instance_id()] = set(node.output(0).get_names())
        elif node.get_type_name() == "ShapeOf":
            depends[node.get_instance_id()] = set()
        else:
            sources = (value.get_node().get_instance_id() for value in node.input_values())
            depends[node.get_instance_id()] = set().union(*(depends[source] for source in sources))
    inside: set[int] = set()
    for node in reversed(nodes):
        number, kind = node.get_instance_id(), node.get_type_name()
        if kind in ("Parameter", "Result") or not depends[number] or not depends[number] <= inputs:
            continue
        readers = (
            reader.get_node().get_instance_id() for output in node.outputs() for reader in output.get_target_inputs()
        )
        if kind in _PRODUCTS or any(reader in inside for reader in readers):
            inside.add(number)
    return inside


def _staying(nodes: list[Any], inside: set[int]) -> set[int]:
    """Return the numbers of the nodes that the results still need: not of those that read shapes for what goes."""
    needed = {node.get_instance_id() for node in nodes if node.get_type_name() == "Result"}
    for node in reversed(nodes):
        if node.get_instance_id() in needed:
            sources = {value.get_node().get_instance_id() for value in node.input_values()}
            needed |= sources - inside
    return needed


def _model(edges: list[Any], nodes: list[Any]) -> Any:
    """Make a model of its own that gives these values, with the parameters that lead to them."""
    import openvino

    needed: set[int] = {edge.get_node().get_instance_id() for edge in edges}
    for node in reversed(nodes):
        if node.get_instance_id() in needed:
            needed.update(value.get_node().get_instance_id() for value in node.input_values())
    parameters = [node for node in nodes if node.get_type_name() == "Parameter" and node.get_instance_id() in needed]
    return openvino.Model(edges, parameters).clone()


def _give(edge: Any, value: str, inside: set[int]) -> Any:
    """Let all that stays read a new parameter in place of a value that is cut off."""
    from openvino import op

    parameter = op.Parameter(edge.get_element_type(), edge.get_partial_shape())
    parameter.output(0).get_tensor().set_names({value})
    parameter.set_friendly_name(value)
    for reader in edge.get_target_inputs():
        if reader.get_node().get_instance_id() not in inside:
            reader.replace_source_output(parameter.output(0))
    return parameter
