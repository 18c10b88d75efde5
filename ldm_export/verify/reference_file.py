"""verify/reference.safetensors: inputs and torch's outputs for them, so that verifying needs no torch.

Tensors: `{component}/{case}/input/{name}` and `{component}/{case}/output/{name}` (the graph's own names,
dtypes and shapes), `{component}/tokens` (prompts, max_length) int64 of each text encoder, `trajectory/latents`
(steps, C, h, w) after every step and `trajectory/image` (3, H, W), around [-1, 1], both float32. The metadata key
`reference` holds everything else as JSON.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.errors import ExportError
from ldm_export.verify import reference_rules
from ldm_runtime.checks import shown
from ldm_runtime.errors import PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Contract, Defaults, LatentSpec, TokenizerFacts
from ldm_runtime.package.open import refused
from ldm_runtime.sampling.schedule import Schedule

SCHEMA_VERSION = 3
FILE = "verify/reference.safetensors"  # relative to the package
MAX_BYTES = 32_000_000  # SDXL has 23 million: contexts of 2,048 numbers a token
CAPTURED = "captured"  # how the names of cases begin whose inputs are those of a run
_KEY = "reference"


@dataclass(frozen=True)
class Facts:
    """The facts that torch computed with; the manifest's contract must say the same."""

    latent: LatentSpec
    schedule: Schedule
    defaults: Defaults
    tokenizers: dict[str, TokenizerFacts]  # text encoder -> of its own


@dataclass(frozen=True)
class Case:
    """One evaluation of one component; arrays are named as the graph names them."""

    component: str
    name: str
    tolerance: float  # largest relative RMS of an output of a float32 engine
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    @property
    def is_captured(self) -> bool:
        """Whether the inputs are those of a real run; others are drawn."""
        return self.name.startswith(CAPTURED)


@dataclass(frozen=True)
class SamplingRun:
    """The settings of one sampling run of one image, and how close another must come to it."""

    prompt: str
    negative: str
    seed: int
    sampler: str
    steps: int
    guidance: float
    size: tuple[int, int]  # width, height in pixels
    timesteps: tuple[float, ...]
    latents_floor: float  # dB: PSNR that the latents must have after every step
    image_floor: float  # dB: PSNR of the image, before rounding to bytes


@dataclass(frozen=True)
class Trajectory(SamplingRun):
    """A sampling run with the package's own defaults, and torch's results of it."""

    latents: np.ndarray  # float32 (steps, C, h, w), after each step
    image: np.ndarray  # float32 (3, H, W), around [-1, 1]


@dataclass(frozen=True)
class Reference:
    facts: Facts
    prompts: tuple[str, ...]
    tokens: dict[str, np.ndarray]  # text encoder -> int64 (prompts, max_length)
    cases: tuple[Case, ...]
    trajectory: Trajectory

    def cases_of(self, component: str) -> list[Case]:
        """List the cases of one component."""
        return [case for case in self.cases if case.component == component]


@dataclass(frozen=True)
class _CaseHeader:
    component: str
    name: str
    tolerance: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class _Header:
    schema_version: int
    facts: Facts
    prompts: tuple[str, ...]
    cases: tuple[_CaseHeader, ...]
    trajectory: SamplingRun


def write(path: Path, reference: Reference) -> None:
    """Write the file whole or not at all; the same contents give the same bytes.

    Raises:
        ExportError: it would be larger than 32 MB, which a package must not carry.
    """
    tensors = {_tokens_key(component): ids for component, ids in reference.tokens.items()}
    for case in reference.cases:
        tensors |= {_input_key(case, name): array for name, array in case.inputs.items()}
        tensors |= {_output_key(case, name): array for name, array in case.outputs.items()}
    tensors["trajectory/latents"] = reference.trajectory.latents
    tensors["trajectory/image"] = reference.trajectory.image
    size = sum(array.nbytes for array in tensors.values())
    if size > MAX_BYTES:
        raise ExportError(f"the reference would have {size} bytes, more than the {MAX_BYTES} that a package may carry")
    header = _Header(
        schema_version=SCHEMA_VERSION,
        facts=reference.facts,
        prompts=reference.prompts,
        cases=tuple(
            _CaseHeader(case.component, case.name, case.tolerance, tuple(case.inputs), tuple(case.outputs))
            for case in reference.cases
        ),
        trajectory=SamplingRun(**settings(reference.trajectory)),
    )
    text = json.dumps(strict_json.plain(header), allow_nan=False, ensure_ascii=False)
    safetensors.write(path, tensors, {_KEY: text})


@refused()
def read(path: Path) -> Reference:
    """Map the file and check that it is whole; arrays are read when they are touched.

    Raises:
        PackageError: missing, damaged, of another schema version, or a tensor is missing or too many.
    """
    text = safetensors.read_header(path).metadata.get(_KEY)
    if text is None:
        raise PackageError(
            f"{path} has no {_KEY!r} in its metadata: it is not a reference; build the package again",
            code="proof.invalid",
        )
    value = strict_json.parse(text, f"the metadata of {path}")
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise PackageError(
            f"{path} has schema_version {strict_json.spelt(version)}, this program reads {SCHEMA_VERSION}; "
            "build the package again",
            code="proof.invalid",
        )
    header = strict_json.read(_Header, value, f"the metadata of {path}")
    tensors = dict(safetensors.read(path))

    def take(key: str) -> np.ndarray:
        if key not in tensors:
            raise PackageError(f"{path} lacks the tensor {key!r}; build the package again", code="proof.invalid")
        return tensors.pop(key)

    cases = []
    for case in header.cases:
        inputs = {name: take(_input_key(case, name)) for name in case.inputs}
        outputs = {name: take(_output_key(case, name)) for name in case.outputs}
        cases.append(Case(case.component, case.name, case.tolerance, inputs, outputs))
    trajectory = Trajectory(
        **settings(header.trajectory),
        latents=take("trajectory/latents"),
        image=take("trajectory/image"),
    )
    tokens = {component: take(_tokens_key(component)) for component in header.facts.tokenizers}
    reference = Reference(header.facts, header.prompts, tokens, tuple(cases), trajectory)
    if tensors:
        raise PackageError(
            f"{path} has tensors that no case names: {shown(', '.join(sorted(tensors)))}; build the package again",
            code="proof.invalid",
        )
    reference_rules.check(reference, path)
    return reference


def settings(run: SamplingRun) -> dict[str, Any]:
    """Return the fields of a `SamplingRun`, without what a subclass adds."""
    return {field.name: getattr(run, field.name) for field in dataclasses.fields(SamplingRun)}


def compared_sizes(reference: Reference, contract: Contract) -> dict[str, set[int]]:
    """Return axis -> its sizes in the cases. Raises PackageError for a tensor that the contract does not have."""
    sizes: dict[str, set[int]] = {}
    for case in reference.cases:
        for name, array in {**case.inputs, **case.outputs}.items():
            for dim, size in zip(_dims(contract, case, name, array), array.shape, strict=True):
                if isinstance(dim, str):
                    sizes.setdefault(dim, set()).add(size)
    return sizes


def _dims(contract: Contract, case: Case, name: str, array: np.ndarray) -> tuple[int | str, ...]:
    specs = contract.components.get(case.component)
    dims = [spec.dims for spec in (*specs.inputs, *specs.outputs) if spec.name == name] if specs is not None else []
    if not dims or len(dims[0]) != array.ndim:
        raise PackageError(
            f"the reference has {case.component}/{name} of shape {list(array.shape)}, but the contract has "
            f"{f'the dimensions {list(dims[0])}' if dims else 'no such tensor'}; build the package again",
            code="proof.invalid",
        )
    return dims[0]


def _tokens_key(component: str) -> str:
    return f"{component}/tokens"


def _input_key(case: Any, name: str) -> str:
    return f"{case.component}/{case.name}/input/{name}"


def _output_key(case: Any, name: str) -> str:
    return f"{case.component}/{case.name}/output/{name}"
