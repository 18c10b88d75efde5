"""Stores quantised graphs: one data file for all graphs of a component, which read it beside its own weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import write_graph
from ldm_runtime.package import safetensors

Quantised = tuple[ir.Model, dict[str, np.ndarray]]  # as `quantise` returns it


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
        for name in own:
            info = header.tensors[name]
            weight = model.graph.initializers[name]
            assert weight.dtype is not None
            weight.const_value = ir.ExternalTensor(
                data.name,
                info.offset,
                info.length,
                weight.dtype,
                shape=ir.Shape(info.shape),
                name=name,
                base_dir=data.parent,
            )
        write_graph(model, path)
