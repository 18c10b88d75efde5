"""SHA-256 of the files of a folder, remembered in the user's cache folder until a file changes.

A file counts as unchanged while its device, inode, size and modification time (ns) are the same. Whoever can
forge those can change files unseen; `--check full` does not use this.
"""

import dataclasses
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from ldm_runtime.atomic import atomic_file
from ldm_runtime.errors import LdmError, PackageError

_LOG = logging.getLogger(__name__)
_CHUNK = 2**20


@dataclasses.dataclass
class HashCache:
    folder: Path
    place: Path  # the cache's own file
    known: dict[str, Any]  # name -> [device, inode, size, mtime_ns, digest]
    changed: bool = False

    @classmethod
    def of(cls, folder: Path) -> "HashCache":
        """The remembered hashes of `folder`; a cache that cannot be read counts as empty."""
        folder = folder.resolve()
        key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
        place = cache_folder() / "hashes" / f"{key}.json"
        try:
            known = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            _LOG.debug("no remembered hashes in %s: %s", place, error)
            known = {}
        return cls(folder, place, known if isinstance(known, dict) else {})

    def get(self, name: str) -> str | None:
        """The digest of `name` if it was measured and the file has not changed since."""
        entry = self.known.get(name)
        if not isinstance(entry, list) or entry[:-1] != stamp(self.folder / name) or type(entry[-1]) is not str:
            return None
        digest: str = entry[-1]
        return digest

    def measure(self, name: str) -> str:
        """Hash `name` now and remember it. Raises PackageError if it cannot be read."""
        file = self.folder / name
        digest = hashlib.sha256()
        try:
            before = stamp(file)
            with open(file, "rb", buffering=0) as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
            if stamp(file) == before:
                self.known[name] = [*before, digest.hexdigest()]
                self.changed = True
        except OSError as error:
            raise PackageError(f"cannot read {file}: {error.strerror}") from error
        return digest.hexdigest()

    def save(self) -> None:
        """Write what was measured; where that is not possible the next load hashes again."""
        if not self.changed:
            return
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.place) as temporary:
                temporary.write_text(json.dumps(self.known), encoding="utf-8")
        except (OSError, LdmError) as error:
            _LOG.debug("hashes are not remembered: %s", error)


def cache_folder() -> Path:
    """Where this project keeps caches for the user, by the custom of the operating system."""
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA")
        default = Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        parent, default = None, Path.home() / "Library" / "Caches"
    else:
        parent, default = os.environ.get("XDG_CACHE_HOME"), Path.home() / ".cache"
    return (default if parent is None or parent == "" else Path(parent)) / "ldm_runtime"


def stamp(file: Path) -> list[int]:
    """What tells a file from another one in its place: device, inode, bytes, modification time in ns."""
    status = file.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
