"""The memory that this machine, or the container that this process is in, has left."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
# Of Linux' control groups, version 2 and 1: the limit, what counts against it, and details of that.
_CONTROL_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def available_memory() -> int | None:
    """Return the bytes that can be taken without swapping, or None where the system does not tell.

    What the system keeps of files counts as available.
    """
    known = [each for each in (_machine(), *(_container(*files) for files in _CONTROL_GROUPS)) if each is not None]
    return min(known, default=None)


def _machine() -> int | None:
    kilobytes = _table(_MEMINFO).get("MemAvailable:")
    return None if kilobytes is None else kilobytes * 1024


def _container(limit: str, used: str, details: str) -> int | None:
    """Return what a container has left, or None where there is no such limit."""
    try:
        most, now = int(Path(limit).read_text()), int(Path(used).read_text())
    except (OSError, ValueError):  # no such file; "max"
        return None
    kept = _table(Path(details))
    return max(0, most - now + kept.get("active_file", 0) + kept.get("inactive_file", 0))


def _table(file: Path) -> dict[str, int]:
    """Read lines that begin with a name and a number."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}
