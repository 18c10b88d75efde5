"""The compiled forms of one graph in OpenVINO: for images of the sizes that came first, then for any."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldm_runtime.engines.openvino.split import Run

Sizes = tuple[tuple[int, ...], ...]  # height and width of every input that is a batch of images


class Compiled:
    """One compiled graph and its infer requests: each thread that runs takes one, and hands it back."""

    def __init__(self, compiled: Any, outputs: Sequence[str]) -> None:
        self._compiled = compiled
        self._names = [port.get_any_name() for port in compiled.inputs]
        self._outputs = outputs
        self._idle: list[Any] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs; feeds may hold more than the graph takes. Raises RuntimeError as OpenVINO does."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer({name: feeds[name] for name in self._names}, share_inputs=True)
        results = {name: np.asarray(outputs[name]) for name in self._outputs}
        self._idle.append(request)  # after an error it is dropped: it may fail again with right inputs
        return results


class Primed:
    """What runs a denoiser, whose first run never has a text of a single token.

    OpenVINO 2026.4 compiles operators for the shapes that come first, and where these have one token it gives wrong
    numbers for all others that come later. So two tokens come first.
    """

    def __init__(self, inner: Run, context: str) -> None:
        self.inner = inner
        self._context = context
        self._is_primed = False

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._is_primed:
            return self.inner(feeds)
        context = feeds[self._context]
        if context.shape[1] == 1:
            self.inner({**feeds, self._context: np.repeat(context, 2, axis=1)})
        results = self.inner(feeds)
        self._is_primed = True  # only now: another thread may have a text of one token meanwhile
        return results


@dataclass(frozen=True)
class _Held:
    sizes: Sizes | None  # None: any
    run: Run


class Forms:
    """Makes the form that fits, and holds one: a second one would take the memory of the weights again.

    The first is for images of the sizes that are asked for first; once others are, one for any sizes takes its place.
    make: from sizes, or None for any, to what runs. Threads share it.
    """

    def __init__(self, make: Callable[[Sizes | None], Run]) -> None:
        self._make = make
        self._making = threading.Lock()
        self._held: _Held | None = None
        self.is_closed = False

    def of(self, sizes: Sizes | None) -> Run:
        """Return what runs images of these sizes; None: of any, at once."""
        held = self._held
        if held is not None and held.sizes in (None, sizes):
            return held.run
        with self._making:
            held = self._held
            if held is None:
                held = _Held(sizes, self._make(sizes))
            elif held.sizes not in (None, sizes):
                self._held = None  # its memory is needed; who runs it still holds it
                held = _Held(None, self._make(None))
            self._held = None if self.is_closed else held
            return held.run

    def close(self) -> None:
        self.is_closed = True
        self._held = None
