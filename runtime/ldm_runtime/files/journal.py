"""The mark of an output that is being written: a journal beside it, locked as long as its process lives.

Beside `NAME`, while it is written, lie

    .ldm-TOKEN.journal       who writes what; the operating system drops its lock when the process ends, however it ends
    .ldm-TOKEN.partial[.png] what becomes NAME
    .ldm-TOKEN.old           the folder that had the name before, for the moment of the exchange
    .ldm-TOKEN.discarded     the same, once another writer's has replaced it
    .ldm-TOKEN.probe         for the moment in which it is tried whether the folder takes a file of that name

TOKEN is 32 random hexadecimal digits. `sweep` is the one place that removes what a killed process left. It goes by
journals: by their lock, their owner and their host, never by the number of a process; no other file is looked at.
"""

import contextlib
import io
import json
import logging
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ldm_runtime.checks import shown
from ldm_runtime.errors import OutputError

_LOG = logging.getLogger(__name__)
_JOURNAL = re.compile(r"\.ldm-([0-9a-f]{32})\.journal")
_ON_ITS_WAY = re.compile(r"\.ldm-[0-9a-f]{32}\.(partial|old).*")
_FORMAT = "ldm-export: an output that is being written"
_MAX_BYTES = 2**14  # a name has at most 255 bytes, six characters each in JSON
_LOCKED_BYTE = 2**30  # Windows locks bytes, also those beyond the end
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}")  # libraries choose the format of a file by it


@dataclass(frozen=True)
class Journal:
    """The names that one output has on its way, and the lock that says that its writer lives."""

    folder: Path
    token: str
    target: str  # the name that the output will have in `folder`
    lock_file: io.FileIO

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Begin an output; `close` ends it. Raises OSError if the folder takes no files."""
        while True:
            token = secrets.token_hex(16)
            file = path.parent / f".ldm-{token}.journal"
            lock_file = None
            try:
                lock_file = io.FileIO(file, "x+", opener=_open_private)
                locked = lock(lock_file.fileno())
                if locked is not False and _is_at(lock_file.fileno(), file):  # else a sweep came in between
                    content = {"format": _FORMAT, "host": platform.node(), "target": path.name}
                    os.write(lock_file.fileno(), json.dumps(content).encode())
                    return cls(path.parent, token, path.name, lock_file)
                lock_file.close()
            except BaseException as error:  # a request to end too, at any moment
                if lock_file is not None:
                    lock_file.close()
                elif isinstance(error, OSError):
                    raise  # nothing was made; a file of that name is another writer's
                with contextlib.suppress(OSError):
                    file.unlink()
                raise

    def partial(self, suffix: str = "") -> Path:
        return self._name("partial" + (suffix if _SUFFIX.fullmatch(suffix) else ""))

    @property
    def partials(self) -> set[Path]:
        """What the output may be on its way: a file keeps its suffix, a folder has none."""
        return {self.partial(), self.partial(Path(self.target).suffix)}

    @property
    def asides(self) -> tuple[Path, ...]:
        """What an output may have beside it for a moment."""
        return (self._name("discarded"), self._name("probe"))

    @property
    def old(self) -> Path:
        return self._name("old")

    def discard_old(self) -> None:
        """Remove the old folder, if there is one, under a name that no kill brings back. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.old, self._name("discarded"))
        remove(self._name("discarded"))

    def prove_name(self) -> None:
        """Make a file with the target's name, in a folder of its own, which stays until the output ends.

        Raises OSError, ValueError.
        """
        probe = self._name("probe")
        probe.mkdir()
        with open(probe / self.target, "xb"):
            pass

    def sync(self) -> None:
        """Make sure that the journal outlives a power failure."""
        os.fsync(self.lock_file.fileno())
        sync_folder(self.folder)

    def close(self) -> None:
        """End the output, also when this is the second call because a request to end came in the middle of the first.

        The journal stays, for a later sweep, as long as there is something that it tells of.
        """
        if sys.platform == "win32":  # where an open file cannot be removed
            self.lock_file.close()
        try:
            if not any(os.path.lexists(name) for name in (*self.partials, *self.asides, self.old)):
                self._name("journal").unlink(missing_ok=True)
        finally:
            self.lock_file.close()

    def _name(self, ending: str) -> Path:
        return self.folder / f".ldm-{self.token}.{ending}"


def sweep(folder: Path, target: str) -> None:
    """Remove what dead processes left of outputs in `folder`, and bring back a folder that had to make way.

    What belongs to a living process, another user or another host stays, as does every file without a journal.

    Raises:
        OutputError: the folder `target` had to make way and cannot come back, since its name was taken meanwhile.
    """
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):
        return  # what comes next refuses the output, or can make it without seeing what else is there
    for name in names:
        found = _JOURNAL.fullmatch(name)
        if found is None:
            continue
        mine = [each for each in names if each.startswith(f".ldm-{found[1]}.")]
        try:
            _sweep_one(folder, found[1], mine, target)
        except OSError as error:
            _LOG.debug("%s stays in %s: %s", name, folder, error)


def is_on_its_way(path: Path) -> bool:
    """Return whether a folder has the name of an output on its way: it will never have that name again."""
    return _ON_ITS_WAY.fullmatch(path.name) is not None


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, or nothing if there is none. Raises OSError."""
    handled = sys.exception()
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        cause = error.__context__
        while cause is not None and cause is not handled:
            if isinstance(cause, SystemExit | KeyboardInterrupt):
                raise cause from None  # rmtree closes a descriptor twice where a request comes in between
            cause = cause.__context__
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power failure, where the platform can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot
        _LOG.debug("%s is not synced: %s", folder, error)
    finally:
        os.close(descriptor)


def _sweep_one(folder: Path, token: str, names: list[str], wanted: str) -> None:
    file = folder / f".ldm-{token}.journal"
    with io.FileIO(file, "r+", opener=_open_plain) as lock_file:
        descriptor = lock_file.fileno()
        if not _is_mine(descriptor) or (locked := lock(descriptor)) is False or not _is_at(descriptor, file):
            return
        found = _read(descriptor)
        if found is None:
            return
        target, host = found
        journal = Journal(folder, token, target, lock_file)
        if not locked or host != platform.node():
            if target == wanted:
                _refuse_stranded(journal, host)
            return
        if journal.old.name in names and not _settle_old(journal, wanted):
            return
        for name in names:
            if name not in (file.name, journal.old.name):
                _remove_from_orphans(folder / name)
        if sys.platform != "win32":
            file.unlink()
    if sys.platform == "win32":
        file.unlink()


def _remove_from_orphans(path: Path) -> None:
    """Remove what a child of the dead process may still write into, until it has noticed that it is alone."""
    for _ in range(20):
        with contextlib.suppress(OSError):
            remove(path)
            return
        time.sleep(0.1)
    remove(path)


def _settle_old(journal: Journal, wanted: str) -> bool:
    """Return whether an old folder is settled: removed if it was replaced (nothing partial left), else in its place."""
    if not os.path.lexists(journal.partial()):
        remove(journal.old)
        return True
    path = journal.folder / journal.target
    if journal.target != "" and not os.path.lexists(path):
        os.rename(journal.old, path)
        return True
    if journal.target != wanted:
        return False
    raise OutputError(
        f"{path} was being replaced when an earlier call was killed, and was made anew since; what it held before is "
        f"in {journal.old}: move that elsewhere and remove {journal.partial()}, then run again"
    )


def _refuse_stranded(journal: Journal, host: str) -> None:
    """Raise OutputError if a folder had to make way for a writer of which nobody here can say whether it lives."""
    path = journal.folder / journal.target
    if os.path.lexists(journal.old) and not os.path.lexists(path):
        raise OutputError(
            f"{path} is being replaced by a process on {shown(host)}, or was when that ended; what it held is in "
            f"{journal.old}: if no such process lives, move that back to {path} and remove {journal.partial()}"
        )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _open_plain(path: str, flags: int) -> int:
    """Open no link, and wait for no pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_mine(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and (sys.platform == "win32" or status.st_uid == os.geteuid())


def _is_at(descriptor: int, file: Path) -> bool:
    """Return whether the opened file still has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(file))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> tuple[str, str] | None:
    """Read target and host from a journal: target "" if its writer was killed before it wrote, None if it is none."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, _MAX_BYTES)
    if content == b"":
        return "", platform.node()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        return None
    target, host = value.get("target"), value.get("host")
    if not isinstance(target, str) or not isinstance(host, str):
        return None
    return (target, host) if _is_name(target) else None


def _is_name(text: str) -> bool:
    """Return whether a file of this system can be called so."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return text not in ("", ".", "..") and not set(text) & {"/", "\0", os.sep}


def lock(descriptor: int) -> bool | None:
    """Lock the file for this process: True, False where another one has it, None where files cannot be locked."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True
