"""The processor's cores that this process may use."""

import os


def usable_cores() -> int:
    """Return how many cores this process may run on: fewer than the machine has, where it is bound to some of them."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
