"""Open a package folder: manifest parsed, every file in place, inside the folder, of the promised content.

Sizes, places and headers are checked at once. Hashes are computed on a thread while the caller creates its
sessions, and remembered by (path, device, inode, size, mtime, ctime) in the user's cache folder; `Package.confirm`
waits for them. Nothing of a package is trusted before that call returns. Links are followed by the rule of `links`.
"""

import functools
import hashlib
import os
import threading
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

from ldm_runtime.checks import check_path, shown
from ldm_runtime.errors import CHECK_ACCESS, FormatError, InputError, PackageError, refused_as, unreadable
from ldm_runtime.files import strict_json
from ldm_runtime.files.hash_cache import HashCache
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import manifest, manifest_json, safetensors
from ldm_runtime.package.external_data import read_graph
from ldm_runtime.package.token_table import known_tokens

Check = Literal["cached", "full", "size"]
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**24

# Raises the FormatError of a package's file as a PackageError.
refused = functools.partial(
    refused_as,
    PackageError,
    "fetch or build the package again",
    {
        "graph.external-data": "do not use this package, build it again",
        "json.unknown-key": "build it again, or install the version that wrote it",
        "manifest.version": "build the package again from its checkpoint with `ldm-export build`, or install the "
        "version that wrote it",
    },
)

# A file with such an ending that the manifest does not list is not loaded by us, but could be by others.
_MODEL_ENDINGS = {
    ".onnx",
    ".safetensors",
    ".plan",
    ".engine",
    ".ort",
    ".data",
    ".bin",
    ".xml",
    ".pt",
    ".pth",
    ".ckpt",
}


class Package:
    """An opened package. `path` is the folder, `identity` the SHA-256 of manifest.json in hexadecimal.

    `folder` reads files by the rule of `links`, and knows whether one has changed since.
    """

    def __init__(
        self, path: Path, parsed: manifest.Manifest, identity: str, check: Check, folder: ModelFolder | None = None
    ) -> None:
        self.path = path
        self.manifest = parsed
        self.identity = identity
        self.folder = _folder(path) if folder is None else folder
        self._failure: BaseException | None = None
        self._hashing: threading.Thread | None = None
        self._check, self._is_hashed = check, check == "size"
        if check != "size":
            self._hashing = threading.Thread(target=self._hash, name="package hashes", daemon=True)
            self._hashing.start()

    def file(self, relative: str) -> Path:
        """Return the path of a listed file. Raises PackageError if it has changed since the package was opened.

        It keeps its name and its neighbours, also where it is a link: graphs find their weights beside them. Of a file
        that is not listed nobody knows what it is, or where links in its path lead: it is refused.
        """
        if relative not in self.manifest.files:
            raise PackageError(
                f"the manifest of {self.path} does not list {relative}; build the package again", code="manifest.file"
            )
        self.folder.require_unchanged(relative)
        return self.path / relative

    def confirm(self) -> None:
        """Wait for the hashes. Raises PackageError if a file is not what the manifest says, or changes meanwhile."""
        hashing = self._hashing  # threads may wait at once
        if hashing is not None:
            hashing.join()
            if not self._is_hashed:  # in a forked process, where the thread stayed behind
                self._hash()
            self._hashing = None
        if self._failure is not None:
            raise self._failure
        self.folder.require_unchanged()

    def require_hashes(self) -> None:
        """Hash every file now. Raises PackageError as `confirm` does."""
        with refused():
            _check_hashes(self.path, self.manifest, self.manifest.files, use_cache=False)
        self.folder.require_unchanged()

    def _hash(self) -> None:
        try:
            with refused():
                _check_hashes(self.path, self.manifest, self.manifest.files, use_cache=self._check == "cached")
        except BaseException as error:  # handed to the thread that calls confirm
            self._failure = error
        self._is_hashed = True


def open_package(path: str | PathLike[str], *, check: Check = "cached") -> Package:
    """Open the package in folder `path`.

    check: "cached" hashes each file once and remembers it, "full" hashes now, "size" hashes only what is kept outside
    of the folder, in a hub's cache, and that before it returns.

    Raises:
        InputError: `check` is none of these.
        PackageError: no package, or one that is damaged, incomplete or unsafe; the message says which file.
    """
    if not isinstance(check, str) or check not in get_args(Check):
        raise InputError(f"check is {shown(check)}; expected one of {', '.join(get_args(Check))}")
    path = check_path("path", path)
    with refused():
        folder, content = _read_manifest(path)
        parsed = _parsed(path, content)
        _check_files(folder, parsed)
        if check == "size":
            _check_hashes(path, parsed, [name for name in parsed.files if folder.is_in_blobs(name)], use_cache=True)
        _check_graphs(path, parsed)
    return Package(path, parsed, hashlib.sha256(content).hexdigest(), check, folder)


def read_manifest(path: str | PathLike[str]) -> manifest.Manifest:
    """Read the manifest of the package in folder `path`; no other file is read.

    Raises InputError, PackageError: as `open_package` does for the manifest.
    """
    path = check_path("path", path)
    with refused():
        return _parsed(path, _read_manifest(path)[1])


def is_package(path: Path) -> bool:
    """Return whether `path` is a folder with a manifest, readable or not. Raises PackageError if it cannot tell."""
    try:
        return os.path.lexists(path / MANIFEST) and path.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise PackageError(f"cannot read {path}: {error.strerror}; {CHECK_ACCESS}", code="file.unreadable") from error


def _folder(path: Path) -> ModelFolder:
    return ModelFolder(path, "package", PackageError)


def _read_manifest(path: Path) -> tuple[ModelFolder, bytes]:
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise unreadable(path, error) from error
    if not exists:
        raise PackageError(f"there is no package at {path}: the folder does not exist", code="package.missing")
    if not is_folder:
        raise PackageError(f"{path} is a file; expected the folder of a package", code="package.missing")
    if not is_package(path):
        raise PackageError(
            f"{path} is not a package: it has no {MANIFEST}; make one with `ldm-export build {path} --out …`",
            code="package.missing",
        )
    folder = _folder(path)
    content = folder.read(MANIFEST, MAX_MANIFEST_BYTES)
    safetensors.refuse_lfs_stub(content, path / MANIFEST)
    return folder, content


def _parsed(path: Path, content: bytes) -> manifest.Manifest:
    where = str(path / MANIFEST)
    return manifest_json.parse(strict_json.decode(content, where), where)


def _check_files(folder: ModelFolder, parsed: manifest.Manifest) -> None:
    path = folder.path
    for name, entry in parsed.files.items():
        file = path / name
        size = folder.size(name)
        if size != entry.size:
            safetensors.refuse_lfs_stub(_start_of(file), file)
            damage = "truncated" if size < entry.size else "too long"
            what = f"is {damage}: it has {size} bytes, but the manifest says {entry.size}"
            raise FormatError(str(file), what, "file.size")
    for parent, _, names in os.walk(path):
        for name in names:
            relative = (Path(parent) / name).relative_to(path).as_posix()
            if Path(name).suffix.lower() in _MODEL_ENDINGS and relative not in parsed.files:
                raise PackageError(
                    f"{path} holds {relative}, which its manifest does not list; remove it or build again",
                    code="file.unlisted",
                )


def _check_graphs(path: Path, parsed: manifest.Manifest) -> None:
    """Check where each graph's weights are, and that text encoders know their tokenizer's ids."""
    for name, component in parsed.components.items():
        graphs = [artefact for artefact in component.artefacts if artefact.format == "onnx"]
        own = {file for graph in graphs for file in graph.files[1:]} - {component.weights}
        for data in (component.weights, *sorted(own)):
            safetensors.read_header(path / data)
        for artefact in graphs:
            content = read_graph(path / artefact.file, [file.rpartition("/")[2] for file in artefact.files[1:]])
            for text in parsed.contract.text:
                if text.component == name and artefact is component.canonical:
                    _check_vocabulary(path, artefact.file, content, text)


def _check_vocabulary(path: Path, graph: str, content: bytes, text: manifest.TextRole) -> None:
    known = known_tokens(content, text.input, str(path / graph))
    if known is not None and text.tokenizer.vocab_size > known:
        what = f"has a tokenizer of {text.tokenizer.vocab_size} tokens for {graph}, which knows {known}"
        raise FormatError(str(path / MANIFEST), what, "tokenizer.vocabulary")


def _start_of(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(64)
    except OSError as error:
        raise unreadable(file, error) from error


def _check_hashes(path: Path, parsed: manifest.Manifest, names: Iterable[str], *, use_cache: bool) -> None:
    cache = HashCache.of(path)
    for name in names:
        expected = parsed.files[name].sha256
        digest = cache.get(name) if use_cache else None
        if digest is None:
            digest = cache.measure(name)
        if digest != expected:
            what = f"has changed: its SHA-256 is {digest[:16]}…, but the manifest says {expected[:16]}…"
            raise FormatError(str(path / name), what, "file.hash")
    cache.save()
