"""Writes a component as canonical ONNX: a graph of standard operators, its weights in one safetensors file.

The graph is traced without weights; the weights then stream from the checkpoint to the file that the graph's
initialisers point into (ONNX external data, offsets into the safetensors file). It computes in float32; weights
that the checkpoint has in half precision are stored so, and a Cast widens each, which is exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.json_files import write_json
from ldm_export.checkpoint.stored import StoredTensor
from ldm_export.checkpoint.tensors import EIGHT_BITS, to_array
from ldm_export.export.graph_file import write_graph
from ldm_export.export.trace import trace
from ldm_export.precision.table import FLOATING, PRECISIONS
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import KeyEntry

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "model.safetensors"
TRANSPOSED = ".T"  # suffix of a weight that is stored transposed
ONNX_TYPES = {PRECISIONS[name].stored: ir.DataType[PRECISIONS[name].onnx] for name in FLOATING}
EXPORTER_BYTES = 900 * 2**20  # torch, its exporter and a traced graph, measured at the size of SD 1.5


@dataclass(frozen=True)
class ExportReport:
    """The files of one component; paths are relative to the package."""

    component: str
    graph: str
    weights: str
    keys: dict[str, KeyEntry]  # checkpoint parameter -> where it went
    opset: int
    ir_version: int


def export_components(
    checkpoint: Checkpoint, out: Path, *, progress: Callable[[str], None] | None = None
) -> list[ExportReport]:
    """Export all components, one after the other; where the checkpoint is a package, its hashes have been checked.

    Raises:
        CheckpointError, PackageError, ExportError: as `export_component`.
    """
    return [export_component(checkpoint, component, out, progress=progress) for component in checkpoint.specs]


def export_component(
    checkpoint: Checkpoint, component: str, out: Path, *, progress: Callable[[str], None] | None = None
) -> ExportReport:
    """Write `out/<component>/` with model.onnx, model.safetensors and config.json; `out` is a folder that is there.

    The graph holds only standard operators of opset 18. Every parameter is an initialiser under its own name
    (`.T` appended where it is stored transposed) and in the checkpoint's precision (F64 becomes F32, eight bits F16),
    every initialiser a parameter, constants Constant nodes.

    Raises:
        CheckpointError, PackageError: as `Checkpoint.load`.
        ExportError: the component cannot be expressed, or the written graph does not pass the ONNX checker.
    """
    spec = checkpoint.specs[component]
    parameters = checkpoint.load(spec.part, dtype=None).state_dict()  # first: weights that do not fit fail at once
    _say(progress, f"{component}: tracing the graph")
    graph = trace(spec, checkpoint.empty(spec.part))
    stored = _take_transposes_into_weights(graph)
    folder = out / component
    folder.mkdir(exist_ok=True)  # never `out` too: a stage that outlives its build would leave it
    _say(progress, f"{component}: writing {len(stored)} weights")
    header = _write_weights(folder / WEIGHTS_FILE, parameters, stored)
    _point_into(graph, header, folder)
    _say(progress, f"{component}: checking the graph")
    write_graph(graph, folder / GRAPH_FILE)
    _write_config(folder / "config.json", checkpoint, spec.part)
    tensors = checkpoint.tensors[spec.part]
    return ExportReport(
        component=component,
        graph=f"{component}/{GRAPH_FILE}",
        weights=f"{component}/{WEIGHTS_FILE}",
        keys={key: KeyEntry(name, None if name == key else (1, 0), tensors[key].dtype) for name, key in stored.items()},
        opset=graph.opset_imports[""],
        ir_version=graph.ir_version,
    )


def estimate_memory(checkpoint: Checkpoint, component: str) -> int:
    """Estimate the bytes that `export_component` will hold at its peak, from the weights' headers alone.

    torch, the exporter and the graph take a fixed part. Of the weights one at a time is copied, but pages of
    the mapped checkpoint stay until the system wants them back, so all count; twice those that are copied as they
    are read: F64, and what a package holds transposed. Eight-bit floats are copied at twice their size.
    """
    tensors = checkpoint.tensors[checkpoint.specs[component].part].values()
    copied = sum(_bytes(tensor) for tensor in tensors if tensor.dtype == "F64" or tensor.transpose is not None)
    copied += sum(2 * _bytes(tensor) for tensor in tensors if tensor.dtype in EIGHT_BITS)
    return EXPORTER_BYTES + sum(map(_bytes, tensors)) + copied + max(map(_bytes, tensors))


def _bytes(tensor: StoredTensor) -> int:
    return tensor.count * safetensors.DTYPES[tensor.dtype].itemsize


def _take_transposes_into_weights(model: ir.Model) -> dict[str, str]:
    """Replace `Transpose(weight)` by a weight that is stored transposed; unused parameters leave the graph.

    A weight that is also used as it is keeps its Transpose node: no weight is stored twice.
    Returns initialiser name -> parameter name.
    """
    graph = model.graph
    stored = {}
    for key, weight in list(graph.initializers.items()):
        users = list(weight.consumers())
        if not users:
            del graph.initializers[key]
            continue
        stored[key] = key
        if all(_swaps_axes(node) for node in users):
            del stored[key]
            stored[key + TRANSPOSED] = key
            _replace_transposes(graph, weight, users)
    return stored


def _swaps_axes(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and tuple(node.attributes["perm"].as_ints()) == (1, 0)


def _replace_transposes(graph: ir.Graph, weight: ir.Value, transposes: list[ir.Node]) -> None:
    assert weight.name is not None and weight.shape is not None and weight.dtype is not None
    turned = ir.Value(
        name=weight.name + TRANSPOSED, type=ir.TensorType(weight.dtype), shape=ir.Shape(weight.shape[::-1])
    )
    for node in transposes:
        ir.convenience.replace_all_uses_with(node.outputs[0], turned)
        graph.remove(node, safe=True)
    del graph.initializers[weight.name]
    graph.initializers[weight.name + TRANSPOSED] = turned


def _write_weights(path: Path, parameters: Mapping[str, torch.Tensor], stored: Mapping[str, str]) -> safetensors.Header:
    """Stream the parameters to one file; what needs no conversion is never in memory as a whole."""
    arrays = {}
    for name, key in stored.items():
        value = parameters[key]
        array = to_array(value.float() if value.dtype == torch.float64 else value)
        arrays[name] = array if name == key else array.T
    return safetensors.write(path, arrays, {"format": "ldm-export"})


def _point_into(model: ir.Model, header: safetensors.Header, folder: Path) -> None:
    """Make every initialiser external data at its place in the weights file, of the type that it has there."""
    casts = []
    for name, weight in model.graph.initializers.items():
        info = header.tensors[name]
        assert weight.shape is not None and tuple(weight.shape) == info.shape
        dtype = ONNX_TYPES[info.dtype]
        if dtype != weight.dtype:
            casts.append(_widen(weight, dtype))
        weight.const_value = ir.ExternalTensor(
            WEIGHTS_FILE,
            info.offset,
            info.length,
            dtype,
            shape=ir.Shape(info.shape),
            name=name,
            base_dir=folder,
        )
    # First in the file: ONNX Runtime then runs each that it does not fold right before its reader, and holds few
    # wide weights at a time (0.4 GB in the UNet of SD 1.5; 2 GB if each stood before its reader).
    model.graph.insert_before(model.graph[0], casts)


def _widen(weight: ir.Value, dtype: ir.DataType) -> ir.Node:
    """Let `weight` be stored as `dtype`; what read it reads a Cast of it to float32."""
    wide = ir.Value(name=f"{weight.name}/wide", type=weight.type, shape=weight.shape)
    ir.convenience.replace_all_uses_with(weight, wide)
    weight.type = ir.TensorType(dtype)
    return ir.node("Cast", [weight], {"to": ir.DataType.FLOAT}, outputs=[wide], name=f"{weight.name}/Cast")


def _write_config(path: Path, checkpoint: Checkpoint, part: str) -> None:
    """Write a part's config as diffusers and transformers do."""
    write_json(path, checkpoint.configs[part].to_dict())


def _say(progress: Callable[[str], None] | None, text: str) -> None:
    if progress is not None:
        progress(text)
