"""Pictures of every format that is accepted, and of some that are not, cut, flipped and spliced."""

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from ldm_runtime.image import from_images, open_image
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import INTEGERS, mutate_bytes

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    # not pictures that we would be given, but files that look like it
    "ICO": ("RGBA",),
    "TGA": ("RGB",),
    "PPM": ("L", "RGB"),
    "DDS": ("RGBA",),
    "PCX": ("L",),
    "JPEG2000": ("RGB",),
    "AVIF": ("RGB",),
}
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", "", ".eps", ".avif")


def encoded(mode: str, form: str, **options: object) -> bytes:
    """A ramp of 12x10 pixels."""
    ramp = np.linspace(0, 255, 120).reshape(10, 12)
    if mode == "I;16":
        image = Image.fromarray((ramp * 257).astype(np.uint16))
    elif mode in ("I", "F"):
        image = Image.fromarray(ramp.astype(np.int32 if mode == "I" else np.float32))
    else:
        image = Image.fromarray(ramp.astype(np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _prepare(folder: Path) -> list[bytes]:
    Image.init()
    seeds = []
    for form, modes in MODES.items():
        if form in Image.SAVE:
            seeds += [encoded(mode, form) for mode in modes]
    exif = Image.Exif()
    exif[0x0112] = 6
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        out = io.BytesIO()
        pages[0].save(out, form, save_all=True, append_images=pages[1:])
        seeds.append(out.getvalue())
    seeds += [encoded("RGB", "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    seeds += [encoded("RGB", form, exif=exif.tobytes()) for form in ("PNG", "JPEG", "WEBP", "TIFF")]
    seeds += [encoded("RGB", "JPEG", progressive=True), encoded("RGBA", "WEBP", lossless=True)]
    seeds += [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"BLP2" + bytes(200), b"8BPS" + bytes(60)]
    return seeds


def _make(random: Random, seeds: list[bytes]) -> bytes:
    """The first byte chooses the file's ending; chunks of PNG files get right checksums again most of the time."""
    content = random.choice(seeds)
    if content.startswith(b"\x89PNG") and random.random() < 0.6:
        content = _changed_chunks(random, content)
    else:
        content = mutate_bytes(random, content, seeds)
    return bytes([random.randrange(len(ENDINGS))]) + content


def _changed_chunks(random: Random, content: bytes) -> bytes:
    chunks = _chunks(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(chunks))
        name, body = chunks[place]
        way = random.randrange(5)
        if way == 0 and name == b"IHDR":
            sizes = [random.choice(INTEGERS) for _ in range(2)]
            body = struct.pack(">II", *sizes) + bytes(random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5))
        elif way == 1:
            chunks.insert(random.randrange(len(chunks) + 1), chunks[place])
        elif way == 2 and len(chunks) > 1:
            del chunks[place]
            continue
        else:
            body = mutate_bytes(random, body)
        chunks[place] = (name, body)
    return png_file(chunks)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    place, found = 8, []
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png_file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of (name, body), with right lengths and checksums."""
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read_picture(content: bytes, prepared: object) -> None:
    file = Path(f"input{ENDINGS[content[0] % len(ENDINGS)] if content else ''}")
    file.write_bytes(content[1:])
    try:
        from_images(open_image(file))
    finally:
        file.unlink()


# MAX_PIXELS as RGB, RGBA and three float32 channels, with what Pillow and numpy have beside them
KINDS = [Kind("image", _prepare, _make, read_picture, memory=4 * 2**30)]
