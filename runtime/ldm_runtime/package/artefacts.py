"""The forms of a component in a package: its canonical graph, and what was made of that for one engine."""

import dataclasses
from typing import Literal

from ldm_runtime.files.strict_json import OPTIONAL
from ldm_runtime.package.tensor_spec import ComponentContract

CANONICAL = "canonical"

Floating = Literal["fp32", "fp16", "bf16"]
Precision = Literal[Floating, "int8", "int4"]
INTEGERS: tuple[Precision, ...] = ("int8", "int4")  # lossy by more than rounding: a variant has the error


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of an artefact or an output from the reference: the worst sample's figures."""

    relative_rms: float
    max_abs: float


@dataclasses.dataclass(frozen=True)
class Range:
    """Smallest, preferred and largest size of an axis."""

    min: int
    opt: int
    max: int


@dataclasses.dataclass(frozen=True)
class PlanRequirements:
    """The requirements of a TensorRT plan.

    graph, weights: SHA-256 of the canonical files that it was built from. profiles: the axes that it was built for,
    one mapping for each optimisation profile.
    """

    flavour: Literal["rtx", "classic"]
    version: str  # TensorRT's
    compute_capabilities: tuple[str, ...]  # such as "8.9"; every one that the plan runs on
    options: tuple[Literal["refit", "weight_stripped"], ...]
    graph: str
    weights: str
    profiles: tuple[dict[str, Range], ...]
    activation_bytes: int | None  # on the GPU, at the largest sizes, as TensorRT says; None where it does not
    weight_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Artefact:
    """One form of a component: its canonical graph, or what was made of that for one engine.

    files: relative posix paths; the engine opens the first, the others hold the weights.
    engine: what it was made for, or "any". A runtime leaves alone what none of its engines reads.
    requires: what the machine must have; None where any machine does.
    interface: the graph's inputs and outputs, where they are not the component's.
    kept: nodes that stay in float32 where the others are reduced.
    rescaled: what the values between residual blocks were divided by, so that they stay in half precision's range.
    merged: the share of an image's tokens that its attention to itself leaves out, where these are many.
    """

    name: str
    format: str  # "onnx", "openvino", "tensorrt"
    files: tuple[str, ...]
    engine: str  # "any", "ort_cpu", "openvino", "tensorrt"
    precision: Precision
    exactness: Literal["exact", "lossy"]
    difference: Difference | None
    requires: PlanRequirements | None = None
    interface: ComponentContract | None = dataclasses.field(default=None, metadata=OPTIONAL)
    kept: tuple[str, ...] = dataclasses.field(default=(), metadata=OPTIONAL)
    rescaled: float | None = dataclasses.field(default=None, metadata=OPTIONAL)
    merged: float | None = dataclasses.field(default=None, metadata=OPTIONAL)

    @property
    def file(self) -> str:
        """Return the file that an engine opens."""
        return self.files[0]

    @property
    def needs_variant(self) -> bool:
        """Return whether it is lossy by more than rounding, so that a variant has to have its error."""
        return self.precision in INTEGERS or self.merged is not None


@dataclasses.dataclass(frozen=True)
class KeyEntry:
    """The place of a tensor of the checkpoint: initialiser = checkpoint.transpose(transpose)."""

    initialiser: str
    transpose: tuple[int, ...] | None
    dtype: str  # in the checkpoint, as safetensors names it; the data file has it too, but F32 for F64, F16 for F8


@dataclasses.dataclass(frozen=True)
class Component:
    """A graph of the contract in all its forms. `keys` says which tensor of `weights` holds which parameter."""

    weights: str  # relative posix path of the canonical graph's data file, in safetensors format
    artefacts: tuple[Artefact, ...]
    keys: dict[str, KeyEntry]

    @property
    def canonical(self) -> Artefact:
        """Return the ONNX graph that all other artefacts are made from."""
        return next(artefact for artefact in self.artefacts if artefact.name == CANONICAL)
