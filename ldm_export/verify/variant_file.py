"""verify/variants/NAME.safetensors: what a variant made where its error was measured, to compare it with itself.

Tensors, all float32: `{component}/{case}/output/{name}` for each case of the reference and each component that the
variant has a way for, and `trajectory/image` (3, H, W), around [-1, 1], of the reference's sampling run drawn with the
variant. The metadata key `variant` holds the variant as the manifest had it, as JSON.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.verify.reference_file import Case, Reference
from ldm_runtime.checks import shown
from ldm_runtime.errors import PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import refused
from ldm_runtime.package.variants import Variant

FOLDER = "verify/variants"  # relative to the package
_KEY = "variant"
_IMAGE = "trajectory/image"


@dataclass(frozen=True)
class OwnRecord:
    """What a variant made. cases: the reference's with the variant's own outputs. variant: JSON."""

    cases: tuple[Case, ...]
    image: np.ndarray
    variant: Any

    def cases_of(self, component: str) -> list[Case]:
        return [case for case in self.cases if case.component == component]


def file_of(variant: str) -> str:
    """Return the path of a variant's record, relative to the package."""
    return f"{FOLDER}/{variant}.safetensors"


def write(path: Path, variant: Variant, cases: tuple[Case, ...], image: np.ndarray) -> None:
    tensors = {_key(case, name): array for case in cases for name, array in case.outputs.items()}
    text = json.dumps(strict_json.plain(variant), allow_nan=False, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.write(path, {**tensors, _IMAGE: image}, {_KEY: text})


@refused()
def read(path: Path, variant: Variant, reference: Reference) -> OwnRecord:
    """Read the record of `variant` beside the reference of its package.

    Raises PackageError: missing, damaged, or not of the reference's cases, each as float32 in the reference's shape.
    """
    text = safetensors.read_header(path).metadata.get(_KEY)
    if text is None:
        raise _error(f"{path} has no {_KEY!r} in its metadata: it is not the record of a variant")
    value = strict_json.parse(text, f"the metadata of {path}")
    tensors = dict(safetensors.read(path))
    cases = tuple(_cases(path, variant, reference, tensors))
    image = _take(path, tensors, _IMAGE, reference.trajectory.image)
    if tensors:
        raise _error(f"{path} has tensors that no case names: {shown(', '.join(sorted(tensors)))}")
    return OwnRecord(cases, image, value)


def _cases(path: Path, variant: Variant, reference: Reference, tensors: dict[str, np.ndarray]) -> Iterator[Case]:
    for component in variant.ways:
        for case in reference.cases_of(component):
            outputs = {name: _take(path, tensors, _key(case, name), array) for name, array in case.outputs.items()}
            yield Case(component, case.name, case.tolerance, case.inputs, outputs)


def _take(path: Path, tensors: dict[str, np.ndarray], key: str, like: np.ndarray) -> np.ndarray:
    """Take a tensor out of those that are left."""
    if key not in tensors:
        raise _error(f"{path} lacks the tensor {shown(key)}")
    array = tensors.pop(key)
    if array.shape != like.shape or array.dtype != np.float32 or not np.isfinite(array).all():
        raise _error(f"{path}: {shown(key)} is not float32 in the shape {list(like.shape)}, or holds NaN or infinity")
    return array


def _key(case: Case, name: str) -> str:
    return f"{case.component}/{case.name}/output/{name}"


def _error(text: str) -> PackageError:
    return PackageError(f"{text}; build the package again", code="proof.invalid")
