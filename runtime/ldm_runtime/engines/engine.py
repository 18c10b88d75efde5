"""The protocol of an engine, and the row that each kind of engine has in the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ldm_runtime.package.artefacts import Artefact, Precision
from ldm_runtime.package.open import Package
from ldm_runtime.package.tensor_spec import TensorSpec


class Engine(Protocol):
    """One loaded graph, which threads may run at the same time.

    `notices`: sentences for its user about how it runs here. `maps_weights`: they are read where they lie in the
    package's file, so that to open it takes little time.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notices: tuple[str, ...]
    maps_weights: bool

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name for all inputs by name. Raises EngineError if the engine fails."""
        ...

    def close(self) -> None:
        """Free the memory; the engine cannot run any more."""
        ...


@dataclass(frozen=True)
class Settings:
    """Settings of an engine. threads: of one operator on the CPU, None: its choice. options: its own, by its names.

    precision: what it computes in; None: that of the artefact.
    """

    threads: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    precision: Precision | None = None


def not_computed(precision: Precision) -> str:
    """Say that an engine does not compute in a precision, as half a sentence."""
    return f"{precision} is no precision that it computes in"


@dataclass(frozen=True)
class EngineKind:
    """One row of the table of engines.

    reads: (format, engine) of the artefacts that it runs, the best first.
    open: loads an artefact of a component.
    missing: the one thing that is missing to run it on this machine, as a sentence, or None.
    automatic: whether "auto" considers it on this machine; None: only where `is_faster` does.
    pick: chooses, where artefacts are made for particular machines, the one that fits this machine; it raises
    EngineUnavailable if none does. None: every artefact that it reads runs on every machine.
    takes_options: whether it has options of its own.
    missing_for: the one thing that is missing to compute here in a precision that is not the artefact's, as half a
    sentence that begins with the precision, or None.
    is_faster: whether "auto" considers it for a component of a package, since it is faster there than those that follow
    it; nothing is proven with it then. None: it never does.
    """

    summary: str
    reads: tuple[tuple[str, str], ...]
    open: Callable[[Package, str, Artefact, Settings], Engine]
    missing: Callable[[], str | None]
    automatic: Callable[[], bool] | None = None
    pick: Callable[[Package, str], Artefact] | None = None
    takes_options: bool = True
    missing_for: Callable[[Precision], str | None] = not_computed
    is_faster: Callable[[Package, str], bool] | None = None
