"""A file is an image of a known format, or refused in one sentence, whatever is in it."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from ldm_runtime import image as image_module
from ldm_runtime.errors import InputError
from ldm_runtime.image import FORMATS, from_images, open_image
from ldm_runtime.image_modes import settled
from tests.runtime.image_files import both, chunk, png, read

COLOUR = (200, 30, 60)


def test_a_file_of_another_format_is_refused_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "gs-was-started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    buffer = io.BytesIO()
    for name in ("PPM", "TGA", "DDS", "BLP"):
        buffer = io.BytesIO()
        Image.new("P" if name == "BLP" else "RGB", (8, 8)).save(buffer, name)
        with pytest.raises(
            InputError, match="is not an image that can be read; expected PNG, JPEG, WEBP, BMP, GIF, TIFF"
        ):
            read(buffer.getvalue(), tmp_path, "a.png")
    with pytest.raises(InputError, match="is not an image that can be read; expected PNG"):
        read(eps, tmp_path, "a.png")
    with Image.open(io.BytesIO(eps)) as opened, pytest.raises(InputError, match="the image is EPS, a program"):
        settled(opened)
    assert not started.exists()


def test_every_format_of_the_list_is_read(tmp_path: Path) -> None:
    for name in FORMATS:
        if name == "AVIF" and not features.check("avif"):
            continue
        Image.new("RGB", (16, 16), COLOUR).save(tmp_path / "a", name)
        picture = open_image(tmp_path / "a")
        assert picture.mode == "RGB" and np.abs(np.array(picture.getpixel((8, 8)), int) - COLOUR).max() <= 8


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 16), COLOUR), Image.new("RGB", (16, 16), (0, 255, 0))
    for suffix in ("gif", "png", "webp"):
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
        found = open_image(tmp_path / f"a.{suffix}").getpixel((8, 8))
        assert np.abs(np.array(found, int) - COLOUR).max() <= 8


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    for path in (tmp_path, tmp_path / "fifo.png", Path("/dev/zero")):
        with pytest.raises(InputError, match="is not a regular file; expected an image in PNG"):
            open_image(path)
    with pytest.raises(InputError, match="the image - does not exist"):
        open_image(Path("-"))
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be read: "):
            open_image(tmp_path / name)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
    os.truncate(tmp_path / "a.webp", 2**34)
    with pytest.raises(InputError, match="has 17179869184 bytes; expected at most"):
        open_image(tmp_path / "a.webp")


def test_an_immense_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    for side, message in ((9_000, "9000x9000 pixels, more"), (20_000, "20000x20000 pixels, more")):
        with pytest.raises(InputError, match=message):
            read(png(0, 8, bytes(4), size=(side, side)), tmp_path)
    with pytest.raises(InputError, match="the image has 9000x9000 pixels, more than"):
        from_images(Image.new("1", (9_000, 9_000)))
    for size in ((1, 2**16 + 1), (2**16 + 1, 1)):  # a decoder takes up to 30 bytes more for each row
        with pytest.raises(InputError, match=r"has \d+x\d+ pixels; expected sides of at most 65536; scale it down"):
            read(png(0, 8, bytes(4), size=size), tmp_path)
    with pytest.raises(InputError, match="the image is 0x5; expected at least one pixel"):
        from_images(Image.new("L", (0, 5)))


def test_texts_that_unpack_to_too_much_together_are_refused(tmp_path: Path) -> None:
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**20)))
    with pytest.raises(InputError, match="is not a PNG file that can be read: its texts unpack to more than 64 MiB"):
        read(png(0, 8, bytes(4), *[text] * 65), tmp_path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_text_that_unpacks_to_much_more_is_refused(tmp_path: Path, kind: bytes) -> None:
    packer = zlib.compressobj(9)
    packed = packer.compress(bytes(2**26)) + packer.flush()  # 64 MB of zeros
    head = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    with pytest.raises(InputError, match="is not a PNG file that can be read: a text unpacks to more than 1 MiB"):
        read(png(0, 8, bytes(4), chunk(kind, head + packed)), tmp_path)


def test_a_text_that_takes_the_place_of_a_transparent_colour_says_nothing(tmp_path: Path) -> None:
    """Pillow keeps it where it would keep the colour, of a file that it opened itself too."""
    text = chunk(b"tEXt", b"transparency\0one")
    for chunks in ((text,), (text, chunk(b"tRNS", b"\0\1"))):
        content = png(0, 8, bytes(range(4)), *chunks)
        assert both(content, tmp_path).mode == ("L" if len(chunks) == 1 else "RGBA")


@pytest.mark.parametrize("error", [KeyError("x"), struct.error("x"), IndexError("x"), RuntimeError(), EOFError("x\ny")])
def test_whatever_a_decoder_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise error

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(image_module, "settled", fail)
    with pytest.raises(InputError, match=r"a\.png is not an image that can be read: '?(x|RuntimeError)'?$"):
        open_image(tmp_path / "a.png")
    picture = Image.new("RGB", (8, 8))
    monkeypatch.setattr(picture, "load", fail)
    with pytest.raises(InputError, match=r"the image cannot be read: '?(x|RuntimeError)'?$"):
        settled(picture)


def test_a_file_cut_short_is_refused_from_python_too(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello", whole[:40]):
        with pytest.raises(
            InputError, match="picture is not (an image|a PNG file) that can be read|the image .*picture cannot be read"
        ):
            read(content, tmp_path)
    with (
        Image.open(io.BytesIO(whole[: len(whole) // 2])) as opened,
        pytest.raises(InputError, match="^the image is not a PNG file that can be read: it is truncated$"),
    ):
        from_images(opened)


SAVED: dict[str, Callable[[Image.Image, io.BytesIO], None]] = {
    "png": lambda image, file: image.save(file, "PNG"),
    "palette": lambda image, file: image.convert("P").save(file, "PNG", transparency=3),
    "jpeg": lambda image, file: image.convert("RGB").save(file, "JPEG"),
    "webp": lambda image, file: image.save(file, "WEBP"),
    "bmp": lambda image, file: image.convert("P").save(file, "BMP"),
    "gif": lambda image, file: image.save(file, "GIF", save_all=True, append_images=[image.rotate(90)]),
    "tiff": lambda image, file: image.save(file, "TIFF", compression="tiff_lzw"),
    "avif": lambda image, file: image.save(file, "AVIF"),
}


@pytest.mark.parametrize("name", [name for name in SAVED if name != "avif" or features.check("avif")])
def test_a_damaged_file_is_an_image_or_one_sentence(tmp_path: Path, name: str) -> None:
    buffer, draw, met = io.BytesIO(), random.Random(name), set()
    SAVED[name](Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 16, 4), np.uint8)), buffer)
    for _ in range(100):
        content = bytearray(buffer.getvalue())
        for _ in range(draw.choice((1, 2, 8))):
            content[draw.randrange(draw.choice((64, len(content))))] = draw.choice((0, 255, draw.randrange(256)))
        cut = draw.randrange(len(content)) if draw.random() < 0.2 else len(content)
        try:
            met.add(read(bytes(content[:cut]), tmp_path).mode)
        except InputError as error:
            assert "\n" not in str(error)
            met.add("refused")
    assert "refused" in met and met <= {"L", "RGB", "RGBA", "refused"}
