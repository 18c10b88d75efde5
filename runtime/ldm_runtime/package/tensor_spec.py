"""The inputs and outputs of a graph: names, types and sizes, fixed or by an axis of the contract."""

import dataclasses

# A size of one dimension of a tensor: fixed, or the name of an axis of the contract.
Dim = int | str


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str  # numpy's name: "float32", "int64"
    dims: tuple[int | str, ...]


@dataclasses.dataclass(frozen=True)
class ComponentContract:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
