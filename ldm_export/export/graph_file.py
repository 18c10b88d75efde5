"""The ONNX file of a component: read without its weights, written whole or not at all, checked by path."""

import re
from pathlib import Path

import onnx
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_runtime.files.atomic import atomic_file


def read_graph(path: Path) -> ir.Model:
    """Read the graph; weights stay in their data file.

    Raises:
        ExportError: the file is missing or not ONNX.
    """
    try:
        return ir.load(path)
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # protobuf's own error types are not public
        raise ExportError(f"{path} is not an ONNX file: {_first_line(error)}; export the component again") from error


def write_graph(model: ir.Model, path: Path) -> None:
    """Write the graph beside its data file and let the ONNX checker judge it; an existing file is replaced.

    Raises:
        ExportError: the graph is not valid ONNX; `path` is then left as it was.
    """
    with atomic_file(path) as temporary:
        ir.save(model, temporary)
        try:
            onnx.checker.check_model(str(temporary))
        except onnx.checker.ValidationError as error:
            raise ExportError(f"the graph for {path} is not valid ONNX: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300]
