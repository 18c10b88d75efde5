"""The safetensors format, read strictly and written deterministically with numpy alone.

Format (https://github.com/huggingface/safetensors#format): eight bytes, the header's length N as
little-endian uint64; N bytes of JSON, `{name: {"dtype", "shape", "data_offsets": [begin, end]}}` and perhaps
`"__metadata__": {str: str}`, padded with spaces; then the data, little-endian and C order, offsets counted
from its start, without holes.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError, unreadable
from ldm_runtime.files import strict_json
from ldm_runtime.files.atomic import atomic_file

# BF16 has no numpy type: its bits travel as uint16, in both directions. An eight-bit float comes as uint8, and is
# never written.
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

MAX_HEADER_BYTES = 16 * 2**20  # a model of 10,000 tensors needs 1.5 MB
_ALIGNMENT = 64
_IMMENSE = 10**18  # a place that no file has, and that fits into 64 bits
_LFS_STUB = b"version https://git-lfs.github.com/spec/"


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: `offset` counts from the start of the *file*, as ONNX external data does."""

    dtype: str  # a key of DTYPES
    shape: tuple[int, ...]
    offset: int
    length: int  # bytes


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file holds, but for the data."""

    tensors: dict[str, TensorInfo]  # in file order
    metadata: dict[str, str]

    @property
    def weights(self) -> int:
        """The numbers in all tensors."""
        return sum(math.prod(each.shape) for each in self.tensors.values())


def read_header(path: Path) -> Header:
    """Read and check names, types, shapes and places of all tensors, not the data.

    Raises:
        FormatError: missing, truncated, a Git-LFS stub, or malformed in any way; the message says which.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(max(8, len(_LFS_STUB)))
            refuse_lfs_stub(start, path)
            text = _header_bytes(file, start, size, path)
    except OSError as error:
        raise unreadable(path, error) from error
    where = f"the safetensors header of {path}"
    parsed = strict_json.parse(strict_json.decode(text, where), where)
    if not isinstance(parsed, dict):
        raise FormatError(where, "is not a JSON object", "weights.header")
    metadata = _metadata(parsed.pop("__metadata__", {}), path)
    data_start = 8 + len(text)
    tensors = {name: _tensor_info(name, entry, data_start, path) for name, entry in parsed.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].length, item[0])))
    _check_places(tensors, data_start, size, path)
    return Header(tensors, metadata)


def read(path: Path) -> dict[str, np.ndarray]:
    """Map every tensor of the file, in file order; nothing is copied until it is touched.

    The arrays are private to this process: writing to one never reaches the file. BF16 comes as uint16 bits, an
    eight-bit float as uint8.

    Raises:
        FormatError: as `read_header`.
    """
    header = read_header(path)
    try:
        data = np.memmap(path, dtype=np.uint8, mode="c")
    except OSError as error:
        raise FormatError(str(path), f"cannot be mapped into memory: {error.strerror}", "file.unreadable") from error
    return {
        name: np.frombuffer(data, DTYPES[info.dtype], math.prod(info.shape), info.offset).reshape(info.shape)
        if info.length
        else np.empty(info.shape, DTYPES[info.dtype])
        for name, info in header.tensors.items()
    }


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Header:
    """Write `tensors` (uint16 means BF16 bits) and return where each one lies.

    The bytes depend on the contents alone: wide types first so that each tensor is aligned to its own type,
    then by name; the data starts at a multiple of 64 bytes. Arrays are read one at a time, so a mapping that
    loads lazily keeps memory low.

    Raises:
        TypeError: a dtype that the format or this module does not have.
        LdmError: the file cannot be written; then nothing is left behind.
    """
    kinds = {name: _NAMES.get(array.dtype.newbyteorder("<")) for name, array in tensors.items()}
    for name, kind in kinds.items():
        if kind is None:
            raise TypeError(
                f"tensor {name!r} has dtype {tensors[name].dtype}, which safetensors files here cannot hold"
            )
    order = sorted(kinds, key=lambda name: (-DTYPES[str(kinds[name])].itemsize, name))
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        entries[name] = {
            "dtype": kinds[name],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with atomic_file(Path(path)) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name], DTYPES[str(kinds[name])]).data)
    return read_header(path)


def refuse_lfs_stub(start: bytes, path: Path) -> None:
    """Raise FormatError if a file beginning with `start` is the pointer that Git LFS leaves for a file."""
    if start.startswith(_LFS_STUB):
        raise FormatError(str(path), "is a Git-LFS stub, not the file itself", "file.lfs-stub")


def _header_bytes(file: Any, start: bytes, size: int, path: Path) -> bytes:
    if size < 8:
        raise FormatError(str(path), f"has {size} bytes, too few for a safetensors file", "weights.header")
    (length,) = struct.unpack("<Q", start[:8])
    if length > MAX_HEADER_BYTES:
        what = f"is not a safetensors file: it claims a header of {length} bytes; allowed are {MAX_HEADER_BYTES}"
        raise FormatError(str(path), what, "weights.header")
    if 8 + length > size:
        what = f"is truncated: its header should end at byte {8 + length}, but it has {size}"
        raise FormatError(str(path), what, "weights.header")
    file.seek(8)
    text: bytes = file.read(length)
    if not text.startswith(b"{"):
        raise FormatError(str(path), "is not a safetensors file: its header does not start with '{'", "weights.header")
    return text


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise FormatError(f"__metadata__ in {path}", "should map strings to strings", "weights.header")
    return value


def _tensor_info(name: str, entry: Any, data_start: int, path: Path) -> TensorInfo:
    def refuse(what: str) -> NoReturn:
        raise FormatError(f"tensor {shown(name)} in {path}", what, "weights.tensor")

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        refuse("should have exactly the keys dtype, shape, data_offsets")
    dtype, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        refuse(f"has the dtype {strict_json.spelt(dtype)}; supported: {', '.join(DTYPES)}")
    if not _are_sizes(shape):
        refuse(f"has a shape that is not a list of sizes: {strict_json.spelt(shape)}")
    if _are_sizes(places) and len(places) == 2 and max(places) >= _IMMENSE:
        refuse(f"has data_offsets beyond any file: {strict_json.spelt(places)}")
    if not _are_sizes(places) or len(places) != 2 or places[0] > places[1]:
        refuse(f"has data_offsets that are not [begin, end]: {strict_json.spelt(places)}")
    if math.prod(max(size, 1) for size in shape) * 8 >= 2**63:
        refuse(f"has the shape {strict_json.spelt(shape)}, larger than any memory")
    length = places[1] - places[0]
    needed = math.prod(shape) * DTYPES[dtype].itemsize
    if length != needed:
        refuse(f"is {dtype} {strict_json.spelt(shape)} and needs {needed} bytes, but spans {length}")
    return TensorInfo(dtype, tuple(shape), data_start + places[0], length)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 32 and all(type(item) is int and item >= 0 for item in value)


def _check_places(tensors: dict[str, TensorInfo], data_start: int, size: int, path: Path) -> None:
    end = data_start
    for name, info in tensors.items():
        if info.offset < end:
            raise FormatError(f"tensor {shown(name)} in {path}", "overlaps the one before it", "weights.layout")
        if info.offset > end:
            what = f"has a hole of {info.offset - end} bytes before tensor {shown(name)}"
            raise FormatError(str(path), what, "weights.layout")
        end = info.offset + info.length
    if end > size:
        what = f"is truncated: its tensors end at byte {end}, but it has {size}"
        raise FormatError(str(path), what, "weights.layout")
    if end < size:
        raise FormatError(str(path), f"has {size - end} bytes after its last tensor", "weights.layout")
