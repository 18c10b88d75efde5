"""What a variant made where it was measured, which `verify` compares it with."""

import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ldm_export.verify import variant_file
from ldm_export.verify.reference_file import Case, Reference, Trajectory
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import RAW_JSON, as_bytes, json_text, mutate_bytes, mutate_tree
from tests.runtime.lossy_package import variant

MADE = variant("bf16", 31.0, 0.5)


def _reference() -> Reference:
    """A reference of one case. Facts are none: a record says nothing of them."""
    settings = ("red", "", 1, "ddim", 2, 3.0, (16, 8), (999.0, 1.0), 40.0, 40.0)
    trajectory = Trajectory(*settings, np.zeros((2, 4, 1, 2), np.float32), np.zeros((3, 8, 16), np.float32))
    output = {"out_sample": np.zeros((2, 4, 1, 2), np.float32)}
    return Reference(None, (), {}, (Case("unet", "captured at step 1", 1e-4, {}, output),), trajectory)  # type: ignore[arg-type]


def _prepare(folder: Path) -> tuple[Reference, bytes]:
    reference, file = _reference(), folder / "seed.safetensors"
    variant_file.write(file, MADE, reference.cases, reference.trajectory.image)
    return reference, file.read_bytes()


def _make(random: Random, prepared: tuple[Reference, bytes]) -> bytes:
    """The header as a tree, or the file as bytes, NaN among its numbers."""
    seed = prepared[1]
    if random.random() < 0.3:
        return mutate_bytes(random, seed, [b"\x00\x00\xc0\x7f" * 8])
    (length,) = struct.unpack("<Q", seed[:8])
    header: Any = json.loads(seed[8 : 8 + length])
    if random.random() < 0.5:
        text = json_text(mutate_tree(random, json.loads(header["__metadata__"]["variant"]), RAW_JSON))
        header["__metadata__"]["variant"] = text.encode("utf-8", "replace").decode()
    else:
        header = mutate_tree(random, header, RAW_JSON)
    text_bytes = as_bytes(json_text(header))
    return struct.pack("<Q", len(text_bytes)) + text_bytes + seed[8 + length :]


def _read(content: bytes, prepared: tuple[Reference, bytes]) -> None:
    file = Path("record.safetensors")
    file.write_bytes(content)
    own = variant_file.read(file, MADE, prepared[0])
    assert own.image.shape == (3, 8, 16) and [case.component for case in own.cases] == ["unet"]


KINDS = [Kind("variant_record", _prepare, _make, _read)]
