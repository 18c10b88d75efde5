"""A checkpoint's tensors on disk: their files and shapes, and reading them without a copy.

Layouts: diffusers' `{stem}[.variant].safetensors`, the same in shards with an index (huggingface_hub's
`weight_map`), and the `model.safetensors` of an ldm package, through its manifest's key map.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ldm_export.checkpoint.json_files import read_object
from ldm_export.errors import CheckpointError
from ldm_export.families.keymaps import Rules, parameter_name
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import KeyEntry

# Eight-bit floats, which nothing computes with: they are read as F16, which has all of their values.
EIGHT_BITS = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
FLOATS = ("F64", "F32", "F16", "BF16", *EIGHT_BITS)
# The bits of a number that are all set where it is NaN or infinite, and nowhere else.
_NOT_FINITE = {
    "F16": 0x7C00,
    "BF16": 0x7F80,
    "F32": 0x7F800000,
    "F64": 0x7FF0000000000000,
    "F8_E4M3": 0x7F,
    "F8_E5M2": 0x7C,
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_PIECE = 2**19  # values at once: they stay in the processor's cache
MAX_LISTED = 8  # keys in one error


@dataclass(frozen=True)
class StoredTensor:
    """One parameter in a file; `shape` is the parameter's, after undoing `transpose`."""

    file: Path
    place: Path  # where the file is read, all links followed
    name: str  # in the file
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    transpose: tuple[int, ...] | None = None  # the permutation before it was stored

    @property
    def count(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)


Tensors = dict[str, StoredTensor]  # our parameter name -> where it lies


def find_tensors(
    root: ModelFolder, part: str, stem: str, rules: Rules, variant: str | None
) -> tuple[Tensors, tuple[str, ...]]:
    """Find all parameters in a part's folder of the diffusers checkpoint `root`; `rules` rename other layouts' keys.

    Also returns the names of the tensors that the rules drop.

    Raises CheckpointError: no weights, another variant only, pickles only, LFS stubs, truncated or malformed
    files, shards that do not hold what the index says, two keys for one parameter, links to elsewhere.
    """
    folder = root.path / part
    middle = "" if variant is None else f".{variant}"
    single = folder / f"{stem}{middle}.safetensors"
    index = folder / f"{stem}.safetensors.index{middle}.json"
    if os.path.lexists(single):
        stored = _header(root, single)
    elif os.path.lexists(index):
        stored = _sharded(root, index)
    else:
        raise CheckpointError(_why_no_weights(folder, single, variant))
    return _renamed(stored, rules, folder), tuple(
        tensor.name for tensor in stored if parameter_name(rules, tensor.name) is None
    )


def package_tensors(root: ModelFolder, weights: Path, keys: Mapping[str, KeyEntry]) -> Tensors:
    """Find the parameters of one component of the ldm package `root`, by the manifest's key map."""
    stored = {info.name: info for info in _header(root, weights)}
    tensors = {}
    for key, entry in keys.items():
        if entry.initialiser not in stored:
            raise CheckpointError(
                f"{weights} has no tensor {entry.initialiser!r}, where the manifest puts {key!r}; "
                f"build the package again"
            )
        tensors[key] = _before_transpose(stored[entry.initialiser], entry.transpose)
    return tensors


def read_tensors(tensors: Tensors, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Read the values as `dtype` (None: as stored, but eight bits as F16).

    What needs no conversion stays mapped until it is written to.
    """
    values = {}
    for place in sorted({stored.place for stored in tensors.values()}):
        arrays = safetensors.read(place)
        for name, stored in tensors.items():
            if stored.place == place:
                value = _tensor(arrays[stored.name], stored)
                values[name] = value if dtype is None else value.to(dtype)
    return values


def require_finite(tensors: Tensors, part: str) -> None:
    """Raise CheckpointError for the first parameter with a value that is NaN, infinite or too large for float32.

    The files are read in pieces, at the speed of the disk and in a few megabytes of memory.
    """
    for place in sorted({stored.place for stored in tensors.values()}):
        infos = safetensors.read_header(place).tensors
        inside = [(infos[stored.name].offset, name) for name, stored in tensors.items() if stored.place == place]
        with open(place, "rb") as file:
            for offset, name in sorted(inside):
                stored = tensors[name]
                file.seek(offset)
                if (value := _first_not_finite(file, stored.dtype, stored.count)) is not None:
                    raise CheckpointError(
                        f"{stored.file} holds {value:g} in {shown(stored.name)}, a weight of the {part}; expected "
                        f"finite numbers within float32: take a checkpoint from before the training diverged"
                    )


def _first_not_finite(file: BinaryIO, dtype: str, count: int) -> float | None:
    """Return the first of the next `count` values that is NaN, infinite or too large, judged by its exponent's bits."""
    exponent = _NOT_FINITE[dtype]
    stored = safetensors.DTYPES[dtype]
    for start in range(0, count, _PIECE):
        values = np.fromfile(file, stored, min(_PIECE, count - start))
        if dtype == "F64":
            bad = ~(np.abs(values) <= np.finfo(np.float32).max)
        else:
            bits = values.view(f"<u{stored.itemsize}") & exponent
            if bits.max(initial=0) != exponent:
                continue
            bad = bits == exponent
        if bad.any():
            return float(_floats(torch.from_numpy(values[[bad.argmax()]]), dtype).item())
    return None


def write_tensors(path: Path, module: torch.nn.Module, dtype: torch.dtype | None = None) -> None:
    """Write a module's parameters under their names, as diffusers and transformers read them.

    They are rounded to `dtype`; None leaves them as they are.
    Raises CheckpointError where a finite weight would become infinite.
    """
    arrays = {}
    for name, value in module.state_dict().items():
        value = value.detach().cpu().contiguous()
        arrays[name] = to_array(value if dtype is None else _rounded(name, value, dtype))
    safetensors.write(path, arrays, {"format": "pt"})


def to_array(value: torch.Tensor) -> np.ndarray:
    """Return the same memory for numpy, which has no BF16: its bits go as uint16."""
    return (value.view(torch.uint16) if value.dtype == torch.bfloat16 else value).numpy()


def _rounded(name: str, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    rounded = value.to(dtype)
    lost = value[rounded.isinf() & value.isfinite()]
    if lost.numel() > 0:
        worst, largest = lost[lost.abs().argmax()].item(), torch.finfo(dtype).max
        raise CheckpointError(
            f"{name!r} holds {worst:.6g}, but {str(dtype).removeprefix('torch.')} ends at {largest:.6g}; "
            f"save the weights in float32"
        )
    return rounded


def _tensor(array: np.ndarray, stored: StoredTensor) -> torch.Tensor:
    value = _floats(torch.from_numpy(np.require(array, requirements="A")), stored.dtype)
    if stored.transpose is not None:
        value = value.permute(*np.argsort(stored.transpose)).contiguous()
    return value


def _floats(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """Return numbers whose type numpy lacks, of which `value` has the bits; others as they are."""
    if dtype == "BF16":
        return value.view(torch.bfloat16)
    return value.view(EIGHT_BITS[dtype]).to(torch.float16) if dtype in EIGHT_BITS else value


def _before_transpose(stored: StoredTensor, transpose: tuple[int, ...] | None) -> StoredTensor:
    if transpose is None:
        return stored
    if len(transpose) != len(stored.shape):
        raise CheckpointError(
            f"{stored.file} has {stored.name!r} of shape {list(stored.shape)}, but the manifest transposes "
            f"it by {list(transpose)}; build the package again"
        )
    shape = tuple(stored.shape[axis] for axis in np.argsort(transpose))
    return replace(stored, shape=shape, transpose=transpose)


def _header(root: ModelFolder, file: Path) -> list[StoredTensor]:
    place = root.file(file.relative_to(root.path).as_posix())
    header = safetensors.read_header(place)
    return [StoredTensor(file, place, name, info.dtype, info.shape) for name, info in header.tensors.items()]


def _sharded(root: ModelFolder, index: Path) -> list[StoredTensor]:
    """Return the tensors of all shards, which must be exactly those of the index."""
    shards = read_object(index, folder=root).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index} has no weight_map from tensor names to files; fetch the file again")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors") or not name.isprintable():
            raise CheckpointError(f"{index} names the shard {name!r}; expected a .safetensors file beside it")
    stored = [tensor for name in sorted(set(shards.values())) for tensor in _header(root, index.parent / name)]
    found = {(tensor.name, tensor.file.name) for tensor in stored}
    if found != set(shards.items()):
        lost, extra = set(shards.items()) - found, found - set(shards.items())
        raise CheckpointError(
            f"the shards of {index} do not hold what it says: "
            f"{listed('missing', [f'{key} in {file}' for key, file in sorted(lost)])}"
            f"{listed('not in the index', [f'{key} in {file}' for key, file in sorted(extra)])}"
            f"fetch the folder again"
        )
    return stored


def _renamed(stored: list[StoredTensor], rules: Rules, folder: Path) -> Tensors:
    tensors: Tensors = {}
    for tensor in stored:
        name = parameter_name(rules, tensor.name)
        if name is None:
            continue
        if name in tensors:
            raise CheckpointError(
                f"{folder} has two tensors for {name!r}: {tensors[name].name!r} and {tensor.name!r}; expected one"
            )
        if tensor.dtype not in FLOATS:
            raise CheckpointError(
                f"{tensor.file} has {tensor.name!r} as {tensor.dtype}, which is not supported: "
                f"weights must be {', '.join(FLOATS)}"
            )
        tensors[name] = tensor
    return tensors


def _why_no_weights(folder: Path, expected: Path, variant: str | None) -> str:
    """Say in one sentence what the folder has instead of `expected`."""
    if not folder.is_dir():
        return f"{folder} does not exist; expected a part's folder with {expected.name}"
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name.endswith(".safetensors") or ".safetensors.index" in name]
    if others:
        wanted = "without a variant" if variant is None else f"of the variant {variant!r}"
        return f"{folder} has no weights {wanted} (expected {expected.name}); it has {', '.join(others)}"
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return (
            f"{folder} has only pickled weights ({', '.join(pickles)}), which can run code when loaded; "
            f"convert the checkpoint to safetensors with diffusers' from_pretrained and save_pretrained, and give that"
        )
    return f"{folder} has no weights; expected {expected.name}"


def listed(label: str, items: Iterable[str]) -> str:
    """List items as `"3 missing (a, b, c); "`, cut after MAX_LISTED; the empty string if there are none."""
    items = list(items)
    shown = items[:MAX_LISTED] + ([f"and {len(items) - MAX_LISTED} more"] if len(items) > MAX_LISTED else [])
    return f"{len(items)} {label} ({', '.join(shown)}); " if items else ""
