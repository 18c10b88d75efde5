"""What a family says of its single-file checkpoints: how their keys begin, and how a part is read from its keys."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ldm_export.errors import CheckpointError

Prediction = Literal["epsilon", "v_prediction"]
Shapes = Mapping[str, tuple[int, ...]]  # a part's keys, without their prefix -> shapes


@dataclass(frozen=True)
class Origin:
    """Where a parameter lies in a file of the original layout.

    third: 0, 1 or 2 where query, key and value are one matrix or bias. turned: the matrix is stored transposed.
    """

    key: str
    third: int | None = None
    turned: bool = False


Origins = dict[str, Origin]  # our parameter name -> where it lies


def _none(config: Any) -> str:
    return r"(?!)"


@dataclass(frozen=True)
class OriginalPart:
    """One part in files of the original layout.

    prefix: what its keys begin with in a whole checkpoint. config: shapes -> config.json as the part's library writes
    it. assumed: the options in it that no shape tells. origins: the part's config and the names of its parameters ->
    their places. unused: config -> a pattern of the keys, without the prefix, that belong to the part and change no
    image. bare: a pattern of what some keys begin with in a file of this part alone that has no prefix; the default
    matches nothing.
    """

    prefix: str
    config: Callable[[Shapes], dict[str, Any]]
    assumed: frozenset[str]
    origins: Callable[[Any, Iterable[str]], Origins]
    unused: Callable[[Any], str] = _none
    bare: str = r"(?!)"

    def prefix_in(self, keys: Iterable[str]) -> str | None:
        """Return what the part's keys begin with among those of a file; None: the file does not have it."""
        names = list(keys)
        if any(key.startswith(self.prefix) for key in names):
            return self.prefix
        return "" if any(re.match(self.bare, key) for key in names) else None


@dataclass(frozen=True)
class OriginalLayout:
    """One kind of single-file checkpoint.

    parts: by the family's names. schedulers: what the model predicts -> the scheduler_config.json that such models were
    published with. sizes: the same -> part -> the `sample_size` that its config says, which no weight tells. pads:
    tokenizer folder -> the token that pads a prompt. prediction: what a model predicts whose file does not say; None:
    it must be asked for, because published ones of this kind do either.
    """

    name: str
    parts: Mapping[str, OriginalPart]
    schedulers: Mapping[Prediction, Mapping[str, Any]]
    sizes: Mapping[Prediction, Mapping[str, int]]
    pads: Mapping[str, str]
    prediction: Prediction | None

    def recognises(self, keys: Iterable[str]) -> bool:
        """Return whether there are keys of this kind's text encoders, which tell the kinds apart."""
        prefixes = [part.prefix for name, part in self.parts.items() if name.startswith("text_encoder")]
        return any(key.startswith(prefix) for key in keys for prefix in prefixes)


def renamed(modules: Mapping[str, str], leaves: Mapping[str, str], name: str) -> str | None:
    """Return the original name of a parameter: that of its module, and below it those of `leaves`; None if unknown.

    The longest module that the name begins with counts. A leaf is what follows it, without ".weight" or ".bias".
    """
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if module in modules:
            inner, kind = ".".join(parts[length:-1]), parts[-1]
            inner = leaves.get(inner, inner)
            return ".".join(part for part in (modules[module], inner, kind) if part)
    return None


def count(shapes: Shapes, prefix: str) -> int:
    """Return how many of `prefix`0, `prefix`1, … begin keys, one after another from 0."""
    found = {key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)}
    number = 0
    while str(number) in found:
        number += 1
    return number


def size(shapes: Shapes, what: str, key: str, axis: int) -> int:
    """Return the size of one axis of a part's tensor. Raises CheckpointError, which calls the part `what`."""
    shape = shapes.get(key, ())
    if len(shape) <= axis:
        raise CheckpointError(f"the {what} has no {key} of a known shape; fetch the file again")
    return shape[axis]
