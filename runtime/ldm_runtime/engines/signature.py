"""Checks of inputs and outputs against the contract: when a graph is opened, before every run, and after it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ldm_runtime.errors import EngineError, PackageError
from ldm_runtime.package.manifest import Axis
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

Sizes = dict[str, int]  # axis -> size


def check_graph(
    path: Path, promised: ComponentContract, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Raise PackageError unless the inputs and outputs of the file `path` are those that the contract promises."""
    for what, specs, actual in (("input", promised.inputs, inputs), ("output", promised.outputs, outputs)):
        graph = {spec.name: spec for spec in actual}
        for spec in specs:
            if spec.name not in graph or not _fits(spec, graph[spec.name]):
                got = str(graph.get(spec.name, "nothing of that name"))
                raise PackageError(
                    f"{path} has as {what} {got}, but the manifest promises {spec}; build the package again",
                    code="graph.signature",
                )
        extra = sorted(set(graph) - {spec.name for spec in specs})
        if extra and what == "input":
            raise PackageError(
                f"{path} wants the input {extra[0]!r}, which the manifest does not name; build the package again",
                code="graph.signature",
            )


def check_feeds(
    path: Path, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], feeds: Mapping[str, np.ndarray]
) -> Sizes:
    """Return the size of every axis in `feeds`, for an engine that does not check itself.

    Raises EngineError for an input that is missing or not known, of another type or rank, with a fixed dimension of
    another size, or with an axis outside of its range or of two sizes.
    """
    if set(feeds) != {spec.name for spec in inputs}:
        names = ", ".join(spec.name for spec in inputs)
        raise EngineError(f"{path} was given {', '.join(sorted(feeds)) or 'nothing'}; it takes {names}")
    sizes: Sizes = {}
    for spec in inputs:
        array = feeds[spec.name]
        if array.dtype != spec.dtype or array.ndim != len(spec.dims):
            raise EngineError(
                f"{path} was given {spec.name} as {array.dtype} of shape {array.shape}; it takes {spec.dtype} of "
                f"shape ({', '.join(map(str, spec.dims))})"
            )
        for dim, size in zip(spec.dims, array.shape, strict=True):
            if isinstance(dim, int):
                low = high = dim
            elif dim in sizes:
                low = high = sizes[dim]
            else:
                low, high = axes[dim].min, axes[dim].max
                sizes[dim] = size
            if not low <= size <= high:
                expected = str(low) if low == high else f"{low} to {high}"
                axis = "" if isinstance(dim, int) else f" for {dim}"
                raise EngineError(
                    f"{path} was given {spec.name} of shape {array.shape}: {size} where it takes {expected}{axis}"
                )
    return sizes


def sizes_of(inputs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> Sizes:
    """Return the size of every axis in `feeds`, of an engine that checks them itself, and has taken them."""
    shapes = (zip(spec.dims, feeds[spec.name].shape, strict=True) for spec in inputs)
    return {dim: size for pairs in shapes for dim, size in pairs if isinstance(dim, str)}


def check_results(
    path: Path,
    outputs: Sequence[TensorSpec],
    axes: Mapping[str, Axis],
    sizes: Sizes,
    results: Mapping[str, np.ndarray],
) -> None:
    """Raise EngineError if an output has another type or shape than follows from the sizes of the inputs' axes."""
    sizes = _with_multiples(sizes, axes)
    for spec in outputs:
        array = results[spec.name]
        right = array.dtype == spec.dtype and array.ndim == len(spec.dims)
        for dim, size in zip(spec.dims, array.shape, strict=False):
            right = right and size == (dim if isinstance(dim, int) else sizes.get(dim, size))
        if not right:
            raise EngineError(
                f"{path} made {spec.name} as {array.dtype} of shape {array.shape}, which is not what the contract says "
                f"of {', '.join(f'{axis} {size}' for axis, size in sizes.items())}"
            )


def _with_multiples(sizes: Sizes, axes: Mapping[str, Axis]) -> Sizes:
    """Add the axes that are multiples of those that are known, and those of which these are multiples."""
    known = dict(sizes)
    for name, axis in axes.items():
        multiple = axis.multiple_of
        if multiple is not None and multiple.axis in sizes:
            known.setdefault(name, sizes[multiple.axis] * multiple.factor)
        elif multiple is not None and name in sizes:
            known.setdefault(multiple.axis, sizes[name] // multiple.factor)
    return known


def _fits(promised: TensorSpec, actual: TensorSpec) -> bool:
    """Tell whether a size fits: a graph may leave one open that the contract fixes, never the other way round."""
    return (
        promised.dtype == actual.dtype
        and len(promised.dims) == len(actual.dims)
        and all(isinstance(have, str) or have == want for want, have in zip(promised.dims, actual.dims, strict=True))
    )
