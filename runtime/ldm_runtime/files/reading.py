"""Reads of files that are to be small: they take the memory of what is there, not of the most that is allowed."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_PIECE = 2**16  # bytes


def read_regular(path: Path, limit: int) -> bytes | None:
    """Read a file as `read_at_most` does. None for what is no regular file: a pipe is waited for, a device never ends.

    Raises OSError, and ValueError for a name that cannot be.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as opened:
        return read_at_most(opened, limit) if stat.S_ISREG(os.fstat(opened.fileno()).st_mode) else None


def read_at_most(file: BinaryIO, limit: int) -> bytes:
    """Return what is left of an open file, whole where that is `limit` bytes at most; else more than `limit` of them.

    Python's `read` takes memory for all that it is asked for, before it looks what is there.
    """
    left = max(os.fstat(file.fileno()).st_size - file.tell(), 0)
    content = file.read(min(left, limit) + 1)
    while left < len(content) <= limit:  # it has grown, or the system does not say its size
        more = file.read(min(_PIECE, limit + 1 - len(content)))
        if not more:
            break
        content += more
    return content
