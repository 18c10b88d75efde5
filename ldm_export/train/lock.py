"""The lock of a run folder: a lock of the operating system, which ends with the process that holds it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ldm_export.errors import TrainingError
from ldm_runtime.files.journal import lock

LOCK_FILE = "train.lock"  # stays when the lock ends: removing it could remove another trainer's lock


@contextlib.contextmanager
def only_trainer(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which must exist.

    Raises:
        TrainingError: another process holds it; nothing was changed. Or the file system has no locks, as some
            network file systems: two trainers would not notice each other there.
    """
    file = run / LOCK_FILE
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise TrainingError(f"cannot open {file}: {error.strerror}; give another --runs") from None
    try:
        held = lock(descriptor)
        if held is None:
            raise TrainingError(
                f"the file system of {run} has no locks, so a second training could spoil this one; give --runs on a "
                f"local disk"
            )
        if not held:
            number = os.read(descriptor, 20).decode("ascii", "replace").strip()
            raise TrainingError(
                f"another process{f' (number {number})' if number.isdecimal() else ''} trains in {run}; wait for its "
                f"end, stop it, or give another --runs"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
