"""Image files as no library writes them, and what reading them gives."""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image

from ldm_runtime.image import open_image
from ldm_runtime.image_modes import settled


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(colour_type: int, depth: int, row: bytes, *chunks: bytes, size: tuple[int, int] = (4, 2)) -> bytes:
    """A PNG of 4x2 pixels with two equal rows, as no library writes it; or one that claims to have another size."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * 2)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    )


def tiff(bits: int, sample_format: int, photometric: int, pixels: bytes, order: str = "<") -> bytes:
    """A grey TIFF of 2x2 pixels."""
    tags = {256: 2, 257: 2, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 2, 279: len(pixels)}
    tags |= {339: sample_format}
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack(order + "HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags.items()
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + entries + struct.pack(order + "I", 0) + pixels


def read(content: bytes, folder: Path, name: str = "picture") -> Image.Image:
    (folder / name).write_bytes(content)
    return open_image(folder / name)


def both(content: bytes, folder: Path) -> Image.Image:
    """What a file means, which is the same for the CLI and for who opens it with PIL, decoded already or not."""
    picture = read(content, folder)
    for load in (False, True):
        with Image.open(io.BytesIO(content)) as opened:
            if load:
                opened.load()
            given = settled(opened)
        assert given.mode == picture.mode and given.tobytes() == picture.tobytes()
    return picture
