"""Outputs that appear whole or not at all: written under a temporary sibling name, synced, then renamed.

What can be known before the work is refused before it (`refuse_existing` and its relatives try it, since permissions
alone do not tell). `replacing.py` says what may be replaced, `journal.py` how what a killed process left is known and
swept, `trouble.py` what a full disk and its like are called.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ldm_runtime.errors import LdmError, OutputError
from ldm_runtime.files.journal import Journal, remove, sweep, sync_folder
from ldm_runtime.files.replacing import MOST_EXCHANGES, MayReplace, refuse_file, refuse_folder, status_of
from ldm_runtime.files.trouble import absolute, reason, refused, write_trouble


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError unless the file `path` can be written: nothing is in its way without `force`, the folder
    takes files, the name fits there. Sweep what a killed process left beside it.
    """
    path = Path(path)
    with _output(path, prove=True):
        refuse_file(path, force=force)


def refuse_existing_folder(path: Path, *, replace: MayReplace | None) -> None:
    """Do as `refuse_existing` for a folder: an existing one must be empty or satisfy `replace` (None: is refused)."""
    path = Path(path)
    with _output(path, prove=True):
        refuse_folder(path, replace)


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
            refuse_file(folder / name, force=force)


def refuse_unwritable(folder: Path) -> None:
    """Raise OutputError unless files can be written in `folder`, which may be missing together with its parents."""
    names = []
    while not os.path.lexists(folder := Path(absolute(folder))):
        names.append(folder.name)
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write to {folder}: it is not a folder; choose another output")
    for name in names or ["file"]:
        with _output(folder / name, prove=True):
            pass


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing. Raises OutputError."""
    with refused(folder):
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
        refuse_file(path, force=force)
        temporary = journal.partial(path.suffix)
        with _work(path, journal, temporary):
            with open(temporary, "xb"):
                pass
            yield temporary
            _sync(temporary)
            if force:
                if (replaced := status_of(path)) is not None:
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
        refuse_folder(path, replace)
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
    status_of(path)
    parent = path.parent
    if not parent.is_dir():
        trouble = "is not a folder" if os.path.lexists(parent) else "does not exist; create it first"
        raise OutputError(f"cannot write {path}: the folder {absolute(parent)} {trouble}")
    sweep(parent, path.name)
    try:
        journal = Journal.open(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: the folder {absolute(parent)} takes no files ({reason(error)}); "
            f"choose another output"
        ) from error
    done = False
    try:
        if prove:
            with refused(path):
                journal.prove_name()
        yield journal
        done = True
    finally:
        try:
            _end(journal)
        except OSError:
            _end_again(journal, path, done, "can be written" if prove else "is complete")
        except BaseException:  # a request to end (SIGTERM, Ctrl-C) in its middle
            with contextlib.suppress(OSError):
                _end(journal)
            raise


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
            f"{path} is complete, but what it replaced could not be removed and is in {old} ({reason(error)})"
        ) from error


def _take_name(journal: Journal, path: Path, replace: MayReplace | None) -> None:
    """Rename the partial folder to `path`. If another writer's comes in between, that one makes way as well."""
    for _ in range(MOST_EXCHANGES):
        before = _listing(path)
        refuse_folder(path, replace)
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
        raise OutputError(f"cannot write {path}: {reason(error)}; what it held before is in {old}") from error


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
        reason = write_trouble(error, path, temporary)
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
    for temporary in (*journal.partials, *journal.asides):
        _clean(journal, temporary)
    journal.close()


def _end_again(journal: Journal, path: Path, done: bool, outcome: str) -> None:
    """End an output that the file system did not let end. If it still does not, an error of the work says more."""
    try:
        _end(journal)
    except OSError as error:
        if done:
            raise OutputError(
                f"{path} {outcome}, but {error.filename or 'a file beside it'} cannot be removed ({reason(error)}); "
                f"remove it"
            ) from error


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


def _sync(file: Path) -> None:
    if file.is_symlink():
        return
    with open(file, "r+b") as handle:
        os.fsync(handle.fileno())
