"""A graph in parts: what depends on few of its inputs is computed apart, and kept, or computed for half of the batch.

A denoiser is evaluated at every step on the same text, and with guidance on the same latents twice, once for the prompt
and once for the negative one. Its parts are the keys and values of the text (once for each prompt), the embedding of
the time (once for each step's time), and what comes before the text is first read (once for both halves). All of it is
exact: the same operators on the same numbers.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Values = dict[str, np.ndarray]
Run = Callable[[Mapping[str, np.ndarray]], Values]


class Memo:
    """The last few results of a function of arrays, by their types, shapes and bytes. Threads share it.

    The lock is held while the results are looked up, never while they are computed: two threads may compute the same.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[tuple[str, tuple[int, ...], bytes], ...], Values] = OrderedDict()

    def of(self, arrays: Sequence[np.ndarray], shape: tuple[int, ...], compute: Callable[[], Values]) -> Values:
        """Return what `compute` gives for these arrays; `shape`: of one that matters by its shape alone."""
        key = (("", shape, b""), *((each.dtype.str, each.shape, each.tobytes()) for each in arrays))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        values = compute()
        with self._lock:
            self._kept[key] = values
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return values

    def __len__(self) -> int:
        return len(self._kept)


@dataclass(frozen=True)
class Part:
    """What is computed apart.

    inputs: the inputs of the whole that its values depend on. batched: its values that have one row for each image.
    run: takes all inputs of the whole, and values of earlier parts. memo: None: it is computed each time.
    """

    inputs: tuple[str, ...]
    batched: frozenset[str]
    run: Run
    memo: Memo | None = None

    def of(self, feeds: Mapping[str, np.ndarray], sample: str) -> Values:
        if self.memo is None:
            return self.run(feeds)
        arrays = [feeds[name] for name in self.inputs]
        return self.memo.of(arrays, feeds[sample].shape, lambda: self.run(feeds))


@dataclass(frozen=True)
class Split:
    """A denoiser in parts. It takes the inputs of the whole and returns its outputs.

    sample: the input of latents. text, time: parts that are kept; prefix: what is computed for one half where both
    halves of the latents are equal, bit for bit. rest: runs with the parts' values besides the inputs.
    """

    sample: str
    rest: Run
    text: Part | None = None
    time: Part | None = None
    prefix: Part | None = None

    def run(self, feeds: Mapping[str, np.ndarray]) -> Values:
        values: Values = dict(feeds)
        for part in (self.text, self.time):
            if part is not None:
                values |= part.of(feeds, self.sample)
        if self.prefix is not None:
            values |= self._prefixed(values, self.prefix)
        return self.rest(values)

    def _prefixed(self, values: Values, prefix: Part) -> Values:
        sample = values[self.sample]
        half = len(sample) // 2
        if len(sample) % 2 or not np.array_equal(_bits(sample[:half]), _bits(sample[half:])):
            return prefix.run(values)
        batched = {self.sample, *(() if self.time is None else self.time.batched)}
        halves = {name: value[:half] if name in batched else value for name, value in values.items()}
        made = prefix.run(halves)
        return {name: np.concatenate([value] * 2) if name in prefix.batched else value for name, value in made.items()}


def _bits(array: np.ndarray) -> np.ndarray:
    """Return the bits of numbers: -0.0 and 0.0 differ, a NaN equals itself."""
    return np.ascontiguousarray(array).view(np.uint8)
