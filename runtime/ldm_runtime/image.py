"""PIL images to arrays and back, and PNG files that record how they were made."""

import io
import os
import re
import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ldm_runtime.checks import check_integer, first_line, shown
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_file, refuse_existing, refuse_existing_in
from ldm_runtime.files.reading import read_at_most
from ldm_runtime.image_modes import laid_on, settled
from ldm_runtime.image_size import MAX_FILE_BYTES
from ldm_runtime.png.chunks import SIGNATURE, without_notes

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # that files may have; AVIF with Pillow 11.3 and newer

_ENDING = ".png"
MAX_IMAGES = 10_000  # in one call: far more than a package takes at once
_PNG_ENDINGS = (_ENDING, ".apng")  # that Pillow knows


class GeneratedImage(Image.Image):
    """An RGB image that saves its `info` into a PNG, which appears whole or not at all.

    PIL itself writes no `info` and leaves half a file when a disk is full. Whatever it makes from this image (a crop, a
    copy) is an ordinary image again.
    """

    @classmethod
    def of(cls, pixels: np.ndarray, info: Mapping[str, str]) -> Image.Image:
        """Make an image from pixels, uint8 (H, W, 3)."""
        image = Image.fromarray(pixels)
        image.__class__ = cls  # PIL constructs subclasses through private fields only
        image.info.update(info)
        return image

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Save as `PIL.Image.Image.save` does; a PNG gets `info` as text unless `pnginfo` is given."""
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
    """Make text chunks: tEXt for Latin-1, else iTXt. NUL, which neither can hold, becomes U+FFFD."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        chunks.add_text(key, value.replace("\0", "\ufffd"))
    return chunks


def output_paths(out: Path | None, *, prompt: str, count: int, force: bool) -> list[Path]:
    """Return the paths of `count` images: `out`, or out-1.png, out-2.png …; named after the prompt if `out` is None.

    Called before the work starts: an ending other than .png, a folder that is missing or takes no files, a name that
    does not fit, and an existing file without `force` are refused now. A name made from the prompt never replaces
    a file.

    Raises:
        InputError, LdmError: as above, and for a `count` outside 1 to MAX_IMAGES.
    """
    check_integer("count", count, 1, MAX_IMAGES)
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


def to_images(pixels: np.ndarray, infos: Sequence[Mapping[str, str]]) -> list[Image.Image]:
    """Convert pixels, float32 (B, 3, H, W), to PIL images."""
    levels = to_levels(pixels)
    return [GeneratedImage.of(np.ascontiguousarray(one), info) for one, info in zip(levels, infos, strict=True)]


def to_levels(pixels: np.ndarray) -> np.ndarray:
    """Clip pixels, float32 (B, 3, H, W), to [-1, 1] and round them to uint8 (B, H, W, 3)."""
    shares = np.clip(pixels * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.rint(shares * np.float32(255.0)).astype(np.uint8).transpose(0, 2, 3, 1)


def from_levels(levels: np.ndarray) -> np.ndarray:
    """Convert uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], channels last in memory as they were."""
    return (levels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)).transpose(0, 3, 1, 2)


def from_images(images: Image.Image | Sequence[Image.Image]) -> np.ndarray:
    """Convert PIL images of one size to pixels in [-1, 1], float32 (B, 3, H, W); transparent ones over white.

    Raises InputError for anything else.
    """
    return pixels_of([settled(image) for image in listed(images)])


def pixels_of(images: Sequence[Image.Image]) -> np.ndarray:
    """Convert images of one size in mode L, RGB or RGBA, as `settled` returns them. See `from_images`."""
    opaque = [laid_on(image, "white") for image in images]
    sizes = {image.size for image in opaque}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise InputError(f"the images have different sizes ({found}); expected one size", code="request.image")
    levels = np.stack([np.asarray(image if image.mode == "RGB" else image.convert("RGB")) for image in opaque])
    return np.ascontiguousarray(from_levels(levels))


def listed(images: Image.Image | Sequence[Image.Image]) -> list[Image.Image]:
    """Return one image, or those of a list or tuple, as a list; raise InputError for anything else and for none."""
    if isinstance(images, Image.Image):
        return [images]
    if not isinstance(images, list | tuple) or len(images) == 0:
        raise InputError(
            f"image is {shown(images)}; expected a PIL image or a list of at least one", code="request.image"
        )
    return list(images)


def scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resize an image in mode L or RGB (Lanczos, as in diffusers); one of that size is returned itself."""
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def strip(images: Sequence[Image.Image]) -> Image.Image:
    """Join images of one size side by side."""
    width, height = images[0].size
    joined = Image.new("RGB", (width * len(images), height))
    for index, image in enumerate(images):
        joined.paste(image, (index * width, 0))
    return joined


def open_image(path: Path) -> Image.Image:
    """Read an image in one of FORMATS, the first frame of an animation, in a mode that `image_modes.settled` returns.

    Raises InputError for a file that is missing, not regular, in another format, damaged, or too large.
    """
    _check_file(path)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        # A decoder's warnings do not help the user: the image is refused, or they are harmless.
        with warnings.catch_warnings(action="ignore"), Image.open(_opened(path), formats=formats) as image:
            return settled(image, f"the image {path}")
    except Image.UnidentifiedImageError:
        raise InputError(
            f"{path} is not an image that can be read; expected {', '.join(formats)}", code="request.image"
        ) from None
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes of them: KeyError, struct.error, ...
        raise InputError(
            f"{path} is not an image that can be read: {first_line(error)}", code="request.image"
        ) from None


def _check_file(path: Path) -> None:
    """Refuse a file that is not regular, which may never end or never begin, or has more than MAX_FILE_BYTES."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)  # without the path, which may be long
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {why}"
        raise InputError(f"the image {path} {reason}", code="request.image") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"the image {path} is not a regular file; expected an image in {', '.join(FORMATS)}", code="request.image"
        )
    if status.st_size > MAX_FILE_BYTES:
        raise InputError(
            f"the image {path} has {status.st_size} bytes; expected at most {MAX_FILE_BYTES}", code="request.image"
        )


def _opened(path: Path) -> Path | io.BytesIO:
    """Return what Pillow is to read: the file itself, or of a PNG no more than its pixels need."""
    with Path(path).open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return path
        file.seek(0)
        return io.BytesIO(without_notes(read_at_most(file, MAX_FILE_BYTES), str(path)))


def texts(image: Image.Image) -> dict[str, str]:
    """Return the entries of PIL's `info` that are text; a decoded file has numbers and bytes there too."""
    return {str(key): value for key, value in image.info.items() if isinstance(value, str)}


def _free_paths(prompt: str, count: int) -> list[Path]:
    """Return the first unused names in the current folder that are made from the prompt."""
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
