"""ONNX graphs, read for the places of their weights before an engine opens them."""

from pathlib import Path
from random import Random

from ldm_runtime.package.external_data import read_graph
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import mutate_bytes


def _prepare(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((GOLDEN / "package").glob("*/model.onnx"))]


def _make(random: Random, seeds: list[bytes]) -> bytes:
    return mutate_bytes(random, random.choice(seeds), seeds)


def _read(content: bytes, seeds: list[bytes]) -> None:
    Path("model.onnx").write_bytes(content)
    read_graph(Path("model.onnx"), ["model.safetensors"])


KINDS = [Kind("graph", _prepare, _make, _read, inner=True)]
