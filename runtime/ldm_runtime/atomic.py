"""Outputs that appear whole or not at all: written under a temporary sibling name, synced, then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ldm_runtime.errors import LdmError


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `LdmError` if `path` exists and may not be replaced, or if its parent is not a folder."""
    if os.path.lexists(path) and not force:
        raise LdmError(f"{path} exists already; choose another output or give --force to replace it")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise LdmError(f"cannot write {path}: the folder {parent} does not exist; create it first")


def refuse_existing_in(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """As `refuse_existing`, for files of a folder that may be new."""
    if folder.exists() and not folder.is_dir():
        raise LdmError(f"{folder} is a file; expected a folder for {' and '.join(names)}")
    if not folder.is_dir():
        refuse_existing(folder, force=force)
        return
    for name in names:
        refuse_existing(folder / name, force=force)


@contextlib.contextmanager
def atomic_file(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it takes that name, on any failure it is removed.

    Raises:
        LdmError: `path` exists and `force` is false, or the file system refuses (missing folder, full disk).
    """
    path = Path(path)
    refuse_existing(path, force=force)
    if path.is_dir():
        raise LdmError(f"cannot write the file {path}: a folder has that name; choose another output")
    with _os_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            _sync(temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an empty sibling folder; on success it takes the name `path`, on any failure it is removed.

    An existing folder is replaced only with `force`, and only after the new one is complete. What a killed
    process left behind is swept by the next call for the same `path`.

    Raises:
        LdmError: `path` exists and `force` is false, or the file system refuses (missing folder, full disk).
    """
    path = Path(path)
    refuse_existing(path, force=force)
    if path.exists() and not path.is_dir():
        raise LdmError(f"cannot write the folder {path}: a file has that name; choose another output")
    with _os_errors(path):
        _sweep(path)
        partial = path.parent / f".{path.name}.partial-{os.getpid()}"
        partial.mkdir()
        try:
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    _sync(file)
            _swap(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Give `new` the name `path`; the old folder is deleted only once the new one is in place."""
    if not path.exists():
        os.rename(new, path)
        return
    old = path.parent / f".{path.name}.old-{os.getpid()}"
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old)


def _sweep(path: Path) -> None:
    """Remove what dead processes left; bring back an old folder that a kill left without a successor."""
    for left in path.parent.glob(f".{path.name}.partial-*"):
        if not _is_alive(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    for left in path.parent.glob(f".{path.name}.old-*"):
        if _is_alive(left.name.rpartition("-")[2]):
            continue
        if path.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            os.rename(left, path)


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@contextlib.contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Say which output failed and why, instead of a bare OSError."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(path.parent)):
            raise  # another file's trouble: not this output's
        reason = error.strerror if error.strerror is not None else str(error)
        raise LdmError(
            f"cannot write {path}: {reason}; nothing was left behind, free space or change the output and run again"
        ) from error
