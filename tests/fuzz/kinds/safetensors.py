"""Headers of safetensors files."""

import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ldm_runtime.package import safetensors
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import RAW_JSON, as_bytes, json_text, mutate_bytes, mutate_tree


def _prepare(folder: Path) -> list[bytes]:
    tensors = {name: np.zeros((2, 3), dtype) for name, dtype in safetensors.DTYPES.items()}
    safetensors.write(folder / "seed.safetensors", tensors | {"empty": np.zeros((0, 4), np.float32)}, {"format": "pt"})
    files = [folder / "seed.safetensors", GOLDEN / "guidance.safetensors"]
    return [file.read_bytes() for file in [*files, *sorted((GOLDEN / "package").glob("*/*.safetensors"))]]


def _make(random: Random, seeds: list[bytes]) -> bytes:
    """The header as a tree, or the file as bytes; the length before the header is right, or nearly, or anything."""
    seed = random.choice(seeds)
    if random.random() < 0.3:
        return mutate_bytes(random, seed, seeds)
    (length,) = struct.unpack("<Q", seed[:8])
    header: Any = json.loads(seed[8 : 8 + length])
    text = as_bytes(json_text(mutate_tree(random, header, RAW_JSON)))
    text += b" " * random.choice((0, 0, -(8 + len(text)) % 64))
    said = random.choice((len(text),) * 8 + (len(text) + 1, 0, 2**63, 2**64 - 1))
    return struct.pack("<Q", said) + text + seed[8 + length :]


def _read(content: bytes, seeds: list[bytes]) -> None:
    file = Path("input.safetensors")
    file.write_bytes(content)
    safetensors.read_header(file)
    for tensor in safetensors.read(file).values():
        tensor.tobytes()


KINDS = [Kind("safetensors", _prepare, _make, _read, inner=True)]
