"""What the file system says against an output, as one sentence that names it."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ldm_runtime.errors import LdmError, OutputError

_PROBE_BYTES = 2**20
_WRITE_TROUBLES = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    getattr(errno, "EDQUOT", errno.ENOSPC),
    getattr(errno, "ESTALE", errno.EIO),
}


@contextlib.contextmanager
def refused(path: Path) -> Iterator[None]:
    """Make one sentence of what the system says against an output before the work."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {reason(error)}; choose another output") from error


def write_trouble(error: Exception, path: Path, temporary: Path) -> str | None:
    """Return what the file system refused to the output, or None if `error` is about something else."""
    if isinstance(error, LdmError | MemoryError):
        return None
    if isinstance(error, OSError):
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        if names:
            ours = any(_is_of(name, path, temporary) for name in names)
            return reason(error) if ours else None
        if error.errno in _WRITE_TROUBLES:
            return reason(error)
    return _full(temporary)


def _is_of(name: str, path: Path, temporary: Path) -> bool:
    place, ours = Path(absolute(Path(name))), Path(absolute(temporary))
    return place == Path(absolute(path)) or place == ours or ours in place.parents


def _full(temporary: Path) -> str | None:
    """Return why no more bytes can be written, if so: many libraries have an error of their own for a full disk."""
    place = temporary / "ldm-full" if temporary.is_dir() else temporary
    try:
        with open(place, "ab") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return reason(error) if error.errno in _WRITE_TROUBLES else None
    return None


def absolute(path: Path) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:  # the current folder was removed
        return str(path)


def reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "its name holds characters that the system cannot write"
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror
    return str(error)
