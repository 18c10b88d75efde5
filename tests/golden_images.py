"""The images of the conformance kit: what Pillow and the runtime make of pixels, masks and PNG files.

No bytes here depend on a compression library: PNG files hold stored blocks.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from ldm_runtime.errors import InputError
from ldm_runtime.image import open_image, pixels_of, scaled, to_levels
from ldm_runtime.image_modes import laid_on, settled
from ldm_runtime.request_images import StartImages, on_grid

Tensors = dict[str, np.ndarray]
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

# From (width, height) to (width, height).
SCALES = [
    ((8, 8), (16, 16)), ((16, 16), (8, 8)), ((17, 13), (64, 48)), ((61, 47), (8, 24)), ((64, 48), (63, 47)),
    ((5, 5), (5, 12)), ((5, 5), (12, 5)), ((1, 1), (8, 8)), ((1, 40), (8, 8)), ((40, 1), (8, 8)), ((2, 3), (40, 8)),
    ((200, 3), (8, 8)), ((3, 200), (8, 64)), ((96, 96), (8, 8)), ((31, 33), (32, 32)), ((300, 7), (7, 30)),
    ((7, 9), (1, 1)), ((64, 64), (64, 64)),
]  # fmt: skip


def image_cases(package: Path) -> tuple[Any, Tensors]:
    tensors: Tensors = {}
    cases: dict[str, Any] = {
        "settle": settle_cases(tensors),
        "lay_on": lay_on_cases(tensors),
        "scale": scale_cases(tensors),
        "start": start_cases(tensors),
        "mask": mask_cases(tensors),
        "levels": level_cases(tensors),
        "png": png_cases(tensors),
    }
    return cases, tensors


def settle_cases(tensors: Tensors) -> list[dict[str, Any]]:
    """8 and 16 bits of one to four channels. `samples`: bytes, little-endian."""
    cases = []
    for channels in (1, 2, 3, 4):
        for bits, opaque in ((8, False), (8, True), (16, False), (16, True)):
            values = noise(channels * bits + opaque, (9, 7, channels), 2**bits)
            if opaque and channels in (2, 4):
                values[..., -1] = 2**bits - 1
            colour_type = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGB_ALPHA}[channels]
            name = f"settle/{len(cases)}"
            tensors[f"{name}/samples"] = np.frombuffer(values.astype(f"<u{bits // 8}").tobytes(), np.uint8).copy()
            tensors[f"{name}/expected"] = array(opened(png(values, bits, colour_type)))
            cases.append({"width": 7, "height": 9, "channels": channels, "bits": bits, "tensors": name})
    return cases


def lay_on_cases(tensors: Tensors) -> list[dict[str, Any]]:
    """Every level with every alpha, over white and black."""
    level, alpha = np.meshgrid(np.arange(256), np.arange(256))
    image = np.stack([level, 255 - level, level, alpha], axis=2).astype(np.uint8)
    tensors["lay_on/image"] = image
    cases = []
    for name in ("black", "white"):
        tensors[f"lay_on/{name}"] = array(laid_on(Image.fromarray(image), name))
        cases.append({"background": 255 if name == "white" else 0, "image": "lay_on/image", "tensor": f"lay_on/{name}"})
    return cases


def scale_cases(tensors: Tensors) -> list[dict[str, Any]]:
    cases = []
    for channels in (1, 3):
        for index, ((width, height), size) in enumerate(SCALES):
            values = structured(index, height, width, channels)
            name = f"scale/{len(cases)}"
            tensors[f"{name}/image"] = values
            tensors[f"{name}/expected"] = array(scaled(as_image(values), *size))
            cases.append({"width": size[0], "height": size[1], "tensors": name})
    return cases


def start_cases(tensors: Tensors) -> list[dict[str, Any]]:
    """Images of one to four channels as the values of a run of that size: float32 (3, height, width)."""
    cases = []
    for channels in (1, 2, 3, 4):
        image = as_image(structured(channels, 21, 30, channels))
        name = f"start/{channels}"
        tensors[f"{name}/samples"] = np.asarray(image)
        start = StartImages([settled(image)], None, 1.0)
        tensors[f"{name}/expected"] = np.ascontiguousarray(start.pixels(16, 24, 1)[0])
        cases.append({"width": 16, "height": 24, "tensors": name})
    return cases


def mask_cases(tensors: Tensors) -> list[dict[str, Any]]:
    """Pixels to inpaint at a size, and the cells of a grid; null: refused since nothing is to be inpainted."""
    cases = []
    for channels in (1, 2, 3, 4):
        for black in (False, True):
            values = structured(20 + channels, 33, 47, channels)
            image = as_image(values // 4 if black and channels not in (2, 4) else values)
            if black and channels in (2, 4):
                image.putalpha(60)
            name = f"mask/{len(cases)}"
            tensors[f"{name}/samples"] = np.asarray(image)
            inpainted = StartImages([], settled(image), 1.0).inpainted(40, 24)
            assert inpainted is not None
            tensors[f"{name}/inpainted"] = inpainted.astype(np.uint8)
            try:
                tensors[f"{name}/cells"] = on_grid(inpainted, 8)[0, 0]
            except InputError as error:
                assert error.code == "request.image"
            cells = f"{name}/cells" if f"{name}/cells" in tensors else None
            cases.append({"width": 40, "height": 24, "step": 8, "cells": cells, "tensors": name})
    return cases


def level_cases(tensors: Tensors) -> dict[str, Any]:
    """Values to levels, halves and beyond the ends included; and every level to its value."""
    draw = np.random.default_rng(9)
    halves = ((np.arange(-3, 259) + 0.5) / 127.5 - 1.0).astype(np.float32)
    values = np.concatenate([halves, draw.uniform(-1.3, 1.3, 50).astype(np.float32)])[:312].reshape(3, 8, 13)
    tensors["levels/values"], tensors["levels/levels"] = values, np.ascontiguousarray(to_levels(values[None])[0])
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tensors["levels/grey"], tensors["levels/grey_values"] = grey, pixels_of([Image.fromarray(grey)])[0]
    return {
        "values": "levels/values",
        "levels": "levels/levels",
        "grey": "levels/grey",
        "grey_values": "levels/grey_values",
    }


# --- PNG ---


def png_cases(tensors: Tensors) -> list[dict[str, Any]]:
    """Files, and what is in them; `expected` null: refused with request.image."""
    cases: list[dict[str, Any]] = []
    for why, content in [*whole_files(), *broken_files()]:
        name = f"png/{len(cases)}"
        tensors[f"{name}/file"] = np.frombuffer(content, np.uint8)
        case: dict[str, Any] = {"why": why, "file": f"{name}/file", "expected": None, "texts": {}}
        try:
            image = opened(content)
        except InputError as error:
            assert error.code == "request.image"
        else:
            case["expected"] = f"{name}/expected"
            tensors[f"{name}/expected"] = array(image)
            case["texts"] = texts_of(content)
        cases.append(case)
    return cases


def whole_files() -> list[tuple[str, bytes]]:
    files = []
    palette = chunk(b"PLTE", noise(1, (256, 3), 256).astype(np.uint8).tobytes())
    alphas = chunk(b"tRNS", noise(2, (200,), 256).astype(np.uint8).tobytes())
    for colour_type, depths in DEPTHS.items():
        for depth in depths:
            for interlaced, (height, width) in ((False, (5, 11)), (True, (9, 10)), (True, (1, 1)), (True, (2, 6))):
                values = noise(depth + height, (height, width, CHANNELS[colour_type]), 2**depth)
                before = [palette[:8], b""] if colour_type == PALETTE else []
                if before:
                    colours = chunk(b"PLTE", palette[8 : 8 + 3 * 2**depth])
                    before = [colours, chunk(b"tRNS", alphas[8 : 8 + min(2**depth, 200)])] if interlaced else [colours]
                why = f"colour type {colour_type}, {depth} bits, {width}x{height}{', interlaced' if interlaced else ''}"
                files.append((why, png(values, depth, colour_type, *before, interlaced=interlaced)))
    files += transparent_files() + turned_files()
    plain = noise(5, (3, 4, 3), 256)
    text = [
        chunk(b"tEXt", b"Title\0caf\xe9"), chunk(b"zTXt", b"Long\0\0" + zlib.compress(b"word " * 50, 0)),
        chunk(b"iTXt", "prompt\0\0\0en\0\0日本 \U0001f600".encode()),
        chunk(b"iTXt", b"packed\0\1\0\0\0" + zlib.compress("ünï".encode(), 0)),
        chunk(b"tIME", b"\7\xea\1\2\3\4\5"), chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"prVt", b"of nobody"),
    ]  # fmt: skip
    files.append(("texts before the pixels", png(plain, 8, RGB, *text)))
    whole = png(plain, 8, RGB)
    files.append(("texts after the pixels", whole[:-12] + text[0] + whole[-12:]))
    files.append(("bytes after the end", whole + b"more"))
    files.append(("pixels in many chunks", png(plain, 8, RGB, split=5)))
    return files


def transparent_files() -> list[tuple[str, bytes]]:
    """Files with a colour that is transparent, which some pixels have."""
    files = []
    for depth in DEPTHS[GREY]:
        values = noise(depth, (4, 9, 1), 2**depth)
        if depth == 16:
            values[2, :4] = values[0, 0] ^ 1  # the same level, and another number
        key = chunk(b"tRNS", struct.pack(">H", values[0, 0, 0]))
        files.append((f"grey of {depth} bits with a key", png(values, depth, GREY, key)))
        absent = chunk(b"tRNS", struct.pack(">H", 2**16 - 1 if depth < 16 else (int(values.max()) + 1) % 2**16))
        files.append((f"grey of {depth} bits with a key of no pixel", png(values, depth, GREY, absent)))
    for depth in DEPTHS[RGB]:
        values = noise(depth, (4, 9, 3), 2**depth)
        values[1, 2] = values[0, 0]
        if depth == 16:
            values[2, 3] = values[0, 0] ^ 1
        key = chunk(b"tRNS", struct.pack(">HHH", *values[0, 0]))
        files.append((f"RGB of {depth} bits with a key", png(values, depth, RGB, key)))
    values = noise(3, (4, 5, 1), 4)
    colours = chunk(b"PLTE", bytes(range(12)))
    files.append(
        ("a palette with one transparent entry", png(values, 2, PALETTE, colours, chunk(b"tRNS", b"\xff\xff\0")))
    )
    files.append(("a pixel beyond the palette", png(values, 2, PALETTE, chunk(b"PLTE", bytes(range(9))))))
    files.append(("a palette with opaque entries", png(values, 2, PALETTE, colours, chunk(b"tRNS", b"\xff\xff"))))
    return files


def turned_files() -> list[tuple[str, bytes]]:
    """Files that EXIF data, or what Adobe writes, turn."""
    values = noise(4, (2, 3, 3), 256)
    files = []
    for orientation in range(10):
        for order in "<>":
            entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
            other = struct.pack(order + "HHIHH", 0x0106, 3, 1, 2, 0)
            mark = b"II*\0" if order == "<" else b"MM\0*"
            exif = mark + struct.pack(order + "IH", 8, 2) + other + entry + bytes(4)
            files.append((f"orientation {orientation}, order {order}", png(values, 8, RGB, chunk(b"eXIf", exif))))
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    files.append(("orientation of XMP", png(values, 8, RGB, xmp)))
    for why, exif in (("empty", b""), ("cut", b"II*\0\x08\0\0\0\x02\0"), ("of no order", b"XX*\0" + bytes(20))):
        files.append((f"EXIF data that are {why}", png(values, 8, RGB, chunk(b"eXIf", exif))))
    return files


def broken_files() -> list[tuple[str, bytes]]:
    values = noise(6, (6, 7, 3), 256)
    whole = png(values, 8, RGB)
    header = struct.pack(">IIBBBBB", 7, 6, 8, RGB, 0, 0, 0)

    def headed(*fields: int) -> bytes:
        return whole[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", *fields)) + whole[33:]

    return [
        ("nothing", b""), ("a text", b"hello"), ("the signature alone", whole[:8]),
        ("no pixels", whole[:33] + whole[-12:]),
        ("a size of 0", headed(0, 6, 8, RGB, 0, 0, 0)), ("too many pixels", headed(8193, 8192, 8, RGB, 0, 0, 0)),
        ("too many rows", headed(1, 2**16 + 1, 8, RGB, 0, 0, 0)),
        ("a size beyond a file's", headed(2**31 - 1, 2**31 - 1, 8, RGB, 0, 0, 0)),
        ("5 bits", headed(7, 6, 5, RGB, 0, 0, 0)), ("4 bits of RGB", headed(7, 6, 4, RGB, 0, 0, 0)),
        ("colour type 1", headed(7, 6, 8, 1, 0, 0, 0)),
        ("no header", whole[:8] + whole[33:]), ("cut in the pixels", whole[:80]), ("cut in the header", whole[:20]),
        ("a filter of no kind", png(values, 8, RGB, filters=(9,))),
        ("a chunk of the wrong checksum", flipped(whole, 8 + 8 + 13 + 1)),
        ("pixels of the wrong checksum", flipped(whole, 60)),
        ("a text of the wrong checksum", flipped(png(values, 8, RGB, chunk(b"tEXt", b"a\0b")), 33 + 8 + 3)),
        ("no deflate", whole[:33] + chunk(b"IDAT", b"hello hello") + chunk(b"IEND", b"")),
        ("a header that is too short", whole[:8] + chunk(b"IHDR", header[:9]) + whole[33:]),
    ]  # fmt: skip


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def png(
    values: np.ndarray,
    depth: int,
    colour_type: int,
    *chunks: bytes,
    interlaced: bool = False,
    filters: tuple[int, ...] = (0, 1, 2, 3, 4),
    split: int | None = None,
) -> bytes:
    """Write values (H, W, C) with every kind of filter in turn. chunks: before the pixels; split: bytes of a chunk."""
    height, width = values.shape[:2]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[y::dy, x::dx] for x, y, dx, dy in passes]
    packed = b"".join(filtered(part, depth, filters) for part in parts if part.size)
    content = zlib.compress(packed, 0)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    size = len(content) if split is None else split
    pixels = b"".join(chunk(b"IDAT", content[start : start + size]) for start in range(0, len(content), size))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def filtered(values: np.ndarray, depth: int, filters: tuple[int, ...]) -> bytes:
    """Rows of bytes, each after the number of its filter (PNG, section 9)."""
    step = max(1, values.shape[2] * depth // 8)
    bits = (values.reshape(values.shape[0], -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(values.shape[0], -1).astype(np.uint8), axis=1).astype(int)
    above = np.zeros(rows.shape[1], int)
    lines = []
    for index, row in enumerate(rows):
        kind = filters[index % len(filters)]
        left, corner = (np.concatenate([np.zeros(step, int), line])[: row.size] for line in (row, above))
        lines.append(bytes([kind]) + ((row - predicted(kind, left, above, corner)) % 256).astype(np.uint8).tobytes())
        above = row
    return b"".join(lines)


def predicted(kind: int, left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    if kind == 4:
        away = [np.abs(left + above - corner - one) for one in (left, above, corner)]
        return np.where((away[0] <= away[1]) & (away[0] <= away[2]), left, np.where(away[1] <= away[2], above, corner))
    return {1: left, 2: above, 3: (left + above) // 2}.get(kind, np.zeros_like(left))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# --- pixels ---


def opened(content: bytes) -> Image.Image:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        path.write_bytes(content)
        return open_image(path)


def texts_of(content: bytes) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        path.write_bytes(content)
        with Image.open(path) as image:
            image.load()
            return {key: str(value) for key, value in image.text.items()}


def as_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def array(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, channels)."""
    values = np.asarray(image)
    return np.ascontiguousarray(values if values.ndim == 3 else values[..., None])


def noise(seed: int, shape: tuple[int, ...], end: int) -> np.ndarray:
    """Integers from 0 to end - 1 by a generator that every NumPy has."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, end, shape)


def structured(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    """Edges, where filters overshoot, smooth parts and noise: uint8 (H, W, channels)."""
    y, x = np.mgrid[0:height, 0:width]
    kinds: list[Callable[[int], np.ndarray]] = [
        lambda c: np.where((x // 3 + y // 4 + c) % 2, 255, 0),
        lambda c: (x * (3 + c) + y * 5) % 256,
        lambda c: noise(seed + c, (height, width), 256),
        lambda c: np.where(x * height > y * width, 250 - 40 * c, 6),
    ]
    return np.stack([kinds[(seed + c) % 4](c) for c in range(channels)], axis=2).astype(np.uint8)
