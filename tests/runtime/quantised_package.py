"""The tiny package with a UNet in int8 for ONNX Runtime, and a variant that draws with it."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ldm_export.lossy.calibrate import collect_ranges
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.store import store
from ldm_runtime.package import manifest_json
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.variants import Way
from tests.runtime import tiny_package
from tests.runtime.lossy_package import variant

WEIGHTS, DATA, GRAPH = "unet/model.safetensors", "unet/model.int8.safetensors", "unet/model.int8.onnx"
INT8 = Way("ort", "int8", "int8", ())


def feeds(seed: int) -> dict[str, np.ndarray]:
    """Inputs of the tiny UNet."""
    random = np.random.default_rng(seed)
    return {
        "sample": random.standard_normal((2, tiny_package.CHANNELS, 6, 8), np.float32),
        "timestep": np.array(500 * seed, np.float32),
        "encoder_hidden_states": random.standard_normal((2, tiny_package.WINDOW, tiny_package.WIDTH), np.float32),
    }


def with_int8(folder: Path) -> Path:
    """Add a UNet in int8, and the variants that draw with it, to the tiny package in `folder`."""
    graph = folder / "unet/model.onnx"
    ranges = collect_ranges(graph, [feeds(seed) for seed in (0, 1)])
    float32 = ir.load(graph)
    for node in float32.graph:
        node.name = f"{node.outputs[0].name}/{node.op_type}"
    model, data = quantise(float32, ranges, Scheme(outputs=True))
    assert any(array.dtype == np.int8 for array in data.values())
    store({folder / GRAPH: (model, data)}, folder / DATA)
    file = folder / "manifest.json"
    known = manifest_json.parse(file.read_text(encoding="utf-8"), "manifest.json")
    unet, difference = known.components["unet"], Difference(0.01, 0.1)
    int8 = Artefact("int8", "onnx", (GRAPH, DATA, WEIGHTS), "ort_cpu", "int8", "lossy", difference)
    made = dataclasses.replace(
        known,
        components={**known.components, "unet": dataclasses.replace(unet, artefacts=(*unet.artefacts, int8))},
        files={**known.files, **{name: tiny_package.entry_of(folder / name) for name in (GRAPH, DATA)}},
        variants=(variant("int8", 30.0, 0.5, ways={"unet": INT8}),),
    )
    file.write_text(manifest_json.dump(made), encoding="utf-8")
    return folder
