"""PIL images of any mode, read as grey or colours in 8 bits, with transparency.

Checked against Pillow 10.0 and 13.0, which open the same file in different modes.
"""

import io
import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from ldm_runtime.checks import first_line
from ldm_runtime.errors import InputError
from ldm_runtime.image_size import MAX_FILE_BYTES, check_size, size_of
from ldm_runtime.png.chunks import without_notes

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# In mode I as well: Pillow before 10.3 opens grey PNGs of 16 bits so, and every Pillow such PGMs.
_SIXTEEN_BITS_AT_MOST = ("PNG", "PPM")
_WITHOUT_ALPHA = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_REFUSED = {"I": "32-bit integers", "F": "floating-point numbers"}
_TO_EIGHT_BITS = ((np.arange(2**16) + 128) // 257).astype(np.uint8)

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


def settled(image: Any, what: str = "the image") -> Image.Image:
    """Convert to mode L or RGB, or to RGBA if any of it is transparent, and turn the image as its EXIF data says.

    what: its name in an error. A file that PIL has opened is decoded here.

    Raises InputError for what is not a PIL image, an image without pixels or with more than MAX_PIXELS or
        MAX_SIDE, a mode without colours, and a damaged file.
    """
    check_size(*size_of(image), what)
    if image.format == "EPS":
        raise InputError(
            f"{what} is EPS, a program that Ghostscript would run; convert it to PNG first", code="request.image"
        )
    try:
        image = _opened_again(image, what)
        _check_tiff(image, what)
        key, file_format = _transparent_colour(image), image.format
        return _in_eight_bits(_turned(image), key, file_format, what)
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes of them: KeyError, struct.error, ...
        raise InputError(f"{what} cannot be read: {first_line(error)}", code="request.image") from None


def laid_on(image: Image.Image, colour: str) -> Image.Image:
    """Compose a settled image over a plain background: mode L or RGB."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("RGB")


def _check_tiff(image: Image.Image, what: str) -> None:
    """Refuse the TIFFs that Pillow opens as if they had unsigned samples of 16 bits, black at zero."""
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.mode in _REFUSED:
        return
    kinds = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    if any(kind != _UNSIGNED for kind in kinds):
        raise InputError(
            f"{what} is a TIFF of signed or floating-point numbers; convert it to 8 or 16 bits unsigned",
            code="request.image",
        )
    if image.mode in _SIXTEEN_BITS:
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        if bits != 16 or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            reason = f"{bits} bits" if bits != 16 else "white at zero"
            raise InputError(
                f"{what} is a grey TIFF with {reason}; convert it to 8 or 16 bits with black at zero",
                code="request.image",
            )


def _opened_again(image: Image.Image, what: str) -> Image.Image:
    """Return a PNG that PIL opened and has not decoded as `image.open_image` opens it: without its notes.

    PIL takes texts of a PNG for facts by their names, such as how its rows are interlaced and where they lie.
    """
    if not isinstance(image, PngImageFile) or not image.tile or image.tell() != 0 or image.fp is None:
        return image
    at = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise InputError(f"{what} has {size} bytes; expected at most {MAX_FILE_BYTES}", code="request.image")
    image.fp.seek(0)
    content = image.fp.read(size)
    image.fp.seek(at)
    with warnings.catch_warnings(action="ignore"):  # PIL gave them when it opened the file first
        return Image.open(io.BytesIO(without_notes(content, what)), formats=("PNG",))


def _turned(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says. PIL takes a PNG's texts of these names for facts; they say nothing."""
    image.load()
    texts = [name for name in ("exif", "xmp", "transparency") if _is_text(image, name)]
    if texts:
        image = image.copy()
        for name in texts:
            del image.info[name]
    return ImageOps.exif_transpose(image)


def _is_text(image: Image.Image, name: str) -> bool:
    """Return whether an entry of a decoded image's info is a text of its file; a newer PIL makes bytes of one."""
    value = image.info.get(name)
    text = image.text.get(name) if isinstance(image, PngImageFile) else None
    return isinstance(value, str) or (isinstance(text, str) and value == text.encode("latin-1", "replace"))


def _transparent_colour(image: Image.Image) -> Any:
    """Return the colour that a file without an alpha channel marks as transparent, as in its decoded pixels, or None.

    Pillow leaves the colour as a PNG has it, in 2, 4 or 16 bits, where it makes the pixels 8 bits wide.
    """
    key = image.info.get("transparency")
    if isinstance(key, str):  # a text of that name
        return None
    tiles = getattr(image, "tile", None)
    raw_mode = tiles[0][3] if tiles else None  # nothing is left of it once it is decoded
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):
        return key * (85 if raw_mode == "L;2" else 17)
    if isinstance(key, tuple) and (raw_mode == "RGB;16B" or max(key) > 255):
        return tuple(part >> 8 for part in key)
    return key


def _in_eight_bits(image: Image.Image, key: Any, file_format: str | None, what: str) -> Image.Image:
    """Convert a decoded image to L, RGB or RGBA. key: the transparent colour; file_format: the format of its file."""
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and file_format in _SIXTEEN_BITS_AT_MOST):
        return _from_sixteen_bits(np.asarray(image), key)
    if image.mode not in _WITHOUT_ALPHA + _WITH_ALPHA:
        holds = f", {_REFUSED[image.mode]}" if image.mode in _REFUSED else ""
        raise InputError(
            f"{what} has mode {image.mode}{holds}, of which none is known as white; convert it to L or RGB",
            code="request.image",
        )
    if image.mode in _WITH_ALPHA or key is not None:
        if key is not None:
            image.info["transparency"] = key
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            return image
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _from_sixteen_bits(values: np.ndarray, key: Any) -> Image.Image:
    grey = Image.fromarray(_TO_EIGHT_BITS[np.clip(values, 0, 2**16 - 1)])
    if key is None or not (values == key).any():
        return grey
    image = grey.convert("RGBA")
    image.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return image
