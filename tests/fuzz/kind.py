"""What a kind of input is: how inputs are made, and which public reader gets them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_runtime.sampling.schedule import NoiseSchedule

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPES = Path(__file__).parents[2] / "export_configs"
SCHEDULE = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", "leading", 1, False, False)
MEMORY = 512 * 2**20  # bytes that one input may take beyond what the worker had before


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    prepare(folder): once in each worker, before the first input; what it returns is handed to the others. `folder`
    is the worker's own and its current folder too.
    make(random, prepared): an input, a pure function of the random generator and the seeds.
    read(content, prepared): gives it to the reader. To return, or to raise an LdmError, is right; all else is not.
    inner: the reader is one of those that raise FormatError, which the borders of the API turn into errors with advice.
    """

    name: str
    prepare: Callable[[Path], Any]
    make: Callable[[random.Random, Any], bytes]
    read: Callable[[bytes, Any], object]
    memory: int = MEMORY
    inner: bool = False


def generator(kind: str, seed: int, index: int) -> random.Random:
    """The one source of chance of an input: the same on every machine."""
    return random.Random(f"{kind}/{seed}/{index}")
