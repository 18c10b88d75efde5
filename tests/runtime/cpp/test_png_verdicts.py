"""A PNG file that is malformed is refused by both runtimes in the same words, and what harms no pixel by neither."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.golden_images import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, chunk, flipped, noise, png
from tests.runtime.cpp.context import Context
from tests.runtime.cpp.png_files import international, of_library, of_python, packed, plain

pytestmark = pytest.mark.slow
VALUES = {channels: noise(channels, (6, 7, channels), 200) for channels in (1, 2, 3, 4)}
WHOLE = png(VALUES[3], 8, RGB)
END = WHOLE[-12:]
HEAD = WHOLE[:33]
SPLIT = png(VALUES[3], 8, RGB, split=50)
ROWS = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in VALUES[3])
PACKED = zlib.compress(ROWS)
COLOURS = chunk(b"PLTE", bytes(range(9)))
XMP = b"XML:com.adobe.xmp"


def headed(depth: int = 8, colour_type: int = RGB, ways: bytes = b"\0\0\0") -> bytes:
    header = struct.pack(">IIBB", 7, 6, depth, colour_type) + ways
    return WHOLE[:8] + chunk(b"IHDR", header) + WHOLE[33:]


def of(pixels: bytes) -> bytes:
    """A file of 7x6 RGB pixels with these bytes, packed, as its pixels."""
    return HEAD + chunk(b"IDAT", pixels) + END


def coloured(*chunks: bytes) -> bytes:
    return png(VALUES[1] % 3, 8, PALETTE, *chunks)


def late(*chunks: bytes) -> bytes:
    """A file with chunks behind its pixels."""
    return WHOLE[:-12] + b"".join(chunks) + END


TRUNCATED, CHECKSUM = "it is truncated", "a checksum is wrong, so it is damaged"
DAMAGED, WRONG_SIZE = "its pixels are damaged", "its pixels are not as many as its header says"
WRONG_NAME = "the name of a chunk is not four letters, of which the third is a capital"
PALETTE_SIZE = "its palette is not 1 to 256 colours of 3 bytes"
PALETTES = "it has two palettes, or one behind its pixels"
KEY_SIZE = "its list of what is transparent has a size that does not fit its colours"
KEYS = "it has two lists of what is transparent, or one behind its pixels"
KEY_BESIDE_ALPHA = "it has a list of what is transparent beside an alpha channel"
KIND, WAY = "its header says a kind of pixels that no PNG has", "its header says a way of packing that no PNG has"
UNKNOWN = "it needs a chunk that PNG does not have"
BETWEEN = "another chunk stands between its pixels"
REFUSED = {
    "no end": (WHOLE[:-12], TRUNCATED),
    "half of the end": (WHOLE[:-4], TRUNCATED),
    "a wrong checksum of the end": (flipped(WHOLE, len(WHOLE) - 1), CHECKSUM),
    "a wrong checksum of later pixels": (flipped(SPLIT, 33 + 62 + 20), CHECKSUM),
    "a wrong checksum of a text behind the pixels": (flipped(late(plain(b"a", b"b")), -14 + len(WHOLE) + 15), CHECKSUM),
    "too few rows": (of(zlib.compress(ROWS[:-22])), WRONG_SIZE),
    "a row and a part": (of(zlib.compress(ROWS[:30])), WRONG_SIZE),
    "too many rows": (of(zlib.compress(ROWS + ROWS[:22])), WRONG_SIZE),
    "immensely many rows": (of(zlib.compress(ROWS + bytes(10**7))), WRONG_SIZE),
    "rows that are not interlaced": (headed(ways=b"\0\0\1"), WRONG_SIZE),
    "pixels without their checksum": (of(zlib.compress(ROWS)[:-4]), DAMAGED),
    "pixels with a wrong checksum": (of(zlib.compress(ROWS)[:-1] + b"\0"), DAMAGED),
    "bytes behind the pixels": (of(zlib.compress(ROWS) + b"more"), DAMAGED),
    "bytes behind the pixels in a chunk of their own": (late(chunk(b"IDAT", b"more")), DAMAGED),
    "bytes behind the pixels that end with their checksum": (of(PACKED + b"more" + PACKED[-4:]), DAMAGED),
    "the checksum of the pixels twice": (of(PACKED + PACKED[-4:]), DAMAGED),
    "bytes before the checksum of the pixels": (of(PACKED[:-4] + b"more" + PACKED[-4:]), DAMAGED),
    "the checksum of the pixels in a chunk of its own": (late(chunk(b"IDAT", PACKED[-4:])), DAMAGED),
    "pixels of nothing": (of(b""), DAMAGED),
    "grey with alpha and a key": (png(VALUES[2], 8, GREY_ALPHA, chunk(b"tRNS", b"\0\1")), KEY_BESIDE_ALPHA),
    "RGB with alpha and a key": (png(VALUES[4], 8, RGB_ALPHA, chunk(b"tRNS", bytes(6))), KEY_BESIDE_ALPHA),
    "a key of grey that is too short": (png(VALUES[1], 8, GREY, chunk(b"tRNS", b"\1")), KEY_SIZE),
    "a key of grey that is too long": (png(VALUES[1], 8, GREY, chunk(b"tRNS", b"\0\1\2")), KEY_SIZE),
    "a key of RGB that is too long": (png(VALUES[3], 8, RGB, chunk(b"tRNS", bytes(7))), KEY_SIZE),
    "more alphas than colours": (coloured(COLOURS, chunk(b"tRNS", bytes(4))), KEY_SIZE),
    "alphas before the colours": (coloured(chunk(b"tRNS", b"\0"), COLOURS), KEY_SIZE),
    "two keys": (png(VALUES[3], 8, RGB, 2 * chunk(b"tRNS", bytes(6))), KEYS),
    "a key behind the pixels": (late(chunk(b"tRNS", bytes(6))), KEYS),
    "a palette of an odd size": (coloured(chunk(b"PLTE", bytes(10))), PALETTE_SIZE),
    "a palette of nothing": (coloured(chunk(b"PLTE", b"")), PALETTE_SIZE),
    "a palette that is too large": (coloured(chunk(b"PLTE", bytes(3 * 257))), PALETTE_SIZE),
    "a suggested palette of an odd size": (png(VALUES[3], 8, RGB, chunk(b"PLTE", bytes(5))), PALETTE_SIZE),
    "two palettes": (coloured(COLOURS, COLOURS), PALETTES),
    "a palette behind the pixels": (late(COLOURS), PALETTES),
    "no palette": (coloured(), "it has no palette"),
    "an unknown chunk that is needed": (png(VALUES[3], 8, RGB, chunk(b"WHAT", b"")), UNKNOWN),
    "a chunk with a digit": (png(VALUES[3], 8, RGB, chunk(b"ab1d", b"")), WRONG_NAME),
    "a chunk with a small third letter": (late(chunk(b"prvt", b"")), WRONG_NAME),
    "a text between the pixels": (SPLIT[: 33 + 62] + plain(b"a", b"b") + SPLIT[33 + 62 :], BETWEEN),
    "two headers": (png(VALUES[3], 8, RGB, HEAD[8:]), "it has two headers"),
    "no pixels": (HEAD + END, "it has no pixels"),
    "a header that is too long": (WHOLE[:8] + chunk(b"IHDR", HEAD[16:29] + b"\0") + WHOLE[33:], "it has no header"),
    "5 bits": (headed(depth=5), KIND),
    "16 bits of a palette": (headed(depth=16, colour_type=PALETTE), KIND),
    "another compression": (headed(ways=b"\1\0\0"), WAY),
    "other filters": (headed(ways=b"\0\1\0"), WAY),
    "another interlacing": (headed(ways=b"\0\0\2"), WAY),
    "65,537 texts": (late(65537 * plain(b"a", b"")), "it has more than 65536 texts"),
    "texts of more than 64 MiB": (late(65 * packed(b"a", bytes(2**20))), "its texts unpack to more than 64 MiB"),
    "texts of more bytes than characters": (
        late(*65 * [chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress("é".encode() * 2**19))]),
        "its texts unpack to more than 64 MiB",
    ),
    "a text of more than 1 MiB": (late(packed(b"a", bytes(2**20 + 1))), "a text unpacks to more than 1 MiB"),
}  # fmt: skip


def noted(*chunks: bytes) -> bytes:
    return png(VALUES[3], 8, RGB, *chunks)


TURNED = b'<x tiff:Orientation="6"/>'
NAMES = ("interlace", "transparency", "exif", "bbox", "xmp", "gamma", "duration", "icc_profile")  # facts of Pillow's
TAKEN = {
    **{f"a cut {kind}": noted(chunk(kind.encode(), b"")) for kind in ("gAMA", "pHYs", "cHRM", "sRGB", "iCCP")},
    **{f"a cut {kind} behind the pixels": late(chunk(kind.encode(), b"")) for kind in ("gAMA", "pHYs", "cHRM", "sRGB")},
    **{f"a text by the name of {name}": noted(plain(name.encode(), b"6")) for name in NAMES},
    **{f"a text by the name of {name} behind the pixels": late(plain(name.encode(), b"")) for name in NAMES},
    "a profile packed in another way": noted(chunk(b"iCCP", b"a\0\1abc")),
    "a profile that is immense": noted(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**23)))),
    "a text packed in another way": noted(chunk(b"zTXt", b"a\0\1abc")),
    "a text without a value": noted(chunk(b"tEXt", b"interlace")),
    "a packed text that is cut": noted(chunk(b"zTXt", XMP + b"\0\0" + zlib.compress(TURNED)[:-6])),
    "a packed text with more behind it": noted(chunk(b"zTXt", XMP + b"\0\0" + zlib.compress(TURNED) + b"more")),
    "a packed text with its checksum twice": noted(
        chunk(b"zTXt", XMP + b"\0\0" + zlib.compress(TURNED) + zlib.compress(TURNED)[-4:])
    ),
    "a text that is no UTF-8": noted(international(XMP, b"\xff" + TURNED)),
    "an interlaced image with a text of that name": png(
        VALUES[3], 8, RGB, plain(b"interlace", b""), interlaced=True
    ),
    "a key with a text of that name": noted(chunk(b"tRNS", HEAD[8:10] * 3), plain(b"transparency", b"1")),
    "a key behind a text of that name": noted(
        plain(b"transparency", b"1"), chunk(b"tRNS", struct.pack(">HHH", *VALUES[3][0, 0]))
    ),
    "a palette beside RGB": noted(COLOURS),
    "a palette beside grey": png(VALUES[1], 8, GREY, COLOURS),
    "a palette with no alphas": coloured(COLOURS, chunk(b"tRNS", b"")),
    "an animation that is cut": noted(chunk(b"acTL", b"")),
    "an animation in the wrong order": noted(
        chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", struct.pack(">IIIIIHHBB", 3, 7, 6, 0, 0, 1, 1, 0, 0))
    ),
    "an animation whose first frame is a part": noted(
        chunk(b"acTL", struct.pack(">II", 1, 0)), chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 2, 2, 1, 1, 1, 1, 0, 0))
    ),
    "pixels in chunks of nothing": HEAD + chunk(b"IDAT", b"") + WHOLE[33:-12] + chunk(b"IDAT", b"") + END,
    "bytes in the end": WHOLE[:-12] + chunk(b"IEND", b"more"),
    "65,536 texts": late(65536 * plain(b"a", b"")),
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.png"


@pytest.mark.parametrize("why", REFUSED)
def test_malformed_files_are_refused_in_the_same_words(context: Context, path: Path, why: str) -> None:
    content, reason = REFUSED[why]
    path.write_bytes(content)
    expected = f"{path} is not a PNG file that can be read: {reason}"
    assert (of_python(path), of_library(context, path)) == (expected, expected)


@pytest.mark.parametrize("why", TAKEN)
def test_what_harms_no_pixel_is_taken(context: Context, path: Path, why: str) -> None:
    path.write_bytes(TAKEN[why])
    expected, found = of_python(path), of_library(context, path)
    assert not isinstance(expected, str) and not isinstance(found, str), (expected, found)
    assert np.array_equal(expected, found)
