"""A tensor of a checkpoint on disk: its file, its place in it, and how it becomes a parameter."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MAX_LISTED = 8  # keys in one error


@dataclass(frozen=True)
class StoredTensor:
    """One parameter in a file; `shape` is the parameter's, after undoing `transpose`."""

    file: Path
    place: Path  # where the file is read, all links followed
    name: str  # in the file
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    offset: int  # of its first byte in the file
    transpose: tuple[int, ...] | None = None  # the permutation before it was stored

    @property
    def count(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Return the shape in the file."""
        return self.shape if self.transpose is None else tuple(self.shape[axis] for axis in self.transpose)


Tensors = dict[str, StoredTensor]  # our parameter name -> where it lies


def listed(label: str, items: Iterable[str]) -> str:
    """List items as `"3 missing (a, b, c); "`, cut after MAX_LISTED; the empty string if there are none."""
    items = list(items)
    shown = items[:MAX_LISTED] + ([f"and {len(items) - MAX_LISTED} more"] if len(items) > MAX_LISTED else [])
    return f"{len(items)} {label} ({', '.join(shown)}); " if items else ""
