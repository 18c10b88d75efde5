"""Arrays to PIL images and back, and PNG files that tell how they were made."""

import os
import re
import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ldm_runtime.checks import check_integer, shown
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_file, refuse_existing, refuse_existing_in
from ldm_runtime.image_modes import first_line, laid_on, settled

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # that files may have; AVIF with Pillow 11.3 and newer
MAX_FILE_BYTES = 2**30  # MAX_PIXELS of four 16-bit numbers, twice; some decoders read the whole file first

_ENDING = ".png"
MOST_PICTURES = 10_000  # of one call: far more than a package takes at once
_PNG_ENDINGS = (_ENDING, ".apng")  # that Pillow knows


class GeneratedImage(Image.Image):
    """An RGB image whose `info` goes into the PNG it is saved to, which appears whole or not at all.

    PIL itself writes no `info` and leaves half a file when a disk is full. Whatever it makes from this image (a crop, a
    copy) is an ordinary image again.
    """

    @classmethod
    def of(cls, pixels: np.ndarray, info: Mapping[str, str]) -> Image.Image:
        """Make one of uint8 (H, W, 3)."""
        image = Image.fromarray(pixels)
        image.__class__ = cls  # PIL constructs subclasses through private fields only
        image.info.update(info)
        return image

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As `PIL.Image.Image.save`; a PNG gets `info` as text unless `pnginfo` is given."""
        is_path = isinstance(fp, str | bytes | os.PathLike)
        name = fp if is_path else getattr(fp, "name", "")  # of a file that is open, perhaps a number
        path = Path(os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "")
        if (path.suffix.lower() not in _PNG_ENDINGS) if format is None else (format.upper() != "PNG"):
            super().save(fp, format, **params)
        elif is_path:
            _write_png(self, path, force=True, **params)
        else:
            super().save(fp, "PNG", **{"pnginfo": png_text(texts(self)), **params})


def save_png(image: Image.Image, path: Path, metadata: Mapping[str, str] | None = None, *, force: bool = True) -> None:
    """Write `image` to `path` as PNG with `metadata` (None: its `info`) as text chunks, whole or not at all.

    Raises:
        InputError: `path` does not end in .png.
        LdmError: `path` exists and `force` is false, or cannot be written.
    """
    check_ending(path)
    _write_png(image, path, force=force, pnginfo=png_text(texts(image) if metadata is None else metadata))


def _write_png(image: Image.Image, path: Path, *, force: bool, **params: Any) -> None:
    params.setdefault("pnginfo", png_text(texts(image)))
    with atomic_file(Path(path), force=force) as temporary:
        Image.Image.save(image, temporary, "PNG", **params)


def png_text(metadata: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """Text chunks: tEXt where Latin-1 can say it, else iTXt. NUL, which none can hold, becomes U+FFFD."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        chunks.add_text(key, value.replace("\0", "\ufffd"))
    return chunks


def output_paths(out: Path | None, *, prompt: str, count: int, force: bool) -> list[Path]:
    """Where `count` pictures will go: `out`, or out-1.png, out-2.png …; named after the prompt if None.

    Called before the work starts: an ending other than .png, a folder that is missing or takes no files, a name that
    does not fit, and an existing file without `force` are refused now. A name made from the prompt never replaces
    a file.

    Raises:
        InputError, LdmError: as above, and for a `count` outside 1 to MOST_PICTURES.
    """
    check_integer("count", count, 1, MOST_PICTURES)
    if out is None:
        paths = _free_paths(prompt, count)
    else:
        check_ending(out)
        paths = [out] if count == 1 else [out.with_name(f"{out.stem}-{n + 1}{out.suffix}") for n in range(count)]
    refuse_existing(paths[-1], force=force)  # the longest name
    refuse_existing_in(paths[0].parent, [path.name for path in paths], force=force)
    return paths


def check_ending(path: Path) -> None:
    """Raise InputError unless `path` ends in .png."""
    if Path(path).suffix.lower() != _ENDING:
        raise InputError(f"the output {path} should end in {_ENDING}, the one format written here")


def to_images(pictures: np.ndarray, infos: Sequence[Mapping[str, str]]) -> list[Image.Image]:
    """float32 (B, 3, H, W) around [-1, 1] to PIL images, values beyond clipped, rounded to 8 bits."""
    pixels = np.clip(pictures * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    pixels = np.rint(pixels * np.float32(255.0)).astype(np.uint8).transpose(0, 2, 3, 1)
    return [GeneratedImage.of(np.ascontiguousarray(one), info) for one, info in zip(pixels, infos, strict=True)]


def from_images(images: Image.Image | Sequence[Image.Image]) -> np.ndarray:
    """PIL images of one size to float32 (B, 3, H, W) in [-1, 1]; transparency goes onto white.

    Raises InputError for anything else.
    """
    return pixels_of([settled(image) for image in listed(images)])


def pixels_of(pictures: Sequence[Image.Image]) -> np.ndarray:
    """The same of pictures that are settled (L, RGB or RGBA), of one size: no copy of one is made that needs none."""
    opaque = [laid_on(picture, "white") for picture in pictures]
    sizes = {image.size for image in opaque}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise InputError(f"the images have different sizes ({found}); expected one size")
    pixels = np.stack(
        [np.asarray(image if image.mode == "RGB" else image.convert("RGB"), np.float32) for image in opaque]
    )
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float32(127.5) - np.float32(1.0)


def listed(images: Image.Image | Sequence[Image.Image]) -> list[Image.Image]:
    """One image, or each of a list or tuple; InputError for anything else, and for none."""
    if isinstance(images, Image.Image):
        return [images]
    if not isinstance(images, list | tuple) or len(images) == 0:
        raise InputError(f"image is {shown(images)}; expected a PIL image or a list of at least one")
    return list(images)


def scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture in L or RGB at another size (Lanczos, as in diffusers), or itself."""
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def strip(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size side by side."""
    width, height = images[0].size
    joined = Image.new("RGB", (width * len(images), height))
    for index, image in enumerate(images):
        joined.paste(image, (index * width, 0))
    return joined


def open_image(path: Path) -> Image.Image:
    """Read a picture in one of FORMATS, of an animation the first frame, as `image_modes.settled` does.

    Raises InputError: no such file, no file of bytes, another format, damaged, or too large.
    """
    _check_file(path)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        # What a decoder warns of says nothing to who draws: it is refused, or harmless.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats) as image:
            return settled(image, f"the image {path}")
    except Image.UnidentifiedImageError:
        raise InputError(f"{path} is no picture that can be read; expected {', '.join(formats)}") from None
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes of them: KeyError, struct.error, ...
        raise InputError(f"{path} is no picture that can be read: {first_line(error)}") from None


def _check_file(path: Path) -> None:
    """Refuse what is no regular file, which may never end or never begin, and one of more than MAX_FILE_BYTES."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)  # without the path, which may be long
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {why}"
        raise InputError(f"the image {path} {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"the image {path} is no regular file; expected a picture in {', '.join(FORMATS)}")
    if status.st_size > MAX_FILE_BYTES:
        raise InputError(f"the image {path} has {status.st_size} bytes; expected at most {MAX_FILE_BYTES}")


def texts(image: Image.Image) -> dict[str, str]:
    """The part of PIL's `info` that is text; a decoded file has numbers and bytes there too."""
    return {str(key): value for key, value in image.info.items() if isinstance(value, str)}


def _free_paths(prompt: str, count: int) -> list[Path]:
    """The first names in the current folder, made from the prompt, that nothing has yet."""
    words = re.findall(r"[^\W_]+", prompt.lower())
    short = "-".join(words)[:60].encode()[:120].decode(errors="ignore").strip("-")  # file systems count bytes
    stem = short if short else "image"
    paths: list[Path] = []
    number = 1
    while len(paths) < count:
        path = Path(f"{stem}{_ENDING}" if number == 1 else f"{stem}-{number}{_ENDING}")
        if not os.path.lexists(path):
            paths.append(path)
        number += 1
    return paths
