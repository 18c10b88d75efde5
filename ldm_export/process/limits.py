"""Limits that a process sets for itself, before it reads what strangers made. Windows has none of them."""

import sys
from pathlib import Path


def limit_memory(more: int) -> None:
    """Let this process have `more` bytes of address space than it has now."""
    if sys.platform == "win32":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_time(seconds: int) -> None:
    """Let this process take `seconds` of a processor's time in all; then the system ends it with SIGXCPU."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = seconds if most == resource.RLIM_INFINITY else min(seconds, most)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def limit_files(size: int) -> None:
    """Let this process write no file beyond `size` bytes: OSError (EFBIG) is raised there. It may be raised again."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if most == resource.RLIM_INFINITY else min(size, most), most))
