"""An engine that tests can see at work, and hold up."""

from collections.abc import Callable, Mapping

import numpy as np

from ldm_runtime.engines.engine import Engine


class Watched:
    """An engine that calls `before` ahead of every evaluation."""

    def __init__(self, engine: Engine, before: Callable[[], object] = lambda: None) -> None:
        self.inputs, self.outputs, self.notices = engine.inputs, engine.outputs, engine.notices
        self.before = before
        self.calls = 0
        self.is_closed = False
        self._engine = engine

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls += 1
        self.before()
        assert not self.is_closed, "closed while it ran"
        return self._engine.run(feeds)

    def close(self) -> None:
        self.is_closed = True
        self._engine.close()
