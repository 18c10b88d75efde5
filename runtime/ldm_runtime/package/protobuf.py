"""Fields of a protobuf message, read without its schema: https://protobuf.dev/programming-guides/encoding."""

from collections.abc import Iterator

NUMBER, BYTES = 0, 2  # wire types: a varint; bytes, texts and messages


class Malformed(Exception):
    """Bytes that are not protobuf."""


def fields(content: bytes, start: int, end: int, kind: int = BYTES) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, first byte, end) of every field of a wire type; skip the others."""
    place = start
    while place < end:
        tag, place = varint(content, place, end)
        found, first = tag & 7, place
        if found == NUMBER:
            _, place = varint(content, place, end)
        elif found == 1:
            place += 8
        elif found == BYTES:
            length, first = varint(content, place, end)
            place = first + length
        elif found == 5:
            place += 4
        else:
            raise Malformed(f"wire type {found} before byte {place}")
        if place > end:
            raise Malformed(f"a field ends at byte {place}, its message at {end}")
        if found == kind:
            yield tag >> 3, first, place


def varint(content: bytes, place: int, end: int) -> tuple[int, int]:
    """Read a number: (value, place after it)."""
    value = shift = 0
    while place < end and shift < 70:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
    raise Malformed(f"a number that does not end at byte {place}")
