"""A picture of any mode means one thing, from a file or from Python."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from ldm_runtime.errors import InputError
from ldm_runtime.image import from_images, open_image
from ldm_runtime.image_modes import laid_on, settled
from ldm_runtime.notice import Notice
from ldm_runtime.pipeline import Pipeline
from tests.golden_images import RGB, noise
from tests.golden_images import png as interlaced_png
from tests.runtime.image_files import both, chunk, png, read, tiff
from tests.runtime.notices import said

COLOUR = (200, 30, 60)
RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))


# --- 16 bits ---


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_16_bits_is_the_same_image_as_in_8(tmp_path: Path, order: str) -> None:
    deep = Image.fromarray(RAMP.astype(order + "u2"))
    shallow = from_images(Image.fromarray((RAMP / 257).round().astype(np.uint8)))
    np.testing.assert_array_equal(from_images(deep), shallow)
    files = ("r.png", "r.tif") if order == "<" else ("r.tif",)
    for name in files:
        deep.save(tmp_path / name)
        np.testing.assert_array_equal(from_images(open_image(tmp_path / name)), shallow)
        with Image.open(tmp_path / name) as opened:
            np.testing.assert_array_equal(from_images(opened), shallow)
    assert abs(from_images(deep).mean()) < 1e-3


def test_a_png_that_pillow_opens_in_mode_i_has_16_bits() -> None:
    """As before Pillow 10.3; nothing but the format tells it from numbers of 32 bits."""
    older = Image.fromarray(RAMP.astype(np.int32))
    older.format = "PNG"
    np.testing.assert_array_equal(from_images(older), from_images(Image.fromarray(RAMP)))


@pytest.mark.parametrize("name", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_every_mode_of_16_bits_is_divided_by_257(name: str) -> None:
    assert settled(Image.new(name, (2, 2), 200 * 257)).getpixel((0, 0)) == 200


@pytest.mark.parametrize(
    ("colour_type", "channels", "mode"), [(0, 1, "L"), (2, 3, "RGB"), (4, 2, "RGBA"), (6, 4, "RGBA")]
)
def test_pngs_of_16_bits_of_every_kind(tmp_path: Path, colour_type: int, channels: int, mode: str) -> None:
    row = np.repeat(np.array([0, 21845, 43690, 65535], ">u2"), channels)
    picture = both(png(colour_type, 16, row.tobytes()), tmp_path)
    assert picture.mode == mode
    assert np.asarray(picture)[0].reshape(4, -1)[:, 0].tolist() == [0, 85, 170, 255]


def test_a_grey_tiff_is_16_unsigned_bits_with_black_at_zero_or_refused(tmp_path: Path) -> None:
    pixels = np.array([0, 257, 65535, 2570], "<u2")
    assert np.asarray(both(tiff(16, 1, 1, pixels.tobytes()), tmp_path)).ravel().tolist() == [0, 1, 255, 10]
    for bits, kind, photometric, message in (
        (16, 1, 0, "a grey TIFF with white at zero"),
        (12, 1, 1, "a grey TIFF with 12 bits"),
        (8, 2, 1, "a TIFF of signed or floating-point numbers"),
    ):
        with pytest.raises(InputError, match=f"the image .*picture is {message}"):
            read(tiff(bits, kind, photometric, pixels.tobytes()), tmp_path)
    with pytest.raises(InputError, match="the image .*picture has mode I"):
        read(tiff(16, 2, 1, pixels.tobytes()), tmp_path)


@pytest.mark.parametrize(("dtype", "kind"), [("<i4", "32-bit integers"), ("<f4", "floating-point numbers")])
def test_numbers_of_32_bits_are_refused_by_mode(pipe: Pipeline, tmp_path: Path, dtype: str, kind: str) -> None:
    picture = Image.fromarray(np.zeros((48, 64), dtype))
    message = f"has mode {picture.mode}, {kind}"
    for use in (
        lambda: from_images(picture),
        lambda: pipe.encode(picture),
        lambda: pipe.sample("red", image=picture),
        lambda: pipe.sample("red", image=Image.new("RGB", (64, 48)), mask=picture),
    ):
        with pytest.raises(InputError, match=message):
            use()
    picture.save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"a\.tif {message}"):
        open_image(tmp_path / "a.tif")


# --- other modes ---


def modes() -> dict[str, Image.Image]:
    """One colour in every mode that says colours."""
    plain = Image.new("RGB", (4, 4), COLOUR)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    made = {mode: plain.convert(mode) for mode in ("RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")}
    made |= {"P": plain.quantize(2), "PA": plain.quantize(2).convert("PA")}
    return made | {"LAB": ImageCms.applyTransform(plain, to_lab)}


@pytest.mark.parametrize("mode", modes())
def test_a_colour_is_the_same_in_every_mode(mode: str) -> None:
    picture = settled(modes()[mode])
    assert picture.mode == "RGB"
    assert np.abs(np.array(picture.getpixel((0, 0)), int) - COLOUR).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La"])
def test_grey_is_the_same_in_every_mode(mode: str) -> None:
    start = Image.new("LA" if mode == "La" else mode, (4, 4), 255 if mode in ("1", "L") else (255, 255))
    assert laid_on(settled(start.convert(mode)), "black").convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_jpeg_of_inks_is_the_same_image(tmp_path: Path) -> None:
    """Adobe's, which Pillow writes too, are stored inverted."""
    Image.new("CMYK", (16, 16), (0, 200, 150, 40)).save(tmp_path / "a.jpg", quality=100)
    expected = Image.new("CMYK", (1, 1), (0, 200, 150, 40)).convert("RGB").getpixel((0, 0))
    found = open_image(tmp_path / "a.jpg").getpixel((8, 8))
    assert np.abs(np.array(found, int) - np.array(expected, int)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says_from_a_file_and_from_python(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    picture = both((tmp_path / "a.png").read_bytes(), tmp_path)
    assert picture.size == ((32, 16) if orientation < 5 else (16, 32))
    right, below = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}[orientation]
    corner = (right * (picture.width - 1), below * (picture.height - 1))
    assert picture.getpixel(corner) == (255, 255, 255)
    assert settled(picture).tobytes() == picture.tobytes()  # not turned twice


def test_the_size_to_draw_at_is_that_of_the_turned_image(pipe: Pipeline, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert pipe("red", image=opened, steps=2)[0].size == (48, 64)


# --- texts that have the names of what PIL knows of a file ---

FACTS = (
    *("interlace", "bbox", "dpi", "gamma", "chromaticity", "srgb", "aspect", "icc_profile", "exif", "xmp"),
    *("transparency", "loop", "duration", "disposal", "blend", "default_image"),
)
TEXTS = ("", "0", "1", "1,2,3", "(0, 0, 2, 2)", "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
WITHOUT_IMAGES = ("interlace", "bbox")  # of which PIL itself decodes no image, or another


def text(name: str, value: str) -> bytes:
    return chunk(b"tEXt", name.encode() + b"\0" + value.encode("latin-1"))


@pytest.mark.parametrize("value", TEXTS)
@pytest.mark.parametrize("name", FACTS)
def test_a_text_of_a_png_is_no_fact_by_its_name(tmp_path: Path, name: str, value: str) -> None:
    expected = read(png(2, 8, bytes(range(12))), tmp_path)
    content = png(2, 8, bytes(range(12)), text(name, value))
    for loads in (False, True) if name not in WITHOUT_IMAGES else (False,):
        with Image.open(io.BytesIO(content)) as opened:
            if loads:
                opened.load()
            found, info = settled(opened), dict(opened.info)
        assert (found.mode, found.size, found.tobytes()) == (expected.mode, expected.size, expected.tobytes())
        assert name in info  # the caller's image is as it was
    assert read(content, tmp_path).tobytes() == expected.tobytes()


def test_a_fact_of_a_png_holds_beside_a_text_of_its_name(tmp_path: Path) -> None:
    key = chunk(b"tRNS", bytes([0, 0, 0, 1, 0, 2]))  # the first pixel
    for chunks in ((key, text("transparency", "1")), (text("transparency", "1"), key)):
        content = png(2, 8, bytes(range(12)), *chunks)
        with Image.open(io.BytesIO(content)) as opened:
            found = settled(opened)
        assert found.mode == "RGBA" and found.tobytes() == read(content, tmp_path).tobytes()


def test_an_interlaced_png_is_so_beside_a_text_of_that_name(tmp_path: Path) -> None:
    pixels = noise(3, (6, 7, 3), 200)
    content = interlaced_png(pixels, 8, RGB, text("interlace", ""), interlaced=True)
    with Image.open(io.BytesIO(content)) as opened:
        assert settled(opened).tobytes() == pixels.astype(np.uint8).tobytes()


def test_a_png_is_damaged_from_a_file_and_from_python(tmp_path: Path) -> None:
    content = png(2, 8, bytes(range(12)))[:-12]
    with pytest.raises(InputError, match="picture is not a PNG file that can be read: it is truncated"):
        read(content, tmp_path)
    with (
        Image.open(io.BytesIO(content)) as opened,
        pytest.raises(InputError, match="^the mask is not a PNG file that can be read: it is truncated$"),
    ):
        settled(opened, "the mask")


def test_a_later_frame_is_the_one_that_was_sought(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.png") as opened:
        assert settled(opened).getpixel((0, 0)) == (10, 0, 0)
        opened.seek(1)
        assert settled(opened).getpixel((0, 0)) == (200, 0, 0)


# --- transparency ---

KEYED = {
    "2 bits": png(0, 2, b"\xc0", chunk(b"tRNS", b"\0\3")),
    "4 bits": png(0, 4, b"\xf0\0", chunk(b"tRNS", b"\0\x0f")),
    "8 bits": png(0, 8, b"\xff\0\0\0", chunk(b"tRNS", b"\0\xff")),
    "16 bits": png(0, 16, b"\xff\xff\0\0\xff\xfe\0\0", chunk(b"tRNS", b"\xff\xff")),
    "RGB 8 bits": png(2, 8, b"\xff\0\0" + bytes(9), chunk(b"tRNS", b"\0\xff\0\0\0\0")),
    "RGB 16 bits": png(2, 16, b"\xff\xff\x80\x80\0\0" + bytes(18), chunk(b"tRNS", b"\xff\xff\x80\x80\0\0")),
    "palette": png(3, 8, b"\1\0\0\0", chunk(b"PLTE", bytes(3) + b"\xff\0\0"), chunk(b"tRNS", b"\xff\0")),
}


@pytest.mark.parametrize("name", KEYED)
def test_the_colour_that_a_png_calls_transparent_is_and_no_other(tmp_path: Path, name: str) -> None:
    picture = read(KEYED[name], tmp_path)
    assert np.asarray(picture.getchannel("A"))[0].tolist() == [0, 255, 255, 255]


def with_alpha(mode: str, alpha: int) -> Image.Image:
    """64x48, on the left as dark or as white as it is opaque, on the right opaque and black."""
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    image.paste((255, 255, 255, alpha), (0, 0, 32, 48))
    return image.convert("LA").convert(mode) if mode in ("LA", "La") else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La"])
def test_transparency_of_an_image_is_white_wherever_it_comes_from(pipe: Pipeline, tmp_path: Path, mode: str) -> None:
    given = with_alpha(mode, 0)
    flat = Image.fromarray(np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None].repeat(48, 0)).convert("RGB")
    pictures = [given]
    if mode in ("RGBA", "LA"):
        given.save(tmp_path / "a.png")
        pictures.append(open_image(tmp_path / "a.png"))
    for picture in pictures:
        np.testing.assert_array_equal(from_images(picture), from_images(flat))
        np.testing.assert_array_equal(pipe.encode(picture), pipe.encode(flat))
        np.testing.assert_array_equal(*(last(pipe, image=one) for one in (picture, flat)))


def last(pipe: Pipeline, **arguments: Any) -> np.ndarray:
    return list(pipe.sample("red", seed=1, steps=2, **arguments))[-1].latents


def test_transparency_of_a_mask_keeps_the_image(pipe: Pipeline, tmp_path: Path) -> None:
    """Like black: strokes of white on nothing are what an editor saves."""
    with_alpha("RGBA", 255).save(tmp_path / "opaque.png")
    strokes = Image.new("RGBA", (64, 48))  # transparent black, as editors save it
    strokes.paste((255, 255, 255, 255), (0, 0, 32, 48))
    strokes.save(tmp_path / "strokes.png")
    bright = Image.new("RGBA", (64, 48), (255, 255, 255, 0))  # transparent white
    bright.paste((255, 255, 255, 255), (0, 0, 32, 48))
    photo = Image.new("RGB", (64, 48), COLOUR)
    expected = last(pipe, image=photo, mask=open_image(tmp_path / "opaque.png"))
    assert said(pipe.sample("red", image=photo, mask=open_image(tmp_path / "opaque.png"))) == []
    notice = "the mask is transparent in parts; they count as black, so the image is kept there"
    for mask in (strokes, open_image(tmp_path / "strokes.png"), bright):
        np.testing.assert_array_equal(last(pipe, image=photo, mask=mask), expected)
        assert said(pipe.sample("red", image=photo, mask=mask)) == [notice]


def test_what_was_laid_on_white_is_said_once_and_an_opaque_image_says_nothing(pipe: Pipeline) -> None:
    notice = "the image is transparent in parts; they were laid on white"
    both = [with_alpha("RGBA", 0), with_alpha("RGBA", 9)]
    assert said(pipe.sample(["red", "blue"], image=both, steps=1, strength=1.0)) == [notice]
    assert said(pipe.sample("red", image=with_alpha("RGBA", 255), steps=1, strength=1.0)) == []
    notices: list[Notice] = []
    pipe.encode(with_alpha("RGBA", 255), notices=notices)
    assert notices == []
    pipe.encode(with_alpha("LA", 0), notices=notices)
    assert [str(each) for each in notices] == [notice]


def test_a_mask_in_colours_counts_by_its_luminance(pipe: Pipeline) -> None:
    photo = Image.new("RGB", (64, 48), COLOUR)
    white = last(pipe, image=photo, mask=Image.new("L", (64, 48), 255))
    np.testing.assert_array_equal(last(pipe, image=photo, mask=Image.new("RGB", (64, 48), (0, 255, 0))), white)
    with pytest.raises(InputError, match="the mask is black everywhere"):
        pipe.sample("red", image=photo, mask=Image.new("RGB", (64, 48), (0, 0, 255)))


def test_a_mask_of_16_bits_is_not_clipped(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="the mask is black everywhere"):
        pipe.sample("red", image=Image.new("RGB", (64, 48)), mask=Image.new("I;16", (64, 48), 127 * 257))


def test_an_image_to_start_from_is_settled_once(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[Image.Image] = []

    def turn(image: Image.Image) -> Image.Image:
        turned.append(image)
        return image.copy()

    monkeypatch.setattr(ImageOps, "exif_transpose", turn)
    pipe.encode(with_alpha("RGBA", 0))
    assert len(turned) == 1
    pipe("red", image=Image.new("L", (64, 48)), steps=1, strength=1.0)
    assert len(turned) == 2
