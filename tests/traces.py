"""Graphs that were traced before: of all that an export does, tracing takes nearly all the time."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import onnx_ir as ir
from torch import nn

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.export import to_onnx
from ldm_export.families.spec import ComponentSpec

NO_DATA = "none"  # the weights' file of a kept graph: a trace has no data


@contextmanager
def remembered(folder: Path, checkpoint: Checkpoint) -> Iterator[None]:
    """Let `export_component` trace what is not yet in `folder`, and load the rest from there.

    A trace depends on the spec and the model's config alone: it sees no weight, nor a weight's precision.
    """
    trace = to_onnx.trace

    def trace_once(spec: ComponentSpec, model: nn.Module) -> ir.Model:
        about = (spec.name, spec.inputs, spec.outputs, spec.axes, spec.multiples, checkpoint.configs[spec.part])
        file = folder / f"{hashlib.sha256(repr(about).encode()).hexdigest()}.onnx"
        if file.exists():
            return _without_data(ir.load(file))
        return _keep(trace(spec, model), file)

    folder.mkdir(exist_ok=True)
    with mock.patch.object(to_onnx, "trace", trace_once):
        yield


def _keep(model: ir.Model, file: Path) -> ir.Model:
    for name, weight in model.graph.initializers.items():
        assert weight.dtype is not None and isinstance(weight.shape, ir.Shape)
        weight.const_value = ir.ExternalTensor(NO_DATA, 0, 0, weight.dtype, shape=weight.shape, name=name)
    partial = file.with_suffix(f".{os.getpid()}")
    ir.save(model, partial, format="protobuf")
    partial.replace(file)
    return _without_data(model)


def _without_data(model: ir.Model) -> ir.Model:
    for weight in model.graph.initializers.values():
        weight.const_value = None
    return model
