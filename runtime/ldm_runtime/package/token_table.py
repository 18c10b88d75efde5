"""The tokens that a text encoder knows: the rows of the table in its ONNX graph that token ids index.

Field numbers: onnx.proto3 of ONNX 1.18.
"""

from collections.abc import Sequence

from ldm_runtime.errors import FormatError
from ldm_runtime.package.protobuf import BYTES, NUMBER, Malformed, fields, varint

_GRAPH, _NODE, _INITIALISER = 7, 1, 5
_SAME_IDS = (b"Cast", b"Identity", b"Reshape")  # operators whose output holds the ids of their first input
_SAME_ROWS = (b"Cast", b"Identity", b"DequantizeLinear")
_MOST_NAMES = 8  # of the ids in a graph
_MOST_TABLES = 8  # that they index

Span = tuple[int, int]  # first byte and end of a message


def known_tokens(content: bytes, ids: str, where: str) -> int | None:
    """Return how many tokens a graph knows whose input `ids` are token ids; None where it does not say that plainly.

    content: of its file, which `where` names. Raises FormatError for a file that is not ONNX.
    """
    try:
        parts = [
            part
            for number, first, last in fields(content, 0, len(content))
            if number == _GRAPH
            for part in fields(content, first, last)
        ]
        nodes = [(first, last) for number, first, last in parts if number == _NODE]
        tables = {_origin(content, nodes, table) for table in _tables(content, nodes, ids.encode())}
        found = [
            (first, last)
            for number, first, last in parts
            if number == _INITIALISER and any(content.find(table, first, last) >= 0 for table in tables)
        ]
        rows = [_rows(content, span) for span in found if tables & set(_texts(content, span, 8))]
    except Malformed as error:
        raise FormatError(where, f"is not an ONNX file ({error})", "graph.format") from None
    return min((count for count in rows if count is not None), default=None)


def _tables(content: bytes, nodes: Sequence[Span], ids: bytes) -> list[bytes]:
    """Return the names of the tensors that the ids index, by themselves or as another type.

    None where there are too many to say anything plainly.
    """
    names, tables = {ids}, dict[bytes, None]()
    for first, last in nodes:
        if len(names) > _MOST_NAMES or all(content.find(name, first, last) < 0 for name in names):
            continue
        operator, inputs, outputs = _node(content, (first, last))
        if operator == b"Gather" and inputs[1:] and inputs[1] in names:
            if len(tables) <= _MOST_TABLES:
                tables[inputs[0]] = None
        elif operator in _SAME_IDS and inputs[:1] and inputs[0] in names:
            names |= set(outputs[:1])
    return [] if len(tables) > _MOST_TABLES else list(tables)


def _origin(content: bytes, nodes: Sequence[Span], table: bytes) -> bytes:
    """Return the initialiser that a table is, or is cast from."""
    for first, last in reversed(nodes):
        if content.find(table, first, last) < 0:
            continue
        operator, inputs, outputs = _node(content, (first, last))
        if operator in _SAME_ROWS and outputs[:1] == [table] and inputs:
            table = inputs[0]
    return table


def _node(content: bytes, span: Span) -> tuple[bytes, list[bytes], list[bytes]]:
    """Return the operator, inputs and outputs of a node."""
    operator = _texts(content, span, 4)
    return operator[-1] if operator else b"", _texts(content, span, 1), _texts(content, span, 2)


def _texts(content: bytes, span: Span, field: int) -> list[bytes]:
    return [content[first:last] for number, first, last in fields(content, *span) if number == field]


def _rows(content: bytes, span: Span) -> int | None:
    """Return the first dimension of a tensor; writers pack dimensions or give each a field of its own."""
    for kind in (NUMBER, BYTES):
        for number, first, last in fields(content, *span, kind):
            if number == 1:
                return varint(content, first, last)[0]
    return None
