"""A checkpoint's parameters: found by their names in its files, and read without a copy.

They lie in the files of a diffusers folder (`weight_files`), or in the `model.safetensors` of an ldm package, through
its manifest's key map.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ldm_export.checkpoint.stored import StoredTensor, Tensors
from ldm_export.checkpoint.weight_files import stored_in, weights_of
from ldm_export.errors import CheckpointError
from ldm_export.families.keymaps import Rules, as_matrix, parameter_name
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import KeyEntry

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
_PIECE = 2**19  # values at once: they stay in the processor's cache


def find_tensors(
    root: ModelFolder, part: str, stem: str, rules: Rules, variant: str | None
) -> tuple[Tensors, bool, tuple[str, ...]]:
    """Find all parameters in a part's folder of the diffusers checkpoint `root`; `rules` rename other layouts' keys.

    Also return whether they are those of the variant, which not every part needs to have, and the names of the tensors
    that the rules leave out.
    Raises CheckpointError: as `weights_of`, or two keys for one parameter.
    """
    stored, is_variant = weights_of(root, part, stem, variant)
    tensors, left_out = renamed(stored, rules, root.path / part)
    return tensors, is_variant, left_out


def package_tensors(root: ModelFolder, weights: Path, keys: Mapping[str, KeyEntry]) -> Tensors:
    """Find the parameters of one component of the ldm package `root`, by the manifest's key map."""
    stored = {info.name: info for info in stored_in(root, weights)}
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
        data = np.memmap(place, np.uint8, mode="c")  # writing to an array never reaches the file
        for name, stored in tensors.items():
            if stored.place == place:
                value = _tensor(data, stored)
                values[name] = value if dtype is None else value.to(dtype)
    return values


def read_tensor(stored: StoredTensor) -> torch.Tensor:
    """Read one parameter as it is stored, not mapped: its file takes no memory.

    Raises CheckpointError where the file is no longer what it was when its header was read.
    """
    length = stored.count * safetensors.DTYPES[stored.dtype].itemsize
    try:
        data = np.fromfile(stored.place, np.uint8, length, offset=stored.offset)
    except OSError as error:
        raise CheckpointError(f"cannot read {stored.file}: {error.strerror}; fetch the file again") from error
    if len(data) < length:
        raise CheckpointError(f"{stored.file} has become shorter while it was read; leave it alone during a build")
    return _tensor(data, replace(stored, offset=0))


def require_finite(tensors: Tensors, part: str) -> None:
    """Raise CheckpointError for the first parameter with a value that is NaN, infinite or too large for float32.

    The files are read in pieces, at the speed of the disk and in a few megabytes of memory.
    """
    for place in sorted({stored.place for stored in tensors.values()}):
        inside = [stored for stored in tensors.values() if stored.place == place]
        with open(place, "rb") as file:
            for stored in sorted(inside, key=lambda each: each.offset):
                file.seek(stored.offset)
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


def _tensor(data: np.ndarray, stored: StoredTensor) -> torch.Tensor:
    if stored.count == 0:
        array = np.empty(stored.stored_shape, safetensors.DTYPES[stored.dtype])
    else:
        array = np.frombuffer(data, safetensors.DTYPES[stored.dtype], stored.count, stored.offset)
    value = _floats(torch.from_numpy(np.require(array, requirements="A").reshape(stored.stored_shape)), stored.dtype)
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


def renamed(
    stored: list[StoredTensor], rules: Rules, folder: Path, prefix: str = ""
) -> tuple[Tensors, tuple[str, ...]]:
    """Name what lies in `folder` as the parameters that it is; also return the names that the rules leave out.

    prefix: begins the names in the files, which the rules are without.
    Raises CheckpointError for two of one name, and for weights that are no floats.
    """
    tensors: Tensors = {}
    left_out = []
    for tensor in stored:
        name = parameter_name(rules, tensor.name.removeprefix(prefix))
        if name is None:
            left_out.append(tensor.name)
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
        tensors[name] = replace(tensor, shape=as_matrix(rules, name, tensor.shape))
    return tensors, tuple(left_out)
