"""The tokens that a text encoder knows are read from its graph; a manifest that claims more is refused."""

import time
from pathlib import Path

import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from ldm_runtime.errors import FormatError, PackageError
from ldm_runtime.package.open import open_package
from ldm_runtime.package.token_table import known_tokens
from ldm_runtime.pipeline import builtin_package
from tests.runtime import tiny_package

GATHER = helper.make_node("Gather", ["table", "ids"], ["embedded"])
CHAINS: dict[str, tuple[list[NodeProto], int | None]] = {
    "plain": ([GATHER], 9),
    "ids cast": (
        [helper.make_node("Cast", ["ids"], ["wide"]), helper.make_node("Gather", ["table", "wide"], ["embedded"])], 9
    ),
    "table cast twice": (
        [
            helper.make_node("Cast", ["table"], ["a"]),
            helper.make_node("Identity", ["a"], ["b"]),
            helper.make_node("Gather", ["b", "ids"], ["embedded"]),
        ],
        9,
    ),
    "the smaller of two tables": ([GATHER, helper.make_node("Gather", ["other", "ids"], ["second"])], 5),
    "another index": ([helper.make_node("Gather", ["table", "places"], ["embedded"])], None),
    "a table that is computed": (
        [helper.make_node("Add", ["table", "other"], ["sum"]), helper.make_node("Gather", ["sum", "ids"], ["x"])], None
    ),
    "one table nine times": ([GATHER] * 9, 9),
    "too many tables": ([GATHER, *(helper.make_node("Gather", [f"t{i}", "ids"], [f"e{i}"]) for i in range(8))], None),
    "no inputs": ([NodeProto(op_type="Gather", name="ids"), NodeProto(op_type="Cast", output=["ids"])], None),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "expected"), CHAINS.values(), ids=CHAINS.keys())
def test_the_table_that_the_ids_index_is_found(nodes: list[NodeProto], expected: int | None) -> None:
    tables = [TensorProto(name=name, data_type=1, dims=[rows, 4]) for name, rows in (("table", 9), ("other", 5))]
    graph = helper.make_graph(nodes, "text", [], [], tables)
    assert known_tokens(ModelProto(graph=graph).SerializeToString(), "ids", "model.onnx") == expected


def test_packed_dimensions_are_read() -> None:
    tensor = b"\x0a\x02\xac\x02\x42\x05table"  # dims [300], name
    node = GATHER.SerializeToString()
    graph = b"\x0a" + bytes([len(node)]) + node + b"\x2a" + bytes([len(tensor)]) + tensor
    assert known_tokens(b"\x3a" + bytes([len(graph)]) + graph, "ids", "model.onnx") == 300


def test_a_graph_of_countless_tables_takes_no_time() -> None:
    """Each table would be looked for in all nodes: 10,000 of them took minutes."""
    nodes = [helper.make_node("Gather", [f"table{number}", "ids"], [f"row{number}"]) for number in range(10_000)]
    graph = helper.make_graph(nodes, "text", [], [])
    started = time.process_time()
    assert known_tokens(ModelProto(graph=graph).SerializeToString(), "ids", "model.onnx") is None
    assert time.process_time() - started < 5


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(FormatError, match="is not an ONNX file"):
        known_tokens(b"\x3a\x7fshort", "ids", "model.onnx")


def test_the_builtin_model_says_what_its_manifest_does() -> None:
    graph = builtin_package() / "text_encoder/model.onnx"
    assert known_tokens(graph.read_bytes(), "input_ids", str(graph)) == 2048


def test_a_manifest_that_claims_more_tokens_than_the_graph_knows_is_refused(package_copy: Path) -> None:
    vocabulary = tiny_package.VOCABULARY + 1
    tiny_package.edit_manifest(package_copy, "contract", "text", 0, "tokenizer", "vocab_size", value=vocabulary)
    with pytest.raises(
        PackageError, match="has a tokenizer of 518 tokens for .*model.onnx, which knows 517"
    ) as refused:
        open_package(package_copy)
    assert refused.value.code == "tokenizer.vocabulary"
