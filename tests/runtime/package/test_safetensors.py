"""The safetensors reader and writer against the reference implementation and against every malformed file."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ldm_runtime.errors import FormatError
from ldm_runtime.package import safetensors as ours

TENSORS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([1.5, -2.0], dtype=np.float64),
    "half": np.array([[0.5]], dtype=np.float16),
    "ids": np.array([-1, 2**40], dtype=np.int64),
    "small": np.array([7], dtype=np.int32),
    "bytes": np.arange(3, dtype=np.uint8),
    "integers": np.array([-127, 0, 127], dtype=np.int8),
    "flags": np.array([True, False, True]),
    "scalar": np.array(3.25, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
}


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    ours.write(tmp_path / "t.safetensors", TENSORS, {"kind": "test"})
    back = ours.read(tmp_path / "t.safetensors")
    assert set(back) == set(TENSORS)
    for name, array in TENSORS.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
    assert ours.read_header(tmp_path / "t.safetensors").metadata == {"kind": "test"}


def test_the_reference_reads_our_file(tmp_path: Path) -> None:
    ours.write(tmp_path / "t.safetensors", TENSORS)
    theirs = safetensors.numpy.load_file(tmp_path / "t.safetensors")
    assert set(theirs) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(theirs[name], array)


def test_we_read_the_reference_s_file(tmp_path: Path) -> None:
    safetensors.numpy.save_file(TENSORS, tmp_path / "t.safetensors", {"format": "np"})
    back = ours.read(tmp_path / "t.safetensors")
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(back[name], array)


def test_bfloat16_travels_as_its_bits(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000], dtype=np.uint16)  # 1.0, -2.0
    header = ours.write(tmp_path / "t.safetensors", {"x": bits})
    assert header.tensors["x"].dtype == "BF16"
    np.testing.assert_array_equal(ours.read(tmp_path / "t.safetensors")["x"], bits)


def test_bytes_do_not_depend_on_insertion_order(tmp_path: Path) -> None:
    ours.write(tmp_path / "one", TENSORS)
    ours.write(tmp_path / "two", dict(reversed(TENSORS.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_header_tells_where_in_the_file_each_tensor_lies(tmp_path: Path) -> None:
    header = ours.write(tmp_path / "t.safetensors", TENSORS)
    content = (tmp_path / "t.safetensors").read_bytes()
    for name, info in header.tensors.items():
        assert content[info.offset : info.offset + info.length] == TENSORS[name].tobytes()
        assert info.offset % TENSORS[name].dtype.itemsize == 0
    assert min(info.offset for info in header.tensors.values()) % 64 == 0


def test_writing_to_a_mapped_array_leaves_the_file_alone(tmp_path: Path) -> None:
    ours.write(tmp_path / "t.safetensors", TENSORS)
    before = (tmp_path / "t.safetensors").read_bytes()
    ours.read(tmp_path / "t.safetensors")["b.weight"][:] = 9
    assert (tmp_path / "t.safetensors").read_bytes() == before


def test_dtype_outside_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="complex64"):
        ours.write(tmp_path / "t.safetensors", {"x": np.zeros(2, np.complex64)})
    assert not (tmp_path / "t.safetensors").exists()


MALFORMED = {
    "too short": (b"\x01\x00", "too few"),
    "empty": (b"", "too few"),
    "LFS stub": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git-LFS stub"),
    "huge header": (struct.pack("<Q", 2**62) + b"{}", "claims a header"),
    "header past the end": (struct.pack("<Q", 100) + b"{}", "truncated"),
    "not an object": (struct.pack("<Q", 2) + b"[]", "does not start with"),
    "not JSON": (struct.pack("<Q", 2) + b"{,", "not valid JSON"),
    "not UTF-8": (struct.pack("<Q", 2) + b"{\xff", "not UTF-8"),
    "too deep": (struct.pack("<Q", 400005) + b'{"a":' + b"[" * 400000, "too deeply|not valid JSON"),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        ours.read(tmp_path / "t")


BAD_HEADERS = {
    "duplicate": (b'{"x":{},"x":{}}', "given twice"),
    "NaN": (b'{"x":NaN}', "NaN is not"),
    "metadata list": ({"__metadata__": []}, "__metadata__"),
    "metadata number": ({"__metadata__": {"a": 1}}, "__metadata__"),
    "entry no object": ({"x": 3}, "exactly the keys"),
    "entry with more": ({"x": {**entry(), "more": 1}}, "exactly the keys"),
    "entry with less": ({"x": {"dtype": "F32"}}, "exactly the keys"),
    "unknown dtype": ({"x": entry("F4")}, 'dtype "F4"'),
    "dtype no string": ({"x": entry(["F32"])}, "has the dtype"),  # type: ignore[arg-type]
    "negative size": ({"x": entry(shape=[-2])}, "not a list of sizes"),
    "fractional size": ({"x": entry(shape=[2.0])}, "not a list of sizes"),
    "boolean size": ({"x": entry(shape=[True])}, "not a list of sizes"),
    "too many axes": ({"x": entry(shape=[1] * 33)}, "not a list of sizes"),
    "immense shape": ({"x": entry(shape=[2**60, 2**60, 0], offsets=[0, 0])}, "larger than any memory"),
    "backward offsets": ({"x": entry(offsets=[8, 0])}, "not .begin, end."),
    "one offset": ({"x": entry(offsets=[8])}, "not .begin, end."),
    "wrong length": ({"x": entry(offsets=[0, 4])}, "needs 8 bytes, but spans 4"),
    "overlap": ({"x": entry(), "y": entry(offsets=[4, 12])}, "overlaps"),
    "hole": ({"x": entry(), "y": entry(offsets=[12, 20])}, "hole of 4 bytes"),
    "hole at start": ({"x": entry(offsets=[8, 16])}, "hole of 8 bytes"),
    "past the end": ({"x": entry(shape=[100], offsets=[0, 400])}, "truncated"),
    "trailing bytes": ({"x": entry()}, "after its last tensor"),
}


@pytest.mark.parametrize(("header", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_bad_header_is_refused(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ours.read_header(raw(tmp_path / "t", header, bytes(20)))


def test_the_good_twin_of_the_bad_headers_is_read(tmp_path: Path) -> None:
    path = raw(tmp_path / "t", {"x": entry(), "y": entry(shape=[3], offsets=[8, 20])}, bytes(20))
    assert {name: array.shape for name, array in ours.read(path).items()} == {"x": (2,), "y": (3,)}


def test_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        ours.read(tmp_path / "absent.safetensors")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    ours.write(tmp_path / "t", TENSORS)
    content = (tmp_path / "t").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(FormatError):
            ours.read(tmp_path / "cut")


def test_a_tensor_is_named_for_an_error_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.write(tmp_path / "t", {"a": np.zeros(3, np.float32)})
    monkeypatch.setattr(ours, "shown", lambda value: pytest.fail(f"named {value}"))
    assert list(ours.read_header(tmp_path / "t").tensors) == ["a"]
