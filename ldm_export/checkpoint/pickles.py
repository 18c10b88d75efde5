"""Pickled weights (`.bin`, `.ckpt`): listed by torch's restricted loader in a process of its own, then read as bytes.

A pickle is a program. `torch.load(weights_only=True)` runs none but the building of tensors, and here it builds them
without data, in a process whose memory and time are limited. What comes back are names, types, shapes and places: torch
stores the values uncompressed in a zip archive, from where they are mapped like those of a safetensors file. The
process that asked never unpickles anything of the file's.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ldm_export.errors import CheckpointError
from ldm_export.process.isolate import StageTimeError, run_isolated
from ldm_export.process.limits import limit_memory, limit_time
from ldm_runtime.checks import shown
from ldm_runtime.package import safetensors

PICKLES = (".bin", ".ckpt", ".pt", ".pth")
MAX_PROGRAM_BYTES = 2**26  # of the pickle itself, without the tensors' values; that of SDXL has half a million
MAX_TENSORS = 2**16
MAX_NAME = 512
LISTING_BYTES = 2**32  # of address space for the process that lists a file, besides what torch takes
LISTING_SECONDS = 120  # of a processor; the listing of SDXL takes a few

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
# How torch names what a pickle wants and must not have.
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")


class PickledTensor(NamedTuple):
    """One tensor of a pickled file, whose values begin at a byte of the file, in C order of maybe other axes."""

    name: str
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    transpose: tuple[int, ...] | None  # the permutation before it was stored
    offset: int


def list_pickle(place: Path, name: str) -> list[PickledTensor]:
    """List the tensors of a file; nothing of it is unpickled in this process. `name` is the file's in messages.

    Raises CheckpointError: no file of torch's, or damaged, or one that holds anything but tensors and plain values.
    """
    try:
        outcome = run_isolated(list_within_limits, place, name)
    except StageTimeError:
        raise CheckpointError(
            f"{name} would take more than {LISTING_SECONDS} seconds to list: it holds more than tensors: not read"
        ) from None
    tensors: list[PickledTensor] = outcome.value
    size = place.stat().st_size
    for tensor in tensors:
        if tensor.offset + _bytes(tensor) > size:
            raise CheckpointError(f"{name} is truncated before the end of {shown(tensor.name)}; fetch the file again")
    return tensors


def list_within_limits(place: Path, name: str) -> list[PickledTensor]:
    """List the tensors in this process, once its memory and time are limited. Raises as `list_pickle`."""
    limit_memory(LISTING_BYTES)
    limit_time(LISTING_SECONDS)
    return list_here(place, name)


def list_here(place: Path, name: str) -> list[PickledTensor]:
    """List the tensors in this process. Raises as `list_pickle`."""
    with open(place, "rb") as file:
        safetensors.refuse_lfs_stub(file.read(64), Path(name))
    try:
        records = _records(place, name)
        state = _load(place)
        return [_described(key, value, records, name) for key, value in _tensors(state, name)]
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(name, str(error))) from None
    except MemoryError:
        raise CheckpointError(
            f"{name} would take more than {LISTING_BYTES >> 30} GB to list: it holds more than tensors: not read"
        ) from None
    except Exception as error:  # whatever a damaged file makes torch say
        first = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{name} cannot be read as torch's file of tensors ({type(error).__name__}: {first[:120]}); fetch it again"
        ) from None


def _records(place: Path, name: str) -> dict[int, int]:
    """Return where the values of each storage begin, and how many bytes they have: all uncompressed."""
    try:
        archive = zipfile.ZipFile(place)
    except zipfile.BadZipFile:
        raise CheckpointError(
            f"{name} is no archive of torch's (1.6 or newer) that is whole; fetch it again, or load and save it with "
            f"a new torch"
        ) from None
    records = {}
    with archive, open(place, "rb") as file:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise CheckpointError(f"{name} is compressed or encrypted, which torch's own files are not: not read")
            folder, _, record = info.filename.rpartition("/")
            if record == "data.pkl" and info.file_size > MAX_PROGRAM_BYTES:
                raise CheckpointError(
                    f"{name} has a pickle of {info.file_size} bytes beside its tensors; expected at most "
                    f"{MAX_PROGRAM_BYTES}: it holds more than tensors, so it is not read"
                )
            if record == "byteorder" and _start_of(archive, info, 8) != b"little":
                raise CheckpointError(f"{name} was written on a big-endian machine; save it again on another")
            if folder.endswith("/data"):
                file.seek(info.header_offset + 26)  # of a local header: the lengths of its name and extra field
                lengths = file.read(4)
                begin = info.header_offset + 30 + int.from_bytes(lengths[:2], "little")
                records[begin + int.from_bytes(lengths[2:], "little")] = info.file_size
    return records


def _start_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(info) as record:
        return record.read(most)


def _load(place: Path) -> Any:
    """Build what the pickle says, its tensors without data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(place, map_location="cpu", weights_only=True)


def _tensors(state: Any, name: str) -> Iterable[tuple[str, torch.Tensor]]:
    """Return the tensors of a state dict, or of the one that a checkpoint of Lightning keeps under "state_dict"."""
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise CheckpointError(f"{name} holds a {type(state).__name__}; expected a dictionary of tensors")
    tensors = [(key, value) for key, value in state.items() if isinstance(value, torch.Tensor)]
    if not tensors or len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{name} holds {len(tensors)} tensors; expected 1 to {MAX_TENSORS}")
    for key, _ in tensors:
        if not isinstance(key, str) or len(key) > MAX_NAME:
            raise CheckpointError(f"{name} has a tensor under {shown(key)}; expected a name of {MAX_NAME} characters")
    return tensors


def _described(key: str, value: torch.Tensor, records: dict[int, int], name: str) -> PickledTensor:
    what = f"{name} has {shown(key)}"
    if value.layout != torch.strided or value.is_quantized or value.dtype not in _DTYPES:
        raise CheckpointError(f"{what} as {value.dtype}, {value.layout}, which is not supported: save it as floats")
    order = _order(tuple(value.shape), value.stride(), what)
    storage = value.untyped_storage()
    begin = getattr(storage, "_checkpoint_offset", None)
    inside = value.storage_offset() * value.element_size()
    end = inside + value.numel() * value.element_size()
    if begin not in records or end > records[begin]:
        raise CheckpointError(f"{what}, which needs {end} bytes of values that the file does not have; fetch it again")
    return PickledTensor(key, _DTYPES[value.dtype], tuple(value.shape), order, begin + inside)


def _order(shape: tuple[int, ...], strides: tuple[int, ...], what: str) -> tuple[int, ...] | None:
    """Return the order of axes in which the values lie, slowest first; None if it is the shape's own."""
    long = [axis for axis, size in enumerate(shape) if size > 1]
    order = [axis for axis, size in enumerate(shape) if size <= 1] + sorted(long, key=lambda axis: -strides[axis])
    step = 1
    for axis in reversed(order):
        if shape[axis] > 1 and strides[axis] != step:
            raise CheckpointError(f"{what} with holes or repetitions in memory; save its contiguous() instead")
        step *= shape[axis]
    return None if sorted(long, key=lambda axis: -strides[axis]) == long or 0 in shape else tuple(order)


def _bytes(tensor: PickledTensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count * next(dtype.itemsize for dtype, name in _DTYPES.items() if name == tensor.dtype)


def _refusal(name: str, text: str) -> str:
    found = _FORBIDDEN.search(text)
    what = f" (it calls for {found[1]})" if found else ""
    return (
        f"{name} is a pickle that holds more than tensors{what}, which could run code, so it is not loaded; use a copy "
        f"in safetensors"
    )
