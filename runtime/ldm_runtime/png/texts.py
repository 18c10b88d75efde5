"""The texts of a PNG file, unpacked within bounds; of those by which an image is turned, chunks for Pillow."""

import zlib
from typing import NamedTuple

KINDS = (b"tEXt", b"zTXt", b"iTXt")

_TURNING = (b"Raw profile type exif", b"XML:com.adobe.xmp")
_MAX_COUNT = 2**16  # of a file: each takes time to unpack, however small it is
_MAX_BYTES = 2**20  # of one that is packed, as Pillow allows
_MAX_BYTES_TOGETHER = 2**26  # of a file, as Pillow allows


class Text(NamedTuple):
    """A text chunk: Latin-1 of tEXt and zTXt, UTF-8 of iTXt."""

    kind: bytes
    key: bytes
    value: bytes
    is_packed: bool


def read_text(kind: bytes, content: bytes) -> Text | None:
    """Read a text chunk; None: it is none, or malformed, which is no reason to refuse an image."""
    key, nul, rest = content.partition(b"\0")
    if not (key and nul) or kind not in KINDS:
        return None
    if kind == b"tEXt":
        return Text(kind, key, rest, is_packed=False)
    if kind == b"zTXt":
        return Text(kind, key, rest[1:], is_packed=True) if rest[:1] == b"\0" else None
    method, parts = rest[:2], rest[2:].split(b"\0", 2)
    is_packed = method[:1] != b"\0"
    if len(method) < 2 or len(parts) < 3 or (is_packed and method[1] != 0):
        return None
    return Text(kind, key, parts[2], is_packed)


class Texts:
    """Unpacks the texts of a file one after the other."""

    def __init__(self) -> None:
        self._count = self._bytes = 0

    def turning(self, kind: bytes, content: bytes) -> bytes:
        """Return a chunk that says to Pillow what a text says of how an image lies; empty where it says nothing.

        Raises ValueError for a text that is too large, and for too many.
        """
        text = read_text(kind, content)
        if text is None:
            return b""
        value = self._unpacked(text)
        if text.key not in _TURNING or (value is None and kind == b"iTXt"):
            return b""
        if kind == b"iTXt":
            return _chunk(b"iTXt", text.key + b"\0\0\0\0\0" + (value or b"").decode(errors="replace").encode())
        return _chunk(b"tEXt", text.key + b"\0" + (value or b""))  # a damaged zTXt is an empty text, as in Pillow

    def _unpacked(self, text: Text) -> bytes | None:
        """Return the value; None: it is damaged."""
        self._count += 1
        if self._count > _MAX_COUNT:
            raise ValueError(f"it has more than {_MAX_COUNT} texts")
        value = _unpack(text.value) if text.is_packed else text.value
        self._bytes += len(value or b"")
        if self._bytes > _MAX_BYTES_TOGETHER:
            raise ValueError("its texts unpack to more than 64 MiB")
        return value


def _unpack(packed: bytes) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        value = inflater.decompress(packed, _MAX_BYTES + 1)
    except zlib.error:
        return None
    if len(value) > _MAX_BYTES:
        raise ValueError("a text unpacks to more than 1 MiB")
    return value if inflater.eof and not inflater.unused_data else None


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
