"""Outputs that appear whole or not at all: written under a temporary sibling name, synced, then renamed.

What can be known before the work is refused before it (`refuse_existing` and its relatives try it, since permissions
alone do not tell). An output never goes through a link, and an existing folder is replaced only if its kind allows it.
`journal.py` says how what a killed process left is known and swept.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ldm_runtime.errors import LdmError, OutputError
from ldm_runtime.files.journal import Journal, remove, sweep, sync_folder

# Raises OutputError unless the folder at a path may be replaced: a check of what is in it.
MayReplace = Callable[[Path], None]

_PROBE_BYTES = 2**20
_MOST_EXCHANGES = 100  # every further round means that another writer has just finished
_WRITE_TROUBLES = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    getattr(errno, "EDQUOT", errno.ENOSPC),
    getattr(errno, "ESTALE", errno.EIO),
}


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError unless the file `path` can be written: nothing is in its way without `force`, the folder
    takes files, the name fits there. Sweep what a killed process left beside it.
    """
    path = Path(path)
    with _output(path, prove=True):
        _refuse_file(path, force=force)


def refuse_existing_folder(path: Path, *, replace: MayReplace | None) -> None:
    """Do as `refuse_existing` for a folder: an existing one must be empty or satisfy `replace` (None: is refused)."""
    path = Path(path)
    with _output(path, prove=True):
        _refuse_folder(path, replace)


def refuse_existing_in(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """Do as `refuse_existing` for one file or more of a folder that may be new."""
    folder = Path(folder)
    if not os.path.lexists(folder):
        refuse_existing_folder(folder, replace=None)
        return
    if not folder.is_dir():
        what = "a link to nothing" if folder.is_symlink() else "a file"
        raise OutputError(f"{folder} is {what}; expected a folder for {' and '.join(names)}")
    with _output(folder / max(names, key=lambda name: len(name.encode(errors="surrogatepass"))), prove=True):
        for name in names:
            _refuse_file(folder / name, force=force)


def refuse_unwritable(folder: Path) -> None:
    """Raise OutputError unless files can be written in `folder`, which may be missing together with its parents."""
    names = []
    while not os.path.lexists(folder := Path(_absolute(folder))):
        names.append(folder.name)
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write to {folder}: it is not a folder; choose another output")
    for name in names or ["file"]:
        with _output(folder / name, prove=True):
            pass


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing. Raises OutputError."""
    with _refused(folder):
        folder.mkdir(parents=True, exist_ok=True)


def lies_in(path: Path, folder: Path) -> bool:
    """Return whether `path` is `folder` or lies in it, links followed; neither needs to exist."""
    try:
        place, real = (Path(os.path.realpath(each)) for each in (path, folder))
    except (OSError, ValueError):  # a name that cannot be
        return False
    for each in (place, *place.parents):
        if each == real:
            return True
        with contextlib.suppress(OSError):  # one of them does not exist
            if os.path.samefile(each, real):  # one folder by two names: case, mounts
                return True
    return False


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


@contextlib.contextmanager
def atomic_file(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it takes that name, on any failure it is removed.

    A file that is replaced hands on its permissions.

    Raises:
        OutputError: `path` exists and `force` is false, is a link, a folder or read-only, or the file system refuses
            (missing folder, full disk). What was there before is still there.
    """
    path = Path(path)
    with _output(path) as journal:
        _refuse_file(path, force=force)
        temporary = journal.partial(path.suffix)
        with _work(path, journal, temporary):
            with open(temporary, "xb"):
                pass
            yield temporary
            _sync(temporary)
            if force:
                if (replaced := _status(path)) is not None:
                    os.chmod(temporary, stat.S_IMODE(replaced.st_mode))
                os.replace(temporary, path)
            else:
                _rename_to_new(temporary, path)
            sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: MayReplace | None = None) -> Iterator[Path]:
    """Yield an empty sibling folder; on success it takes the name `path`, on any failure it is removed.

    An existing folder is replaced only if `replace` is given and it is empty or `replace` returns, which is asked
    before the work, after it, and once more, out of everybody's reach, if it changed meanwhile. It makes way only when
    the new one is complete. A kill loses neither: the next call for any output in that folder brings the old one back.
    Of several writers the one that comes last wins.

    Raises:
        OutputError: `path` exists and may not be replaced, or the file system refuses (missing folder, full disk).
    """
    path = Path(path)
    with _output(path) as journal:
        _refuse_folder(path, replace)
        partial = journal.partial()
        with _work(path, journal, partial):
            partial.mkdir()
            yield partial
            for folder, _, names in os.walk(partial, topdown=False):
                for name in names:
                    _sync(Path(folder, name))
                sync_folder(Path(folder))
            _exchange(journal, path, replace)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent` that is removed at the end, or by a later call if this one is killed."""
    path = Path(parent) / "scratch"  # names the trouble; nothing gets that name
    with _output(path) as journal, _work(path, journal, journal.partial()):
        journal.partial().mkdir()
        yield journal.partial()


@contextlib.contextmanager
def _output(path: Path, *, prove: bool = False) -> Iterator[Journal]:
    """Open a journal for an output in a folder that takes files. Raises OutputError if it cannot be written.

    prove: also try whether the folder takes a file of that name, which costs as much as an output; otherwise the
    last rename tells.
    """
    if path.name in ("", ".."):
        raise OutputError(f"cannot write {path}: it has no name of its own; give the name of a new file or folder")
    _status(path)
    parent = path.parent
    if not parent.is_dir():
        trouble = "is not a folder" if os.path.lexists(parent) else "does not exist; create it first"
        raise OutputError(f"cannot write {path}: the folder {_absolute(parent)} {trouble}")
    sweep(parent, path.name)
    try:
        journal = Journal.open(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: the folder {_absolute(parent)} takes no files ({_reason(error)}); "
            f"choose another output"
        ) from error
    try:
        if prove:
            with _refused(path):
                journal.prove_name()
        yield journal
    finally:
        try:
            _end(journal)
        except BaseException:  # a request to end (SIGTERM, Ctrl-C), in its middle
            _end(journal)
            raise


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Make one sentence of what the system says against an output before the work."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}; choose another output") from error


def _status(path: Path) -> os.stat_result | None:
    """Return the status of what has that name, links not followed, or None. Raises OutputError for a bad name."""
    with _refused(path):
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def _refuse_file(path: Path, *, force: bool) -> None:
    status = _status(path)
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
    with _refused(path):
        if not status.st_mode & 0o222:
            raise PermissionError(errno.EACCES, "it is read-only")
        os.close(os.open(path, os.O_WRONLY))


def _refuse_folder(path: Path, replace: MayReplace | None) -> None:
    """Raise OutputError unless `path` is free or may be replaced; look anew at a folder exchanged meanwhile."""
    for rest in reversed(range(_MOST_EXCHANGES)):
        status = _status(path)
        if status is None:
            return
        try:
            _refuse_this_folder(path, status, replace)
            return
        except LdmError:
            if rest == 0 or _is_still(path, status):
                raise


def _is_still(path: Path, status: os.stat_result) -> bool:
    now = _status(path)
    return now is not None and os.path.samestat(status, now) and status.st_ctime_ns == now.st_ctime_ns


def _refuse_this_folder(path: Path, status: os.stat_result, replace: MayReplace | None) -> None:
    _refuse_link(path, status)
    if not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"cannot write the folder {path}: a file has that name; choose another output")
    if replace is None:
        raise OutputError(f"{path} exists already; choose another output or give --force to replace it")
    _refuse_fixed(path, status)
    here = Path(_absolute(Path()))
    with _refused(path):
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


def _exchange(journal: Journal, path: Path, replace: MayReplace | None) -> None:
    """Give the partial folder the name `path`; what had it is removed only once the new one is in place."""
    old = journal.old
    journal.sync()
    try:
        _take_name(journal, path, replace)
    except BaseException:
        if os.path.lexists(old) and os.path.lexists(journal.partial()):
            _bring_back(old, path)
        raise
    sync_folder(path.parent)
    try:
        remove(old)
    except OSError as error:
        raise OutputError(
            f"{path} is complete, but what it replaced could not be removed and is in {old} ({_reason(error)})"
        ) from error


def _take_name(journal: Journal, path: Path, replace: MayReplace | None) -> None:
    """Rename the partial folder to `path`. If another writer's comes in between, that one makes way as well."""
    for _ in range(_MOST_EXCHANGES):
        before = _listing(path)
        _refuse_folder(path, replace)
        try:
            if replace is not None:
                _make_way(journal, path, replace, before)
            os.rename(journal.partial(), path)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    raise OSError(errno.EBUSY, "other processes write it again and again", str(path))


def _make_way(journal: Journal, path: Path, replace: MayReplace, before: list[tuple[object, ...]]) -> None:
    """Move the folder `path` aside; if it changed since `before`, ask about it again, now that it is out of reach."""
    try:
        if not os.listdir(path):
            os.rmdir(path)
            return
        journal.discard_old()  # of an earlier round: another writer's folder has replaced it
        os.rename(path, journal.old)
    except FileNotFoundError:  # another process has moved it
        return
    if _listing(journal.old) == before:
        return  # as it was when `replace` was last asked: asking may mean to hash gigabytes
    try:
        replace(journal.old)
    except LdmError as error:
        _rename_in(error, journal.old, path)
        raise


def _listing(folder: Path) -> list[tuple[object, ...]]:
    """List everything below a folder, with what tells each from another in its place; nothing if there is no folder."""
    found: list[tuple[object, ...]] = []
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            with contextlib.suppress(FileNotFoundError):
                each = os.lstat(os.path.join(place, name))
                relative = os.path.relpath(os.path.join(place, name), folder)
                found.append((relative, each.st_mode, each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns))
    return sorted(found)


def _bring_back(old: Path, path: Path) -> None:
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "another process made it meanwhile")
        os.rename(old, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}; what it held before is in {old}") from error


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename, never over a file that another process made meanwhile."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if isinstance(error, FileExistsError) or os.path.lexists(path):
            raise OutputError(
                f"{path} exists already: another process made it meanwhile; choose another output"
            ) from None
        os.rename(temporary, path)  # a file system without hard links


@contextlib.contextmanager
def _work(path: Path, journal: Journal, temporary: Path) -> Iterator[None]:
    """Turn what the file system refused to one sentence that names `path`, and says whether `temporary` is left."""
    try:
        yield
    except Exception as error:
        reason = _trouble(error, path, temporary)
        left = _clean(journal, temporary)
        if reason is not None:
            outcome = "nothing was left behind" if left is None else f"{left} was left behind"
            raise OutputError(
                f"cannot write {path}: {reason}; {outcome}, free space or change the output and run again"
            ) from error
        if isinstance(error, LdmError):
            _rename_in(error, temporary, path)
        raise


def _rename_in(error: LdmError, place: Path, path: Path) -> None:
    """Put the name of the output, which the caller knows, for the name it has on its way into an error."""
    error.args = tuple(each.replace(place.name, path.name) if isinstance(each, str) else each for each in error.args)


def _end(journal: Journal) -> None:
    """Remove what the output still has on its way, and close its journal."""
    for temporary in {journal.partial(), journal.partial(Path(journal.target).suffix)}:
        _clean(journal, temporary)
    journal.close()


def _clean(journal: Journal, temporary: Path) -> Path | None:
    """Remove what an output had on its way; return what could not be removed.

    The old folder of an exchange that failed is not removed, and what is partial stays with it: it says so.
    """
    place = temporary
    try:
        if os.path.lexists(journal.old):
            place = journal.old
            if os.path.lexists(journal.partial()):
                return place
        remove(place)
    except OSError:
        return place
    return None


def _trouble(error: Exception, path: Path, temporary: Path) -> str | None:
    """Return what the file system refused to the output, or None if `error` is about something else."""
    if isinstance(error, LdmError | MemoryError):
        return None
    if isinstance(error, OSError):
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        if names:
            ours = any(_is_of(name, path, temporary) for name in names)
            return _reason(error) if ours else None
        if error.errno in _WRITE_TROUBLES:
            return _reason(error)
    return _full(temporary)


def _is_of(name: str, path: Path, temporary: Path) -> bool:
    place, ours = Path(_absolute(Path(name))), Path(_absolute(temporary))
    return place == Path(_absolute(path)) or place == ours or ours in place.parents


def _full(temporary: Path) -> str | None:
    """Return why no more bytes can be written, if so: many libraries have an error of their own for a full disk."""
    place = temporary / "ldm-full" if temporary.is_dir() else temporary
    try:
        with open(place, "ab") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return _reason(error) if error.errno in _WRITE_TROUBLES else None
    return None


def _sync(file: Path) -> None:
    if file.is_symlink():
        return
    with open(file, "r+b") as handle:
        os.fsync(handle.fileno())


def _absolute(path: Path) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:  # the current folder was removed
        return str(path)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "its name holds characters that the system cannot write"
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror
    return str(error)
