"""Packages on disk with the variants of test_variants, whose graphs are copies of the UNet's."""

import shutil
from pathlib import Path

from tests.runtime.package.test_variants import ARTEFACTS, with_variants
from tests.runtime.tiny_package import rehash

WEIGHTS = "unet/model.safetensors"


def add_variants(folder: Path) -> Path:
    """Add artefacts and variants to the tiny package in `folder`, and return it."""
    manifest = folder / "manifest.json"
    for artefact in ARTEFACTS:
        graph, *data = artefact["files"]
        if WEIGHTS in data:
            shutil.copy(folder / "unet/model.onnx", folder / graph)
        else:
            (folder / graph).write_bytes(b"")  # a graph without a tensor
        for file in {*data} - {WEIGHTS}:
            shutil.copy(folder / WEIGHTS, folder / file)
    manifest.write_text(with_variants(manifest.read_text(encoding="utf-8")), encoding="utf-8")
    rehash(folder)
    return folder
