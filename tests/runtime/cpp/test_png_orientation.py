"""How a PNG lies is read in the same way by both runtimes, wherever the file says it."""

from pathlib import Path

import numpy as np
import pytest

from tests.golden_images import RGB, chunk, png
from tests.runtime.cpp.context import Context
from tests.runtime.cpp.png_files import international, of_library, of_python, packed, plain

pytestmark = pytest.mark.slow
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0%c\0\0\0\0\0\0"
MARK = b"Exif\0\0"
XMP, PROFILE = b"XML:com.adobe.xmp", b"Raw profile type exif"
PACKET = b'<x tiff:Orientation="%d"/>'


def profile(digits: bytes) -> bytes:
    return b"\nexif\n      32\n" + digits


DIGITS = (MARK + EXIF % 6).hex().encode()
CHUNKS = {
    "EXIF behind JPEG's mark": chunk(b"eXIf", MARK + EXIF % 6),
    "EXIF behind two marks": chunk(b"eXIf", 2 * MARK + EXIF % 6),
    "a profile": plain(PROFILE, profile(DIGITS)),
    "a packed profile": packed(PROFILE, profile(DIGITS.upper())),
    "an international profile": international(PROFILE, profile(DIGITS)),
    "a profile in lines that part digits": plain(PROFILE, profile(DIGITS[:31] + b"\n" + DIGITS[31:] + b"\n")),
    "a profile with a space between bytes": plain(PROFILE, profile(DIGITS[:32] + b" \t" + DIGITS[32:])),
    "a profile with a space within a byte": plain(PROFILE, profile(DIGITS[:31] + b" " + DIGITS[31:])),
    "a profile of an odd number of digits": plain(PROFILE, profile(DIGITS + b"0")),
    "a profile of other letters": plain(PROFILE, profile(DIGITS + b"\xe9")),
    "a profile without a mark": plain(PROFILE, profile(DIGITS[12:])),
    "a profile of nothing": plain(PROFILE, profile(b"")),
    "a profile of too few lines": plain(PROFILE, b"\n" + DIGITS),
    "a profile that is no TIFF": plain(PROFILE, profile(b"00" * 12)),
    "a damaged profile beside EXIF": plain(PROFILE, b"\n\n\nzz") + chunk(b"eXIf", EXIF % 3),
    "a profile beside EXIF of nothing": plain(PROFILE, profile(DIGITS)) + chunk(b"eXIf", b""),
    "XMP as a plain text": plain(XMP, PACKET % 5),
    "XMP as a packed text": packed(XMP, PACKET % 5),
    "XMP of an empty text": international(XMP, PACKET % 5) + plain(XMP, b""),
    "XMP of two texts": international(XMP, PACKET % 5) + plain(XMP, PACKET % 3),
    "a text by the name of EXIF": international(b"exif", b"6"),
    "a text by the name of XMP beside XMP": international(XMP, PACKET % 6) + international(b"xmp", b"6"),
    "a profile beside XMP": plain(PROFILE, profile(DIGITS)) + international(XMP, PACKET % 2),
}


REFUSED = {
    "EXIF behind two marks",
    "a profile with a space within a byte",
    "a profile of an odd number of digits",
    "a profile of other letters",
    "a profile that is no TIFF",
}


@pytest.mark.parametrize("name", CHUNKS)
def test_images_lie_as_in_python(context: Context, tmp_path: Path, name: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(np.arange(45, dtype=np.uint8).reshape(5, 3, 3), 8, RGB, CHUNKS[name]))
    expected, found = of_python(path), of_library(context, path)
    assert isinstance(expected, str) is isinstance(found, str) is (name in REFUSED)
    assert name in REFUSED or np.array_equal(expected, found)
