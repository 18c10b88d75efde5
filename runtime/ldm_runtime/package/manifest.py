"""manifest.json: the contract, artefacts, identity, provenance and proof of a package, as frozen dataclasses.

The manifest is written by a machine and not trusted: `parse` refuses whatever it does not know, and a
parsed `Manifest` is consistent in itself (`manifest_rules`). Whether the files agree is up to `package`.
"""

import dataclasses
import functools
import json
from typing import Any, Literal

from ldm_runtime.errors import PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package import rules as manifest_rules
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import Sampler, read_sampler

SCHEMA_VERSION = 3
CANONICAL = "canonical"
COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")

# A size of one dimension of a tensor: fixed, or the name of an axis of the contract.
Dim = int | str
Precision = Literal["fp32", "fp16", "bf16"]


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


@dataclasses.dataclass(frozen=True)
class Axis:
    """A dynamic axis: the sizes it may have, and those at which engine and reference were compared."""

    min: int
    max: int
    proven: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class LatentSpec:
    """The latent space: the UNet sees z = (mean - shift) * scale, the decoder is given z / scale + shift."""

    channels: int
    downsample: int  # image pixels per latent pixel, along each side
    scale: float
    shift: float


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The image size when none is asked for, in pixels."""

    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What `run` takes where nothing is given."""

    sampler: str
    steps: int
    guidance: float

    @functools.cached_property
    def parsed_sampler(self) -> Sampler:
        """`sampler`, parsed once."""
        return read_sampler(self.sampler)


@dataclasses.dataclass(frozen=True)
class TokenizerFacts:
    max_length: int  # tokens of one window, with the begin and end tokens
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    vocab_size: int


@dataclasses.dataclass(frozen=True)
class Contract:
    """All that a runtime has to know; it guesses nothing."""

    components: dict[str, ComponentContract]
    axes: dict[str, Axis]
    latent: LatentSpec
    image: ImageSpec
    schedule: Schedule
    defaults: Defaults
    tokenizer: TokenizerFacts

    def tensor(self, component: str, name: str) -> TensorSpec:
        """The input or output `name` of `component`; KeyError if there is none."""
        contract = self.components[component]
        for spec in (*contract.inputs, *contract.outputs):
            if spec.name == name:
                return spec
        raise KeyError(f"{component} has no input or output {name!r}")

    @property
    def inpaints(self) -> bool:
        """Whether the UNet reads, after the latents, a mask (one channel) and the latents of the masked picture."""
        return self.tensor("unet", "sample").dims[1] == 2 * self.latent.channels + 1

    def range_of(self, dim: Dim) -> tuple[int, int]:
        """The smallest and largest size of a dimension."""
        if isinstance(dim, int):
            return dim, dim
        return self.axes[dim].min, self.axes[dim].max


@dataclasses.dataclass(frozen=True)
class Difference:
    """What an artefact or an output differs from the reference by: the worst sample's figures."""

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
    """What a TensorRT plan needs to run.

    graph, weights: SHA-256 of the canonical files that it was built from. profiles: the axes that it was built for,
    one mapping for each optimisation profile.
    """

    flavour: Literal["rtx", "classic"]
    version: str  # of TensorRT
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
    """

    name: str
    format: str  # "onnx", "openvino", "tensorrt"
    files: tuple[str, ...]
    engine: str  # "any", "ort_cpu", "openvino", "tensorrt"
    precision: Precision
    exactness: Literal["exact", "lossy"]
    difference: Difference | None
    requires: PlanRequirements | None = None

    @property
    def file(self) -> str:
        """The file that an engine opens."""
        return self.files[0]


@dataclasses.dataclass(frozen=True)
class KeyEntry:
    """Where a tensor of the checkpoint went: initialiser = checkpoint.transpose(transpose)."""

    initialiser: str
    transpose: tuple[int, ...] | None
    dtype: str  # in the checkpoint, as safetensors names it; the data file has the same, but F32 for F64


@dataclasses.dataclass(frozen=True)
class Component:
    """A graph of the contract in all its forms. `keys` says which tensor of `weights` holds which parameter."""

    weights: str  # relative posix path of the canonical graph's data file, in safetensors format
    artefacts: tuple[Artefact, ...]
    keys: dict[str, KeyEntry]

    @property
    def canonical(self) -> Artefact:
        """The ONNX graph that all other artefacts are made from."""
        return next(artefact for artefact in self.artefacts if artefact.name == CANONICAL)


@dataclasses.dataclass(frozen=True)
class FileEntry:
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Source:
    name: str
    sha256: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Provenance:
    source: Source
    tools: dict[str, str]
    opset: int
    ir_version: int
    recipe: dict[str, Any]
    created_with: str


@dataclasses.dataclass(frozen=True)
class Proof:
    passed: bool
    report: str
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """`files` lists every file of the package but manifest.json and the reports that `verify` rewrites."""

    schema_version: int
    name: str
    contract: Contract
    components: dict[str, Component]
    files: dict[str, FileEntry]
    provenance: Provenance
    dropped: tuple[str, ...]
    proof: Proof


def parse(text: str, where: str) -> Manifest:
    """Read a manifest; `where` names the file in messages.

    Raises:
        PackageError: not JSON, another schema version, an unknown or missing key, a wrong type, or contents
            that contradict themselves; the message has the JSON path.
    """
    value = strict_json.parse(text, where)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise PackageError(
            f"{where} has schema_version {version!r}, but this runtime reads {SCHEMA_VERSION}; "
            f"build the package again or install the matching version"
        )
    manifest = strict_json.read(Manifest, value, f"{where}: manifest")
    manifest_rules.check(manifest, f"{where}: manifest")
    return manifest


def dump(manifest: Manifest) -> str:
    """The manifest as text that `parse` reads back to an equal value; the same value gives the same text."""
    value = dataclasses.asdict(manifest)
    value["files"] = dict(sorted(value["files"].items()))
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
