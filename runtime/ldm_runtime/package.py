"""Open a package folder: manifest parsed, every file in place, inside the folder, of the promised content.

Sizes, places and headers are checked at once. Hashes are computed on a thread while the caller creates its
sessions, and remembered by (path, device, inode, size, mtime) in the user's cache folder; `Package.confirm`
waits for them. Nothing of a package is trusted before that call returns.
"""

import hashlib
import os
import stat
import threading
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

from ldm_runtime import manifest, safetensors
from ldm_runtime.checks import check_path
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.external_data import check_external_data
from ldm_runtime.hash_cache import HashCache

Check = Literal["cached", "full", "size"]
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer/tokenizer.json"
MAX_MANIFEST_BYTES = 2**24

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
    """An opened package. `path` is the folder, `identity` the SHA-256 of manifest.json in hexadecimal."""

    def __init__(self, path: Path, parsed: manifest.Manifest, identity: str, check: Check) -> None:
        self.path = path
        self.manifest = parsed
        self.identity = identity
        self._failure: BaseException | None = None
        self._hashing: threading.Thread | None = None
        if check != "size":
            self._hashing = threading.Thread(target=self._hash, args=(check,), name="package hashes", daemon=True)
            self._hashing.start()

    def file(self, relative: str) -> Path:
        """Where a file that the manifest lists is."""
        return self.path / relative

    def confirm(self) -> None:
        """Wait for the hashes. Raises PackageError if a file is not what the manifest says."""
        if self._hashing is not None:
            self._hashing.join()
            self._hashing = None
        if self._failure is not None:
            raise self._failure

    def _hash(self, check: Check) -> None:
        try:
            _check_hashes(self.path, self.manifest, use_cache=check == "cached")
        except BaseException as error:  # handed to the thread that calls confirm
            self._failure = error


def open_package(path: str | PathLike[str], *, check: Check = "cached") -> Package:
    """Open the package in folder `path`.

    check: "cached" hashes each file once and remembers it, "full" hashes now, "size" never hashes.

    Raises:
        InputError: `check` is none of these.
        PackageError: no package, or one that is damaged, incomplete or unsafe; the message says which file.
    """
    if check not in get_args(Check):
        raise InputError(f"check is {check!r}; expected one of {', '.join(get_args(Check))}")
    path = check_path("path", path)
    content = _read_manifest(path)
    parsed = manifest.parse(_text(content, path / MANIFEST), str(path / MANIFEST))
    _check_files(path, parsed)
    for component in parsed.components.values():
        safetensors.read_header(path / component.weights)
        for variant in component.variants:
            if variant.engine != "openvino":
                check_external_data(path / variant.file, component.weights.rpartition("/")[2])
    if TOKENIZER not in parsed.files:
        raise PackageError(f"{path / MANIFEST} does not list {TOKENIZER}; build the package again")
    return Package(path, parsed, hashlib.sha256(content).hexdigest(), check)


def _read_manifest(path: Path) -> bytes:
    if not path.exists():
        raise PackageError(f"there is no package at {path}: the folder does not exist")
    if not path.is_dir():
        raise PackageError(f"{path} is a file; expected the folder of a package")
    if not (path / MANIFEST).exists():
        raise PackageError(
            f"{path} is not a package: it has no {MANIFEST}; make one with `ldm-export build {path} --out …`"
        )
    size = _regular_size(path.resolve(), path / MANIFEST)
    if size > MAX_MANIFEST_BYTES:
        raise PackageError(f"{path / MANIFEST} has {size} bytes; expected at most {MAX_MANIFEST_BYTES}")
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise PackageError(f"cannot read {path / MANIFEST}: {error.strerror}") from error
    safetensors.refuse_lfs_stub(content, path / MANIFEST)
    return content


def _text(content: bytes, where: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageError(f"{where} is not UTF-8 at byte {error.start}; build the package again") from None


def _check_files(path: Path, parsed: manifest.Manifest) -> None:
    root = path.resolve()
    for name, entry in parsed.files.items():
        file = path / name
        size = _regular_size(root, file)
        if size != entry.size:
            safetensors.refuse_lfs_stub(_start_of(file), file)
            damage = "truncated" if size < entry.size else "too long"
            raise PackageError(
                f"{file} is {damage}: it has {size} bytes, but the manifest says {entry.size}; fetch it again"
            )
    for folder, _, names in os.walk(path):
        for name in names:
            relative = (Path(folder) / name).relative_to(path).as_posix()
            if Path(name).suffix.lower() in _MODEL_ENDINGS and relative not in parsed.files:
                raise PackageError(
                    f"{path} holds {relative}, which its manifest does not list; remove it or build again"
                )


def _start_of(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(64)
    except OSError as error:
        raise PackageError(f"cannot read {file}: {error.strerror}") from error


def _regular_size(root: Path, file: Path) -> int:
    """Bytes of a regular file whose real place is below `root`."""
    try:
        real = file.resolve(strict=True)
        status = real.stat()
    except FileNotFoundError:
        raise PackageError(f"{file} is missing; fetch the package again") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links before Python 3.13
        raise PackageError(f"cannot read {file}: {error}") from error
    if not real.is_relative_to(root):
        raise PackageError(f"{file} is a link to {real}, outside the package; copy the file into the package")
    if not stat.S_ISREG(status.st_mode):
        raise PackageError(f"{file} is not a regular file; fetch the package again")
    return status.st_size


def _check_hashes(path: Path, parsed: manifest.Manifest, *, use_cache: bool) -> None:
    cache = HashCache.of(path)
    for name, entry in parsed.files.items():
        digest = cache.get(name) if use_cache else None
        if digest is None:
            digest = cache.measure(name)
        if digest != entry.sha256:
            raise PackageError(
                f"{path / name} has changed: its SHA-256 is {digest[:16]}…, but the manifest says "
                f"{entry.sha256[:16]}…; fetch or build the package again"
            )
    cache.save()
