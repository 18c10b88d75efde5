"""SHA-256 of the files of a folder, remembered in the user's cache folder until a file changes.

A file counts as unchanged while its device, inode, size, modification time and time of change (st_ctime: of its
content, permissions and names, which no program sets) are the same, in ns. Whoever can forge those, with the clock or
the disk, can change files unseen; `--check full` does not use this.
"""

import dataclasses
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from ldm_runtime.errors import LdmError, unreadable
from ldm_runtime.files.atomic import atomic_file, refuse_unwritable
from ldm_runtime.files.journal import is_on_its_way

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 2**24


@dataclasses.dataclass
class HashCache:
    folder: Path
    place: Path | None  # the cache's own file; None: nothing is remembered
    known: dict[str, Any]  # name -> [device, inode, size, mtime_ns, ctime_ns, digest]
    changed: bool = False

    @classmethod
    def of(cls, folder: Path) -> "HashCache":
        """Read the remembered hashes of `folder`; a cache that cannot be read counts as empty."""
        folder = folder.resolve()
        key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
        cache = cache_folder()
        if cache is None or is_on_its_way(folder):
            return cls(folder, None, {})
        place = cache / "hashes" / f"{key}.json"
        try:
            if not place.is_file() or place.stat().st_size > _MAX_BYTES:
                raise ValueError("there is no file, or an immense one")
            known = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            _LOG.debug("no remembered hashes in %s: %s", place, error)
            known = {}
        return cls(folder, place, known if isinstance(known, dict) else {})

    def get(self, name: str) -> str | None:
        """Return the digest of `name` if it was measured and the file has not changed since."""
        entry = self.known.get(name)
        if not isinstance(entry, list) or entry[:-1] != _state(self.folder / name) or type(entry[-1]) is not str:
            return None
        digest: str = entry[-1]
        return digest

    def measure(self, name: str) -> str:
        """Hash `name` now and remember it. Raises FormatError if it cannot be read."""
        file = self.folder / name
        try:
            before = _state(file)
            digest = sha256_of(file)
            if _state(file) == before:
                self.known[name] = [*before, digest]
                self.changed = True
        except OSError as error:
            raise unreadable(file, error) from error
        return digest

    def save(self) -> None:
        """Write what was measured; where that is not possible the next load hashes again."""
        if not self.changed or self.place is None:
            return
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.place) as temporary:
                temporary.write_text(json.dumps(self.known), encoding="utf-8")
        except (OSError, LdmError) as error:
            _LOG.debug("hashes are not remembered: %s", error)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    with open(file, "rb", buffering=0) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def cache_folder() -> Path | None:
    """Return the folder of the user's caches, by the custom of the operating system.

    None for a user without a home: then nothing is kept. A relative place does not count.
    """
    names = {"win32": ("AppData", "Local"), "darwin": ("Library", "Caches")}.get(sys.platform, (".cache",))
    variable = {"win32": "LOCALAPPDATA", "darwin": None}.get(sys.platform, "XDG_CACHE_HOME")
    parent = Path(os.environ.get(variable, "")) if variable is not None else Path()
    if not parent.is_absolute():
        try:
            parent = Path.home().joinpath(*names)
        except RuntimeError as error:
            _LOG.debug("no cache folder: %s", error)
            return None
    return parent / "ldm_runtime" if parent.is_absolute() else None


def make_cache_folder(*names: str) -> Path | None:
    """Make and try the folder of these names in the cache; return None where nothing can be kept in it."""
    cache = cache_folder()
    if cache is None:
        return None
    folder = cache.joinpath(*names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_unwritable(folder)
    except (OSError, ValueError, LdmError) as error:
        _LOG.debug("nothing is kept in %s: %s", folder, error)
        return None
    return folder


def stamp(file: Path) -> list[int]:
    """Return what tells a file from another in its place: device, inode, bytes, modification time in ns."""
    return _state(file)[:-1]


def _state(file: Path) -> list[int]:
    """Return a file's stamp, and when it was changed last in any way."""
    status = file.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
