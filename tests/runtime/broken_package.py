"""The tiny package with a graph of the UNet that no engine loads: it has an operator that nobody knows."""

import dataclasses
from pathlib import Path

import onnx

from ldm_runtime.package import manifest_json
from ldm_runtime.package.variants import Variant, Way
from tests.runtime import lossy_package, tiny_package

GRAPH = "unet/model.broken.onnx"
BROKEN = Way("ort", "broken", "fp32", ())


def with_broken(folder: Path) -> Path:
    """Add the graph to the tiny package in `folder`, as the artefact "broken"."""
    model = onnx.load(folder / "unet/model.onnx", load_external_data=False)
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Abacus", "org.abacus"
    model.opset_import.append(onnx.helper.make_opsetid("org.abacus", 1))
    onnx.save(model, folder / GRAPH)
    file = folder / "manifest.json"
    known = manifest_json.parse(file.read_text(encoding="utf-8"), "manifest.json")
    unet = known.components["unet"]
    broken = dataclasses.replace(unet.canonical, name="broken", files=(GRAPH, *unet.canonical.files[1:]))
    made = dataclasses.replace(
        known,
        components={**known.components, "unet": dataclasses.replace(unet, artefacts=(*unet.artefacts, broken))},
        files={**known.files, GRAPH: tiny_package.entry_of(folder / GRAPH)},
    )
    file.write_text(manifest_json.dump(made), encoding="utf-8")
    return folder


def broken_variant(time: float = 0.1) -> Variant:
    """A variant within psnr=40 whose graph does not load."""
    return lossy_package.variant("broken", 40.0, time, ways={"unet": BROKEN}, steps=2)
