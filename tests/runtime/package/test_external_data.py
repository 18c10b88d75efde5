"""External data outside the package is found wherever in an ONNX file, and however, it is written."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from ldm_runtime.errors import FormatError
from ldm_runtime.package.external_data import read_graph

WEIGHTS = "model.safetensors"


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field; all lengths here are below 128 or 16384."""
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])) + size + content


def model(entry: bytes) -> bytes:
    """A model with one initialiser that has the external_data entry."""
    return field(7, field(5, field(13, entry)))


def check(folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    read_graph(folder / "model.onnx", [WEIGHTS])


KEY, EVIL, GOOD = field(1, b"location"), field(2, b"/a/b"), field(2, WEIGHTS.encode())
HIDDEN = {
    "plain": model(KEY + EVIL),
    "value before key": model(EVIL + KEY),
    "value twice": model(KEY + GOOD + EVIL),
    "key twice": model(field(1, b"offset") + KEY + EVIL),
    "after another field": model(field(9, b"x") + KEY + EVIL),
    "after a number": model(b"\x18\x05" + KEY + EVIL),
    "after a fixed32": model(b"\x1d\x0a\x08lo" + KEY + EVIL),
    "good one before": model(b"\x12\x02\x6a\x1d" + KEY + GOOD + field(5, b"") + EVIL),
    "padded tag": model(b"\x8a\x00\x08location" + EVIL),
    "padded length": model(b"\x0a\x88\x00location" + EVIL),
    "second entry": field(7, field(5, field(13, KEY + GOOD) + field(13, KEY + EVIL))),
    "second graph": model(KEY + GOOD) + model(KEY + EVIL),
    "no value": model(KEY),
    "name continued": model(KEY + field(2, b"model.safetensors/../../x")),
    "parent": model(KEY + field(2, b"../model.safetensors")),
    "node attribute": field(7, field(1, field(5, field(5, field(13, KEY + EVIL))))),
    "subgraph": field(7, field(1, field(5, field(6, field(5, field(13, KEY + EVIL)))))),
    "list of tensors": field(7, field(1, field(5, field(10, field(13, KEY + EVIL))))),
    "list of graphs": field(7, field(1, field(5, field(11, field(5, field(13, KEY + EVIL)))))),
    "sparse": field(7, field(15, field(1, field(13, KEY + EVIL)))),
    "sparse attribute": field(7, field(1, field(5, field(22, field(2, field(13, KEY + EVIL)))))),
    "function": field(25, field(7, field(5, field(5, field(13, KEY + EVIL))))),
    "training": field(20, field(1, field(5, field(13, KEY + EVIL)))),
}


@pytest.mark.parametrize("content", HIDDEN.values(), ids=HIDDEN.keys())
def test_external_data_elsewhere_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match=r"keeps data in .*, expected only 'model\.safetensors'"):
        check(tmp_path, content)


def locations(message: Any) -> set[str]:
    """What the reference parser finds: the locations of all external data, at any depth."""
    found = set()
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for part in value if descriptor.is_repeated else [value]:
            if descriptor.name == "external_data" and part.key == "location":
                found.add(part.value)
            found |= locations(part)
    return found


@pytest.mark.parametrize("content", HIDDEN.values(), ids=HIDDEN.keys())
def test_the_reference_parser_sees_the_hidden_place(content: bytes) -> None:
    assert locations(onnx.load_from_string(content)) - {WEIGHTS}


def test_mutated_files_are_refused_whenever_the_reference_finds_another_place(tiny: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    original = (tiny / "unet" / "model.onnx").read_bytes()
    foreign = 0
    for _ in range(1500):
        content = bytearray(original)
        for place in random.integers(0, len(content), random.integers(1, 4)):
            content[place] = random.integers(0, 256)
        if random.random() < 0.5:  # where it matters most
            start = content.find(b"location") + int(random.integers(-4, 30))
            content[start] = random.integers(0, 256)
        try:
            found = locations(onnx.load_from_string(bytes(content)))
        except DecodeError:
            continue
        if found - {WEIGHTS}:
            foreign += 1
            with pytest.raises(FormatError):
                check(tmp_path, bytes(content))
    assert foreign > 50


def test_external_data_in_its_place_is_accepted(tmp_path: Path) -> None:
    check(tmp_path, model(KEY + GOOD))
    check(tmp_path, model(KEY + EVIL + GOOD))  # the last value counts
    check(tmp_path, field(2, b"a producer called location") + model(field(1, b"offset") + field(2, b"64")))
    check(tmp_path, b"")


def test_data_may_be_in_each_file_of_a_graph_and_in_no_other(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model(KEY + GOOD) + model(KEY + field(2, b"model.int8.safetensors")))
    read_graph(tmp_path / "model.onnx", ["model.int8.safetensors", WEIGHTS])
    with pytest.raises(FormatError, match="keeps data in 'model.int8.safetensors', expected only 'model.safetens"):
        read_graph(tmp_path / "model.onnx", [WEIGHTS])
    with pytest.raises(FormatError, match="keeps data in 'model.int8.safetensors', expected only 'a' or 'b' in"):
        read_graph(tmp_path / "model.onnx", ["a", "b"])


def test_what_onnx_writes_is_accepted(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "location")
    node = helper.make_node("Identity", ["location"], ["y"], doc_string="location")
    graph = helper.make_graph([node], "location", [], [], [tensor])
    check(tmp_path, helper.make_model(graph).SerializeToString())


def test_what_onnx_writes_elsewhere_is_refused(tmp_path: Path) -> None:
    tensor = TensorProto(name="x", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../x")
    graph = helper.make_graph([], "g", [], [], [tensor])
    with pytest.raises(FormatError, match=r"keeps data in '\.\./x'"):
        check(tmp_path, helper.make_model(graph).SerializeToString())


MALFORMED = {
    "text": b"hello, this is no protobuf; location",
    "group": b"\x0b",
    "field past the end": b"\x3a\x7f",
    "endless number": b"\x80" * 20,
    "number cut off": b"\x08\x80",
    "inner field past its message": model(b"\x0a\x7flocation"),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_bytes_that_are_no_protobuf_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match="is not an ONNX file"):
        check(tmp_path, content)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    content = field(13, KEY + EVIL)
    for _ in range(1000):
        content = field(6, field(1, field(5, content)))
        if len(content) > 16_000:
            break
    content = content[2:]
    with pytest.raises(FormatError):
        check(tmp_path, field(7, content))


def test_graph_of_impossible_size_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "model.onnx", "wb") as file:
        file.truncate(2**28 + 1)  # sparse: takes no space
    with pytest.raises(FormatError, match="more than the 268435456 of a graph without weights"):
        read_graph(tmp_path / "model.onnx", [WEIGHTS])
