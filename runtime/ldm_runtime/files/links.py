"""The one rule for every reader of a model's folder: which files are read, and when a link is followed.

A model's folder comes from somebody else, and a link in it could lead to any file of the reader's. So a name counts
only if the place that all its links lead to is

- in the folder itself, or
- where the folder is a snapshot in the cache of Hugging Face's hub (`…/models--OWNER--NAME/snapshots/REVISION`),
  directly in `…/models--OWNER--NAME/blobs`, which holds the contents of all revisions of that one repository.

What is there must be a regular file: no folder, pipe, socket or device. For a package the content of a link into
`blobs` must be what the manifest's hash says; only the manifest itself and the report of the proof, which is written
after it, have none. A hard link is a file like any other: it cannot be told from one.
"""

import functools
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ldm_runtime.errors import CHECK_ACCESS, LdmError
from ldm_runtime.files.hash_cache import stamp
from ldm_runtime.files.reading import read_at_most

T = TypeVar("T")

_REPOSITORY = re.compile("(models|datasets|spaces)--.+")
# The name was resolved before: a link that has come since is not followed, and a pipe does not hang.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class ModelFolder:
    """The folder of a model, which remembers the state of each file when it was first used.

    path: the folder, which may itself be reached by links: the user named it. what: "package" or "checkpoint", for
    messages. error: the class of errors.
    """

    def __init__(self, path: Path, what: str, error: type[LdmError]) -> None:
        self.path = path
        self._what = what
        self._error = error
        self._real = path.resolve()
        self._blobs = blobs_of(self._real)
        self._seen: dict[str, list[int]] = {}

    @property
    def used(self) -> tuple[str, ...]:
        """Return the names of the files that were used so far."""
        return tuple(self._seen)

    def names(self, below: str = ".", *, most: int) -> list[str]:
        """List the files, of whatever kind, directly in its folder `below`. Raises if there are more than `most`."""
        folder = self.path / below
        found = [name for name in self._system(folder, lambda: os.listdir(folder)) if not os.path.isdir(folder / name)]
        if len(found) > most:
            raise self._error(
                f"{folder} has {len(found)} files; expected at most {most}: remove what is not the model's",
                code="file.too-large",
            )
        return sorted(found)

    def file(self, name: str) -> Path:
        """Return the path of the content of `name` (relative, posix), no link at its end. Raises by the rule above."""
        real, _ = self._resolve(name)
        return self.path / name if real == self._real / name else real

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises as `file`."""
        return self._resolve(name)[1].st_size

    def is_in_blobs(self, name: str) -> bool:
        """Return whether the file is kept outside of the folder, in the cache's `blobs`. Raises as `file`."""
        if self._blobs is None:  # every folder that is not a snapshot
            return False
        real, _ = self._resolve(name)
        return real.parent == self._blobs and not real.is_relative_to(self._real)

    def read(self, name: str, limit: int) -> bytes:
        """Read the whole content, `limit` bytes at most. Raises as `file`, or if there is more."""
        place = self.file(name)

        def read() -> bytes:
            with open(place, "rb", opener=lambda path, _: os.open(path, _FLAGS)) as opened:
                return read_at_most(opened, limit) if stat.S_ISREG(os.fstat(opened.fileno()).st_mode) else b""

        content = self._system(self.path / name, read)
        if len(content) > limit:
            raise self._error(
                f"{self.path / name} has {self.size(name)} bytes; expected at most {limit}: it is not such a file",
                code="file.too-large",
            )
        self.require_unchanged(name)
        return content

    def require_unchanged(self, *names: str) -> None:
        """Raise if a file (none named: any) is not the one that it was when it was first used."""
        for name in names or tuple(self._seen):
            file = self.path / name
            if name in self._seen and self._seen[name] != self._system(file, functools.partial(stamp, file)):
                raise self._error(
                    f"{file} has changed since the {self._what} was opened; let nothing write to it meanwhile, and "
                    f"start again",
                    code="file.changed",
                )

    def _resolve(self, name: str) -> tuple[Path, os.stat_result]:
        """Return (the real place, its status)."""
        file = self.path / name
        real = self._system(file, lambda: file.resolve(strict=True))
        if not real.is_relative_to(self._real) and real.parent != self._blobs:
            raise self._error(
                f"{file} is a link to {real}, outside the {self._what}; copy the file into the {self._what}",
                code="file.link",
            )
        status = self._system(file, lambda: os.stat(real, follow_symlinks=False))
        if not stat.S_ISREG(status.st_mode):
            raise self._error(f"{file} is not a regular file; fetch the {self._what} again", code="file.kind")
        self._seen.setdefault(name, [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns])
        return real, status

    def _system(self, file: Path, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what the system says against `file` as this folder's error."""
        try:
            return call()
        except FileNotFoundError:
            raise self._error(f"{file} is missing; fetch the {self._what} again", code="file.missing") from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links before Python 3.13
            reason = getattr(error, "strerror", None)
            what = f"cannot read {file}: {reason if reason else error}; {CHECK_ACCESS}"
            raise self._error(what, code="file.unreadable") from error
        except ValueError as error:  # a NUL in the name
            raise self._error(f"cannot read {file}: {error}", code="file.unreadable") from None


def blobs_of(real: Path) -> Path | None:
    """Return where a hub's cache keeps the contents of the repository of which `real` is (part of) a snapshot.

    The place is spelt, not resolved: a `blobs` that is a link itself leads out of the repository.
    """
    for folder in (real, *real.parents):
        repository = folder.parent.parent
        if folder.parent.name == "snapshots" and _REPOSITORY.fullmatch(repository.name) is not None:
            return repository / "blobs"
    return None
