"""Engines run one graph each: inputs, outputs, run(dict) -> dict, close. A table says which there are."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from ldm_runtime import safetensors
from ldm_runtime.errors import InputError
from ldm_runtime.manifest import TensorSpec
from ldm_runtime.package import Package


class Engine(Protocol):
    """One loaded graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for all inputs by name. Raises EngineError if the engine fails."""
        ...

    def close(self) -> None:
        """Free the memory; the engine cannot run any more."""
        ...


def open_engine(name: str, package: Package, component: str) -> Engine:
    """Load `component` of `package` with the engine called `name`; "auto" takes the best one here.

    Raises:
        InputError: no engine has that name.
        EngineError: the engine is not installed, or cannot load the graph.
        PackageError: the graph is damaged or does not keep the contract.
    """
    return ENGINES[check_name(name)](package, component)


def check_name(name: str) -> str:
    """`name`, with "auto" resolved. Raises InputError for a name that is not in the table."""
    if name == "auto":
        return "ort"
    if name not in ENGINES:
        raise InputError(f"engine is {name!r}; expected one of auto, {', '.join(ENGINES)}")
    return name


def _open_ort(package: Package, component: str) -> Engine:
    from ldm_runtime.engines.ort import OrtEngine  # imports onnxruntime: 0.1 s

    manifest = package.manifest
    parts = manifest.components[component]
    stored = safetensors.read_header(package.file(parts.weights)).tensors.values()
    large = sum(math.prod(info.shape) for info in stored) > _LARGE_WEIGHTS
    engine = OrtEngine(
        package.file(parts.variant("ort_cpu").file),
        reorder=component != "text_encoder" and not large,
        repeated=component == "unet",
    )
    engine.check_contract(manifest.contract, component)
    return engine


# Of more weights than this, putting them into the kernels' layouts takes longer than it saves in some twenty steps.
_LARGE_WEIGHTS = 2**28

ENGINES: dict[str, Callable[[Package, str], Engine]] = {"ort": _open_ort}
