"""What the specification wants of a PNG file's header, and which chunks follow it, where and of what size."""

import re
from dataclasses import dataclass

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6

_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_NAME = re.compile(rb"[A-Za-z]{2}[A-Z][A-Za-z]")
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


@dataclass(frozen=True)
class Header:
    """What IHDR says. depth: bits of a sample."""

    width: int
    height: int
    depth: int
    colour_type: int
    is_interlaced: bool

    @classmethod
    def of(cls, content: bytes) -> "Header":
        """Read IHDR. Raises ValueError: what is wrong with it."""
        if len(content) != 13:
            raise ValueError("it has no header")
        depth, colour_type, compression, filters, interlacing = content[8:]
        if depth not in _DEPTHS.get(colour_type, ()):
            raise ValueError("its header says a kind of pixels that no PNG has")
        if compression != 0 or filters != 0 or interlacing > 1:
            raise ValueError("its header says a way of packing that no PNG has")
        width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
        return cls(width, height, depth, colour_type, interlacing == 1)

    @property
    def packed_bytes(self) -> int:
        """The bytes of all rows, each behind the number of its filter; interlaced, of the rows of seven passes."""
        bits = self.depth * _CHANNELS[self.colour_type]
        passes = _ADAM7 if self.is_interlaced else ((0, 0, 1, 1),)
        sizes = [((self.width - x + dx - 1) // dx, (self.height - y + dy - 1) // dy) for x, y, dx, dy in passes]
        return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


class Order:
    """The chunks behind a header, one after the other."""

    def __init__(self, header: Header) -> None:
        self._type = header.colour_type
        self._colours = 0
        self._has_transparency = self._has_pixels = self._is_behind_pixels = False

    def check(self, kind: bytes, size: int) -> None:
        """Look at the next chunk. Raises ValueError: what is wrong with it."""
        if not _NAME.fullmatch(kind):
            raise ValueError("the name of a chunk is not four letters, of which the third is a capital")
        if kind[:1].isupper() and kind not in _CRITICAL:
            raise ValueError("it needs a chunk that PNG does not have")
        self._is_behind_pixels |= self._has_pixels and kind != b"IDAT"
        if kind == b"IHDR":
            raise ValueError("it has two headers")
        if kind == b"PLTE":
            self._check_palette(size)
        elif kind == b"tRNS":
            self._check_transparency(size)
        elif kind == b"IDAT":
            self._check_pixels()
        elif kind == b"IEND" and not self._has_pixels:
            raise ValueError("it has no pixels")

    def _check_palette(self, size: int) -> None:
        if self._colours or self._has_pixels:
            raise ValueError("it has two palettes, or one behind its pixels")
        if size % 3 != 0 or not 3 <= size <= 3 * 256:
            raise ValueError("its palette is not 1 to 256 colours of 3 bytes")
        self._colours = size // 3

    def _check_transparency(self, size: int) -> None:
        if self._has_transparency or self._has_pixels:
            raise ValueError("it has two lists of what is transparent, or one behind its pixels")
        if self._type in (GREY_ALPHA, RGB_ALPHA):
            raise ValueError("it has a list of what is transparent beside an alpha channel")
        fits = size <= self._colours if self._type == PALETTE else size == (2 if self._type == GREY else 6)
        if not fits:
            raise ValueError("its list of what is transparent has a size that does not fit its colours")
        self._has_transparency = True

    def _check_pixels(self) -> None:
        if self._is_behind_pixels:
            raise ValueError("another chunk stands between its pixels")
        if self._type == PALETTE and not self._colours:
            raise ValueError("it has no palette")
        self._has_pixels = True
