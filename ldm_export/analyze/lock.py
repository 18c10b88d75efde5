"""The lock of a report's folder: two analyses in one would take from each other what they keep, and their report."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ldm_export.analyze.report_folder import WORK
from ldm_runtime.errors import OutputError
from ldm_runtime.files.atomic import make_folder
from ldm_runtime.files.journal import lock

LOCK_FILE = "lock"  # stays when the lock ends: removing it could remove another analysis' lock


@contextlib.contextmanager
def only_analysis(out: Path) -> Iterator[None]:
    """Hold the lock of a report's folder, which ends with the process. A file system without locks has none to hold.

    Raises OutputError if another process analyses into that folder; nothing was changed.
    """
    make_folder(out / WORK)
    file = out / WORK / LOCK_FILE
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise OutputError(f"cannot open {file}: {error.strerror}; give another --out") from error
    try:
        if lock(descriptor) is False:
            raise OutputError(
                f"another analysis is writing its report into {out}; wait for its end, stop it, or give another --out"
            )
        yield
    finally:
        os.close(descriptor)
