"""The chunks of a PNG file, each with the right checksum, from IHDR to IEND, and those of them that its pixels need."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ldm_runtime.errors import InputError
from ldm_runtime.image_size import check_size
from ldm_runtime.png.rules import Header, Order
from ldm_runtime.png.texts import KINDS, Texts

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_AROUND = 12  # bytes of a chunk's length, kind and checksum
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
_PIECE = 2**16  # bytes that are unpacked at a time, which become a thousand times as many at most
_DAMAGED, _WRONG_SIZE = "its pixels are damaged", "its pixels are not as many as its header says"


class _Chunk(NamedTuple):
    """A chunk of a file: its kind, its content, and both with length and checksum around them."""

    kind: bytes
    content: memoryview
    whole: memoryview


def without_notes(content: bytes, what: str) -> bytes:
    """Return a PNG file with those chunks alone that say what its pixels are and how they lie. what: for an error.

    Raises InputError for a file that is not whole, is malformed in one of these chunks, or is too large.
    """
    try:
        return b"".join(_needed(memoryview(content), what))
    except ValueError as error:
        raise InputError(f"{what} is not a PNG file that can be read: {error}", code="request.image") from None


def _needed(content: memoryview, what: str) -> Iterator[bytes | memoryview]:
    chunks = _chunks(content)
    first = next(chunks)
    header = Header.of(bytes(first.content) if first.kind == b"IHDR" else b"")
    check_size(header.width, header.height, what)
    yield from (SIGNATURE, first.whole)
    order, texts, pixels = Order(header), Texts(), _Pixels(header.packed_bytes)
    for chunk in chunks:
        order.check(chunk.kind, len(chunk.content))
        if chunk.kind == b"IDAT":
            pixels.add(chunk.content)
        if chunk.kind in _NEEDED:
            yield chunk.whole
        elif chunk.kind in KINDS:
            yield texts.turning(chunk.kind, bytes(chunk.content))
    pixels.end()


def _chunks(content: memoryview) -> Iterator[_Chunk]:
    """Walk to IEND; what follows it is not looked at. Raises ValueError."""
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        left = len(content) - at - _AROUND
        length = int.from_bytes(content[at : at + 4], "big")
        if left < 0 or length > left:
            raise ValueError("it is truncated")
        end = at + 8 + length
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError("a checksum is wrong, so it is damaged")
        kind = bytes(content[at + 4 : at + 8])
        yield _Chunk(kind, content[at + 8 : end], content[at : end + 4])
        at = end + 4


class _Pixels:
    """Unpacks pixels piece by piece, without keeping them, to learn whether they are whole."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._inflater = zlib.decompressobj()

    def add(self, packed: memoryview) -> None:
        """Unpack what comes next. Raises ValueError: it is damaged, or too much."""
        for start in range(0, len(packed), _PIECE):
            try:
                self._left -= len(self._inflater.decompress(packed[start : start + _PIECE], self._left + 1))
            except zlib.error:
                raise ValueError(_DAMAGED) from None
            if self._left < 0:
                raise ValueError(_WRONG_SIZE)
            if self._inflater.unused_data:
                raise ValueError(_DAMAGED)

    def end(self) -> None:
        """Raise ValueError unless the pixels ended, and are as many as they should be."""
        if not self._inflater.eof:
            raise ValueError(_DAMAGED)
        if self._left != 0:
            raise ValueError(_WRONG_SIZE)
