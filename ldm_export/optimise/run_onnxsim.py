"""Runs onnxsim (https://github.com/onnxsim/onnxsim) as one pass that leaves the weights as they are."""

import onnx
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.optimise.matching import make_constant
from ldm_runtime.engines.ort.session import import_onnxruntime


def require_onnxsim() -> None:
    """Raise ExportError if onnxsim is not installed."""
    import_onnxruntime()  # onnxsim computes constants with it; imported here, it reports nothing to its makers
    try:
        import onnxsim  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"the pass onnxsim cannot be run ({error}); install it with `pip install 'ldm-export[onnxsim]'`, "
            f"or take it out of the recipe's passes"
        ) from error


def run_onnxsim(model: ir.Model) -> tuple[ir.Model, int]:
    """Simplify the graph by onnxsim; its result is taken if it has fewer nodes, Constants aside.

    onnxsim sees the weights as inputs: it folds none of them, so they stay in their file under the checkpoint's names
    and in its precision.

    Raises:
        ExportError: onnxsim is not installed, or fails.
    """
    require_onnxsim()
    import onnxsim

    proto = ir.to_proto(model)
    hidden = [onnx.helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in proto.graph.initializer]
    proto.graph.input.extend(hidden)
    del proto.graph.initializer[:]
    try:
        simplified, _ = onnxsim.simplify(proto)
    except Exception as error:  # it raises whatever its parts raise
        raise ExportError(f"onnxsim cannot simplify the graph: {error}; take it out of the recipe's passes") from error
    result = ir.from_proto(simplified)
    removed = _count(model.graph) - _count(result.graph)
    if removed <= 0:
        return model, 0
    _keep_constants_as_nodes(result.graph)
    _put_weights_back(result.graph, model.graph)
    _put_shapes_back(result.graph, model.graph)
    return result, removed


def _count(graph: ir.Graph) -> int:
    return sum(node.op_type != "Constant" for node in graph)


def _keep_constants_as_nodes(graph: ir.Graph) -> None:
    """Make Constant nodes of onnxsim's initialisers: here an initialiser is a weight of the data file."""
    for name, value in list(graph.initializers.items()):
        assert value.const_value is not None
        del graph.initializers[name]
        uses = list(value.uses())
        if uses:
            constant = make_constant(value.const_value.numpy(), graph[0])
            ir.convenience.replace_all_uses_with(value, constant)


def _put_weights_back(graph: ir.Graph, original: ir.Graph) -> None:
    """Make initialisers, with the tensors of `original`, of the inputs that stood for them."""
    for value in list(graph.inputs):
        known = original.initializers.get(value.name or "")
        if known is not None:
            graph.inputs.remove(value)
            if value.uses():
                value.const_value = known.const_value
                graph.register_initializer(value)


def _put_shapes_back(graph: ir.Graph, original: ir.Graph) -> None:
    """Let values of the same name have the shapes that the tracer noted: onnxsim infers fewer of them."""
    known = {value.name: value for node in original for value in node.outputs}
    for value in (value for node in graph for value in node.outputs):
        if value.name in known:
            value.shape, value.type = known[value.name].shape, known[value.name].type
