"""The engines of a package, one a component: opened when first used, and of use to one process alone."""

import ctypes
import os
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from ldm_runtime.engines.choice import EngineChoice, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.errors import EngineError, NonFiniteError
from ldm_runtime.notice import Notice
from ldm_runtime.package.open import Package


class Components:
    """Runs each component of a package with the engine that was chosen for it.

    names: of the engines that are open, by component. notices: about them.
    It knows nothing of who uses it: when that is dropped, so are the engines and their memory, at once.
    """

    def __init__(self, package: Package, choice: EngineChoice) -> None:
        self.engines: dict[str, Engine] = {}
        self.names: dict[str, str] = {}
        self.notices: list[Notice] = []
        self._package = package
        self._choice = choice
        self._is_closed = False
        self._process = os.getpid()

    def require(self) -> None:
        """Raise EngineError after `close`, and in a process that was forked from the one that loaded the package."""
        if self._is_foreign():
            raise EngineError(
                f"the package {self._package.path} was loaded before this process was forked, and its engines' "
                "threads stayed behind; load it in each process, or start them with `spawn`"
            )
        if self._is_closed:
            raise EngineError(f"the pipeline of {self._package.path} is closed; load the package again")

    def open(self, component: str) -> Engine:
        """The engine of a component, opened if it is not yet."""
        self.require()
        if component not in self.engines:
            opened = open_engine(self._choice, self._package, component)
            self.engines[component] = opened.engine
            self.names[component] = opened.name
            self.notices += [Notice("engine", sentence) for sentence in opened.notices]
        return self.engines[component]

    def run(self, component: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises NonFiniteError if there is NaN or infinity in them."""
        outputs = self.open(component).run(feeds)
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise NonFiniteError(
                    f"{component} made NaN or infinity in {name}; no picture is made of it: check the "
                    f"package with `ldm-export verify {self._package.path}`"
                )
        return outputs

    def engine(self, component: str) -> "ComponentEngine":
        """Return a view of one component, to run it without its name."""
        return ComponentEngine(self, component)

    def close(self) -> None:
        """Free the memory. In a forked process nothing is freed: it is the parent's."""
        self._is_closed = True
        if not self._is_foreign():
            for engine in self.engines.values():
                engine.close()

    def __reduce__(self) -> NoReturn:
        raise EngineError(f"the pipeline of {self._package.path} cannot be copied or pickled; load the package again")

    def __del__(self) -> None:
        # Where threads do not exist that an engine would wait for as it goes, it has to stay, or the process hangs.
        if self._is_foreign():
            for engine in self.engines.values():
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))

    def _is_foreign(self) -> bool:
        return os.getpid() != self._process


@dataclass(frozen=True)
class ComponentEngine:
    """One component of a package, by the rules of `Components`."""

    components: Components
    name: str

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.components.run(self.name, feeds)
