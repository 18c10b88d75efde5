"""Stages that have a process of their own, run in this one: to start it takes seconds, and other tests are about it."""

from collections.abc import Callable
from typing import Any

from ldm_export.process.isolate import Outcome


def here(function: Callable[..., Any], *args: Any, progress: Any = None, **kwargs: Any) -> Outcome:
    """Call what `run_isolated` would call in a process of its own; `tests/process/test_isolate.py` is about that."""
    given = {} if progress is None else {"progress": progress}
    return Outcome(function(*args, **kwargs, **given), peak_bytes=0, seconds=0.0)
