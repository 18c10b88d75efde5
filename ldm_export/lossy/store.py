"""Stores quantised graphs: one data file for all graphs of a component, which read it beside its own weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import write_graph
from ldm_runtime.package import safetensors

Quantised = tuple[ir.Model, dict[str, np.ndarray]]  # as `quantise` returns it


def with_rest(graph: Quantised) -> Quantised:
    """Return a graph whose data are all that it reads: its own, and what it shares with others, as that is stored."""
    model, own = graph
    shared = {
        str(name): np.asarray(value.const_value.numpy())
        for name, value in model.graph.initializers.items()
        if name not in own and value.const_value is not None
    }
    bits = {name: each.view(np.uint16) if each.dtype.name == "bfloat16" else each for name, each in shared.items()}
    return model, {**own, **bits}


def store(graphs: Mapping[Path, Quantised], data: Path) -> None:
    """Write the data of all `graphs` to the file `data` and each graph to its path, all in the component's folder.

    Raises:
        ExportError: two graphs want other numbers under one name, or a graph is not valid.
    """
    arrays: dict[str, np.ndarray] = {}
    for path, (_, own) in graphs.items():
        for name, array in own.items():
            if not np.array_equal(arrays.setdefault(name, array), array):
                raise ExportError(f"{path} has other numbers in {name!r} than the graph before it; quantise both alike")
    header = safetensors.write(data, arrays, {"format": "ldm-export"})
    for path, (model, own) in graphs.items():
        _read_from(model, own, header, data)
        write_graph(model, path)


def store_data(graph: Quantised, data: Path) -> ir.Model:
    """Write the data of one graph to the file `data`, which it then reads from beside itself, and return the graph."""
    model, own = graph
    _read_from(model, own, safetensors.write(data, own, {"format": "ldm-export"}), data)
    return model


def _read_from(model: ir.Model, names: Iterable[str], header: safetensors.Header, data: Path) -> None:
    """Let a graph read initialisers from a file, in its own types and shapes: four bits are stored as bytes."""
    for name in names:
        info, weight = header.tensors[name], model.graph.initializers[name]
        assert weight.dtype is not None and weight.shape is not None
        weight.const_value = ir.ExternalTensor(
            data.name,
            info.offset,
            info.length,
            weight.dtype,
            shape=ir.Shape(weight.shape.numpy()),
            name=name,
            base_dir=data.parent,
        )
