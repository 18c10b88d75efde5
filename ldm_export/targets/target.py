"""A target: artefacts that `build` makes of a package's canonical graphs, for one engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads the rows' names and options, and starts without numpy
    from ldm_export.process.isolate import StageCost
    from ldm_runtime.package.artefacts import Artefact, Precision
    from ldm_runtime.package.manifest import Contract, Manifest

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """The request to a target: its contract, precision and options.

    contract: of the package to come. parameters: part of the checkpoint -> number of weights. options: the target's
    own. where: a folder on the disk that the package goes to. max_memory: bytes that one stage's process may need;
    None takes what the machine has available.
    """

    contract: "Contract"
    parameters: Mapping[str, int]
    precision: "Precision"
    options: Any
    where: Path
    max_memory: int | None = None


@dataclass(frozen=True)
class Built:
    """The result of a target. artefacts: by component, with files in the package's folder. stages: their cost."""

    artefacts: "Mapping[str, Sequence[Artefact]]" = field(default_factory=dict)
    stages: "Sequence[StageCost]" = ()


@dataclass(frozen=True)
class Target:
    """One row of the table.

    precisions: in which it is made. options: the dataclass of its own options, None where it has none.
    engine: what runs it, None where ONNX Runtime's proof is enough.
    check: refuses, before anything is made, what cannot be made, and returns the work that is left.
    build: does that work on a package's folder that holds the canonical graphs and their reference.
    """

    precisions: "tuple[Precision, ...]"
    options: type | None
    engine: str | None
    check: Callable[[Order], Any]
    build: "Callable[[Any, Path, Manifest, Progress], Built]"
