"""A torch module to an ONNX graph without weights: traced on meta tensors, which take no memory."""

import ast
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ShapeInferencePass
from torch import nn

from ldm_export.errors import ExportError
from ldm_export.export.translations import TRANSLATIONS
from ldm_export.families.graphs import PREFIX
from ldm_export.families.spec import ComponentSpec

OPSET = 18
IR_VERSION = 10


def trace(spec: ComponentSpec, model: nn.Module) -> ir.Model:
    """Trace the graph of a component; `model` has its parameters on the meta device.

    Every axis of the spec is dynamic. Initialisers have the parameters' own names and shapes, but no data;
    all values carry their shapes; nodes are named after the module that they come from.

    Raises:
        ExportError: the model cannot be traced, or fixes a size that the spec leaves free.
    """
    arguments = tuple(
        torch.zeros(spec.shape(tensor, spec.traced), dtype=getattr(torch, tensor.dtype), device="meta")
        for tensor in spec.inputs
    )
    try:
        with _quiet():
            program = torch.onnx.export(
                spec.wrap(model),
                arguments,
                dynamo=True,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=[tensor.name for tensor in spec.outputs],
                dynamic_shapes=_dynamic_shapes(spec),
                custom_translation_table=TRANSLATIONS,
                optimize=False,  # done on the file, by passes that are listed and tested one by one
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"{spec.name} cannot be traced: {_root(error)}") from error
    assert program is not None
    traced = program.model
    traced.ir_version = IR_VERSION  # whatever the exporter's default is: opset 18 needs no newer one
    _name_after_modules(traced)
    _drop_traces(traced)
    _complete_types(traced)
    _declare_signature(traced, spec)
    return traced


def _root(error: BaseException) -> str:
    """Return the first cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:400]


def _dynamic_shapes(spec: ComponentSpec) -> dict[str, dict[int, Any]]:
    names = {dim for tensor in spec.inputs for dim in tensor.dims if isinstance(dim, str)}
    axes = {}
    for name in names:
        minimum, maximum = spec.size_range(name)
        axes[name] = torch.export.Dim(name, min=minimum, max=maximum)
    return {
        tensor.name: {i: axes[dim] for i, dim in enumerate(tensor.dims) if isinstance(dim, str)}
        for tensor in spec.inputs
    }


def _name_after_modules(model: ir.Model) -> None:
    """Name parameters as the checkpoint does, and nodes after the innermost module and their operator."""
    for value in list(model.graph.initializers.values()):
        assert value.name is not None and value.const_value is not None
        value.name = value.name.removeprefix(PREFIX)
        value.type, value.shape = (
            ir.TensorType(value.const_value.dtype),
            ir.Shape(value.const_value.shape.numpy()),
        )
        value.const_value = None  # a tensor without data
    counts: dict[str, int] = {}
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        # The last scope is the operator; what belongs to no module inside `model` is named after the whole.
        inside = len(scopes) > 1 and scopes[-2].startswith(PREFIX)
        name = f"{scopes[-2].removeprefix(PREFIX) if inside else 'graph'}/{node.op_type}"
        counts[name] = counts.get(name, 0) + 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"


def _drop_traces(model: ir.Model) -> None:
    """Remove what the exporter notes about this machine: stack traces with paths."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.producer_name, model.producer_version, model.doc_string = "ldm-export", None, None
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()


def _complete_types(model: ir.Model) -> None:
    """Add types and shapes to values inside a translated operator, which the exporter leaves bare."""
    values = [value for node in model.graph for value in node.outputs]
    known = {dim for value in [*model.graph.inputs, *values] for dim in value.shape or () if not _fixed(dim)}
    noted = {id(value): value.shape for value in values}
    ShapeInferencePass(strict_mode=False)(model)
    for value in values:
        if noted[id(value)] is not None:
            value.shape = noted[id(value)]
        elif not all(_fixed(dim) or dim in known for dim in value.shape or ()):
            value.shape = None  # a size that inference made up a name for


def _fixed(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, int)


def _declare_signature(model: ir.Model, spec: ComponentSpec) -> None:
    """Give inputs and outputs the spec's axis names, after checking that the trace agrees."""
    values = [*model.graph.inputs, *model.graph.outputs]
    for value, tensor in zip(values, [*spec.inputs, *spec.outputs], strict=True):
        assert value.shape is not None
        got = value.name, value.dtype, [dim if isinstance(dim, int) else None for dim in value.shape]
        dtype = ir.DataType.from_numpy(np.dtype(tensor.dtype))
        if got != (tensor.name, dtype, [dim if isinstance(dim, int) else None for dim in tensor.dims]):
            raise ExportError(
                f"{spec.name} was traced with {value.name} {value.dtype} {list(value.shape)}, expected "
                f"{tensor.name} {tensor.dtype} {list(tensor.dims)}; the model fixes a size that must be free"
            )
        value.shape = ir.Shape(tensor.dims)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about other people's packages and deprecated calls of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
