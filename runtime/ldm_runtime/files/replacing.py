"""What stands where an output shall be, and whether it may be replaced.

An output never goes through a link, and an existing folder is replaced only if its kind allows it.
"""

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from ldm_runtime.errors import LdmError, OutputError
from ldm_runtime.files.trouble import absolute, refused

# Raises OutputError unless the folder at a path may be replaced: a check of what is in it.
MayReplace = Callable[[Path], None]

MOST_EXCHANGES = 100  # every further round means that another writer has just finished


def refuse_foreign(folder: Path, is_known: Callable[[str], bool], kind: str) -> None:
    """Raise OutputError if `folder` holds more than a folder of its `kind` does; the first file is named.

    is_known: whether a file of that name, with `/` and below `folder`, is one that such a folder has.
    """
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*names, *links]):
            file = Path(place, name)
            if file.is_symlink() or not is_known(file.relative_to(folder).as_posix()):
                raise OutputError(
                    f"{folder} is not replaced: it holds {file}, which is not part of {kind}; move it first"
                )


def refuse_file(path: Path, *, force: bool) -> None:
    status = status_of(path)
    if status is None:
        return
    _refuse_link(path, status)
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"cannot write the file {path}: a folder has that name; choose another output")
    if not force:
        raise OutputError(f"{path} exists already; choose another output or give --force to replace it")
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(
            f"cannot write the file {path}: what has that name is not a regular file; choose another output"
        )
    _refuse_fixed(path, status)
    with refused(path):
        if not status.st_mode & 0o222:
            raise PermissionError(errno.EACCES, "it is read-only")
        os.close(os.open(path, os.O_WRONLY))


def refuse_folder(path: Path, replace: MayReplace | None) -> None:
    """Raise OutputError unless `path` is free or may be replaced; look anew at a folder exchanged meanwhile."""
    for rest in reversed(range(MOST_EXCHANGES)):
        status = status_of(path)
        if status is None:
            return
        try:
            _refuse_this_folder(path, status, replace)
            return
        except LdmError:
            if rest == 0 or _is_still(path, status):
                raise


def status_of(path: Path) -> os.stat_result | None:
    """Return the status of what has that name, links not followed, or None. Raises OutputError for a bad name."""
    with refused(path):
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def _is_still(path: Path, status: os.stat_result) -> bool:
    now = status_of(path)
    return now is not None and os.path.samestat(status, now) and status.st_ctime_ns == now.st_ctime_ns


def _refuse_this_folder(path: Path, status: os.stat_result, replace: MayReplace | None) -> None:
    _refuse_link(path, status)
    if not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"cannot write the folder {path}: a file has that name; choose another output")
    if replace is None:
        raise OutputError(f"{path} exists already; choose another output or give --force to replace it")
    _refuse_fixed(path, status)
    here = Path(absolute(Path()))
    with refused(path):
        if any(os.path.samestat(status, os.stat(each)) for each in (here, *here.parents)):
            raise OutputError(f"cannot replace {path}: the current folder is it or lies in it; choose another output")
        if os.listdir(path):
            replace(path)
            _refuse_read_only(path)


def _refuse_link(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OutputError(f"cannot write {path}: it is a link to {os.readlink(path)}; give the place itself as output")


def _refuse_fixed(path: Path, status: os.stat_result) -> None:
    """Raise OutputError for what cannot be renamed: a mount point, or another user's in a folder such as /tmp."""
    if os.path.ismount(path) or os.path.realpath(path) in _mount_points():
        raise OutputError(f"cannot replace {path}: it is a mount point; choose another output")
    if hasattr(os, "geteuid"):
        parent = os.stat(path.parent)
        if parent.st_mode & stat.S_ISVTX and os.geteuid() not in (0, parent.st_uid, status.st_uid):
            raise OutputError(f"cannot replace {path}: it is another user's; choose another output")


def _mount_points() -> set[str]:
    """Return all mount points, where the system tells: `os.path.ismount` misses those within one file system."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in lines}


def _refuse_read_only(path: Path) -> None:
    """Raise OutputError where a folder could make way but not be removed."""
    for folder, _, _ in os.walk(path):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot replace {path}: {folder} is read-only; choose another output")
