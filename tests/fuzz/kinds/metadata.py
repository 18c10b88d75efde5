"""What pictures say about themselves: text, EXIF, XMP and colour profiles in PNG, TIFF, WebP and JPEG files."""

import io
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from tests.fuzz.kind import Kind
from tests.fuzz.kinds.image import ENDINGS, png_file, read_picture
from tests.fuzz.mutate import mutate_bytes, mutate_text

FORMS = {"PNG": ".png", "WEBP": ".webp", "TIFF": ".tiff", "JPEG": ".jpg"}


BOMBS = (10, 10**6, 10**8)  # bytes that a compressed text has in full


def _prepare(folder: Path) -> tuple[dict[str, bytes], list[bytes]]:
    """Sound metadata of each kind, and compressed texts of many bytes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a red apple"
    exif[0x8769] = {0x9286: b"ASCII\0\0\0comment"}
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # the time of its making
    seeds = {
        "exif": exif.tobytes(),
        "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a b='c'/></x:xmpmeta>",
        "icc": profile,
    }
    return seeds, [zlib.compress(bytes(size)) for size in BOMBS]


def _make(random: Random, prepared: tuple[dict[str, bytes], list[bytes]]) -> bytes:
    """A picture with one changed piece of metadata, written whole, so that a reader comes to it."""
    seeds, bombs = prepared
    form = random.choice(list(FORMS))
    parts: dict[str, Any] = {name: body for name, body in seeds.items() if random.random() < 0.5}
    name = random.choice(list(seeds))
    parts[name] = mutate_bytes(random, seeds[name], list(seeds.values()))
    ending = bytes([ENDINGS.index(FORMS[form])])
    if form == "PNG":
        return ending + _png(random, parts, random.choice(bombs))
    options = {"exif": parts.get("exif", b""), "icc_profile": parts.get("icc", b"")}
    if form in ("WEBP", "JPEG"):
        options["xmp"] = parts.get("xmp", b"")
    out = io.BytesIO()
    try:
        Image.new("RGB", (6, 4), "red").save(out, form, **options)
    except Exception:  # Pillow may not write what it is to be asked to read: then the bytes are put in blindly
        out = io.BytesIO()
        Image.new("RGB", (6, 4), "red").save(out, form, **({"exif": seeds["exif"]} if form != "TIFF" else {}))
        return ending + mutate_bytes(random, out.getvalue().replace(seeds["exif"][6:], parts.get("exif", b"")[6:]))
    return ending + out.getvalue()


def _png(random: Random, parts: dict[str, bytes], long: bytes) -> bytes:
    text = mutate_text(random, "parameters of a picture, steps: 20").encode("utf-8", "surrogatepass")
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 6, 4, 8, 2, 0, 0, 0)),
        random.choice(
            (
                (b"tEXt", b"prompt\0" + text),
                (b"zTXt", b"prompt\0\0" + zlib.compress(text)),
                (b"zTXt", b"prompt\0\0" + long),
                (b"iTXt", b"prompt\0\1\0en\0\0" + long),
                (b"iTXt", b"prompt\0\0\0en\0\0" + text),
                (b"iTXt", text),
                (b"zTXt", text),
                (b"iCCP", b"icc\0\0" + long),
            )
        ),
        (b"iCCP", b"icc\0\0" + zlib.compress(parts.get("icc", b""))),
        (b"eXIf", parts.get("exif", b"")[6:]),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + parts.get("xmp", b"")),
        (b"IDAT", zlib.compress(bytes(4 * 19))),
        (b"IEND", b""),
    ]
    return png_file([chunk for chunk in chunks if chunk[0] in (b"IHDR", b"IDAT", b"IEND") or random.random() < 0.7])


KINDS = [Kind("metadata", _prepare, _make, read_picture, memory=4 * 2**30)]
