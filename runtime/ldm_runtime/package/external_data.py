"""The places of an ONNX file's external data, read from its protobuf encoding without the onnx package.

An engine opens whatever file an `external_data` entry names, so the entries are looked at first. Field
numbers: onnx.proto3 of ONNX 1.18.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError, unreadable
from ldm_runtime.package.protobuf import Malformed, fields

MAX_GRAPH_BYTES = 2**28  # a graph without its weights; Stable Diffusion 1.5's UNet has 0.7 MB

_KEY = b"location"
_ENTRY = "StringStringEntryProto"
# message -> {field number: message}, as far as a TensorProto can be inside
_MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: _ENTRY},
}


def read_graph(graph: Path, data: Sequence[str]) -> bytes:
    """Read an ONNX file; raise FormatError unless every external tensor is in one of the files `data` beside it."""
    try:
        size = graph.stat().st_size
        content = graph.read_bytes() if size <= MAX_GRAPH_BYTES else b""
    except OSError as error:
        raise unreadable(graph, error) from error
    if size > MAX_GRAPH_BYTES:
        what = (
            f"has {size} bytes, more than the {MAX_GRAPH_BYTES} of a graph without weights; expected those in {data[0]}"
        )
        raise FormatError(str(graph), what, "file.too-large")
    try:
        locations = set(_locations(content))
    except (Malformed, RecursionError) as error:
        raise FormatError(str(graph), f"is not an ONNX file ({error})", "graph.format") from None
    for location in sorted(locations - {name.encode() for name in data}):
        found, known = location.decode(errors="replace"), " or ".join(map(shown, data))
        what = f"keeps data in {shown(found)}, expected only {known} in the same folder"
        raise FormatError(str(graph), what, "graph.external-data")
    return content


def _locations(content: bytes) -> Iterator[bytes]:
    """Yield the value of every external_data entry whose key is "location"."""
    yield from _walk(content, 0, len(content), "ModelProto")


def _walk(content: bytes, start: int, end: int, message: str) -> Iterator[bytes]:
    if message == _ENTRY:
        # a field given twice: the last one counts, as in every protobuf parser
        entry = {number: content[first:last] for number, first, last in fields(content, start, end)}
        if entry.get(1) == _KEY:
            yield entry.get(2, b"")
        return
    children = _MESSAGES[message]
    for number, first, last in fields(content, start, end):
        # most parts of a graph, and all its nodes, cannot hold an entry: its key would be among their bytes
        if number in children and content.find(_KEY, first, last) >= 0:
            yield from _walk(content, first, last, children[number])
