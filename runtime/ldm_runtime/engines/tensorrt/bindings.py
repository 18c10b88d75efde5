"""Checks of a loaded plan against the contract and the manifest: names, types, sizes, profiles.

Types are those of `ICudaEngine`: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/Engine.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm_runtime.engines.signature import check_graph
from ldm_runtime.errors import PackageError
from ldm_runtime.package.artefacts import Range
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32"}
_OPEN = "?"  # a size that a plan leaves to the run; it keeps no names of axes


def check_bindings(
    path: Path, engine: Any, promised: ComponentContract, profiles: Sequence[Mapping[str, Range]]
) -> None:
    """Raise PackageError unless the plan `path`, loaded as `engine`, keeps the contract and the manifest."""
    inputs, outputs = read_bindings(path, engine)
    check_graph(path, promised, inputs, outputs)
    if engine.num_optimization_profiles != len(profiles):
        raise PackageError(
            f"{path} has {engine.num_optimization_profiles} profiles, but the manifest says {len(profiles)}; build the "
            f"package again",
            code="plan.mismatch",
        )
    for index, profile in enumerate(profiles):
        for spec in promised.inputs:
            expected = [
                tuple(dim if isinstance(dim, int) else getattr(profile[dim], corner) for dim in spec.dims)
                for corner in ("min", "opt", "max")
            ]
            shapes = [tuple(shape) for shape in engine.get_tensor_profile_shape(spec.name, index)]
            if shapes != expected:
                raise PackageError(
                    f"{path} takes {spec.name} of {_shown(shapes)} in its profile {index}, but the manifest says "
                    f"{_shown(expected)}; build the package again",
                    code="plan.mismatch",
                )


def read_bindings(path: Path, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read the inputs and outputs of a loaded plan. Raises PackageError for a type that no component uses."""
    ports: dict[str, list[TensorSpec]] = {"INPUT": [], "OUTPUT": []}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            raise PackageError(
                f"{path} has {name!r} of type {dtype}, which no component uses; build the package again",
                code="graph.signature",
            )
        dims = tuple(_OPEN if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        ports[engine.get_tensor_mode(name).name].append(TensorSpec(name, _DTYPES[dtype], dims))
    return tuple(ports["INPUT"]), tuple(ports["OUTPUT"])


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return " : ".join("x".join(map(str, shape)) or "one number" for shape in shapes)
