"""The memory that a piece of work adds to this process."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def peak_memory() -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns by how many bytes the resident set has grown at its largest since.

    Linux alone can begin anew to look for the largest; elsewhere it returns None.
    """
    if not _RESET.exists():
        yield lambda: None
        return
    _RESET.write_text("5")  # of proc(5): the largest resident set becomes the present one
    before = _bytes("VmRSS")
    yield lambda: max(0, _bytes("VmHWM") - before)


def _bytes(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
