"""The engines of a package, one for each component: opened on first use, shared by the threads of one process."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from ldm_runtime.engines.choice import EngineChoice, OpenedEngine, artefact_named, open_engine, open_way
from ldm_runtime.engines.engine import Engine
from ldm_runtime.errors import EngineError, NonFiniteError
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import CodecHalf
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import Variant


class Components:
    """The open engines of a package, by component. Threads share them.

    engines: those that are open, by component, and COMPONENT/ARTEFACT where one runs beside it; `given` ones are taken
    as they are. names: of the engines, by the same. variant: what components run as, where not as `choice` says.
    It knows nothing of who uses it: when that is dropped, so are the engines and their memory, at once.
    """

    def __init__(
        self,
        package: Package,
        choice: EngineChoice,
        given: Mapping[str, Engine] | None = None,
        variant: Variant | None = None,
    ) -> None:
        self.engines: dict[str, Engine] = {} if given is None else dict(given)
        self.names = {component: type(engine).__name__ for component, engine in self.engines.items()}
        self._notices: dict[str, list[Notice]] = {}  # by component, of when it was opened last
        self._given = frozenset(self.engines)
        self._package = package
        self._choice = choice
        self._ways = {} if variant is None else variant.ways
        self._caching = None if variant is None else variant.run.caching
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._idle = threading.Condition()  # over the two below
        self._busy: set[int] = set()  # threads that are at an evaluation
        self._is_closed = False

    @property
    def notices(self) -> list[Notice]:
        """Return what is to be said about the engines, each sentence once."""
        return list(dict.fromkeys(notice for notices in self._notices.values() for notice in notices))

    def require(self) -> None:
        """Raise EngineError after `close`, and in a process that was forked from the one that loaded the package."""
        if self._is_foreign():
            raise EngineError(
                f"the package {self._package.path} was loaded before this process was forked, and its engines' "
                "threads stayed behind; load it in each process, or start them with `spawn`"
            )
        if self._is_closed:
            raise EngineError(f"the pipeline of {self._package.path} is closed; load the package again")

    def open(self, component: str, artefact: str | None = None) -> Engine:
        """Return the engine of a component, and open it if it is not open yet.

        artefact: the name of one that runs beside the component's own, in the same way.
        """
        self.require()
        key = self._key(component, artefact)
        engine = self.engines.get(key)
        if engine is None:
            with self._opening:
                engine = self.engines.get(key)
                if engine is None:
                    engine = self._open(key, component, artefact)
        return engine

    def rest(self, component: str) -> None:
        """Give back the memory of engines that map their weights, until they are opened again: that takes no time.

        Others stay. A thread that is at an evaluation of one ends that first.
        """
        for key, engine in list(self.engines.items()):
            is_one = key == component or key.startswith(f"{component}/")
            if is_one and key not in self._given and engine.maps_weights:
                self.engines.pop(key, None)  # not closed: who runs it still holds it

    def evaluate(
        self, component: str, feeds: dict[str, np.ndarray], artefact: str | None = None
    ) -> dict[str, np.ndarray]:
        """Run a component. artefact: see `open`. `close` waits for it."""
        engine, thread = self.open(component, artefact), threading.get_ident()
        try:
            with self._idle:
                self.require()
                self._busy.add(thread)
            return engine.run(feeds)
        finally:
            with self._idle:
                self._busy.discard(thread)
                self._idle.notify_all()

    def run(self, component: str, feeds: dict[str, np.ndarray], artefact: str | None = None) -> dict[str, np.ndarray]:
        """Run a component. artefact: see `open`. Raises NonFiniteError if there is NaN or infinity in its outputs."""
        outputs = self.evaluate(component, feeds, artefact)
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise NonFiniteError(
                    f"{component} made NaN or infinity in {name}; no image is made of it: check the "
                    f"package with `ldm-export verify {self._package.path}`"
                )
        return outputs

    def convert(self, half: CodecHalf, value: np.ndarray) -> np.ndarray:
        """Run one half of the codec. Raises what `run` does."""
        return self.run(half.component, {half.input: value})[half.output]

    def engine(self, component: str) -> "ComponentEngine":
        """Return a view of one component, to run it without its name."""
        return ComponentEngine(self, component)

    def close(self) -> None:
        """Free the memory, once the evaluations that are going on have ended. Nothing runs afterwards.

        In a forked process nothing is freed: it is the parent's.
        """
        if self._is_foreign():
            return
        with self._opening, self._idle:
            self._is_closed = True
            self._idle.wait_for(lambda: self._busy <= {threading.get_ident()})
            with contextlib.ExitStack() as closing:  # all of them, also where one fails
                for engine in self.engines.values():
                    closing.callback(engine.close)

    def __reduce__(self) -> NoReturn:
        raise EngineError(f"the pipeline of {self._package.path} cannot be copied or pickled; load the package again")

    def __del__(self) -> None:
        # Where threads do not exist that an engine would wait for as it goes, it has to stay, or the process hangs.
        if self._is_foreign():
            for engine in self.engines.values():
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))

    def _open(self, key: str, component: str, artefact: str | None) -> Engine:
        self.require()
        opened = self._opened(component, artefact)
        self.names[key] = opened.name
        self._notices[key] = [Notice("engine", sentence) for sentence in opened.notices]
        self.engines[key] = opened.engine
        return opened.engine

    def _opened(self, component: str, artefact: str | None) -> OpenedEngine:
        name = self._own(component) if artefact is None else artefact
        chosen = None if name is None else artefact_named(self._package, component, name)
        way = self._ways.get(component)
        if way is None:
            return open_engine(self._choice, self._package, component, chosen)
        return open_way(self._choice, self._package, component, way, chosen)

    def _key(self, component: str, artefact: str | None) -> str:
        return component if artefact in (None, self._own(component)) else f"{component}/{artefact}"

    def _own(self, component: str) -> str | None:
        """Return the name of the artefact that the variant has for a component; None: the engine's best."""
        if self._caching is not None and component == self._package.manifest.contract.denoiser.component:
            return self._caching.keeps
        way = self._ways.get(component)
        return None if way is None else way.artefact

    def _is_foreign(self) -> bool:
        return os.getpid() != self._process


@dataclass(frozen=True)
class ComponentEngine:
    """A view of one component of a package, by the rules of `Components`."""

    components: Components
    name: str

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.components.run(self.name, feeds)
