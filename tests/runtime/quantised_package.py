"""The tiny package with a UNet in few bits for ONNX Runtime, and a variant that draws with it."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from ldm_export.lossy.calibrate import collect_ranges
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.store import store, with_rest
from ldm_runtime.package import manifest_json
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.variants import Way
from tests.runtime import tiny_package
from tests.runtime.lossy_package import variant

CANONICAL = "unet/model.onnx"
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
    ranges = collect_ranges(folder / CANONICAL, [feeds(seed) for seed in (0, 1)])
    model, data = quantise(_named(folder), ranges, Scheme(outputs=True))
    assert any(array.dtype == np.int8 for array in data.values())
    store({folder / GRAPH: (model, data)}, folder / DATA)
    int8 = Artefact("int8", "onnx", (GRAPH, DATA, WEIGHTS), "ort_cpu", "int8", "lossy", Difference(0.01, 0.1))
    return _added(folder, int8)


def with_narrow_weights(folder: Path, precision: Literal["int8", "int4"]) -> Path:
    """Add a UNet whose weights alone are in few bits, and which reads one file of its own."""
    model, data = with_rest(quantise(_named(folder), {}, Scheme(precision, activations=False)))
    kinds = {name.rpartition("/")[2]: array.dtype for name, array in data.items()}
    assert kinds["int8"] == np.int8 and (kinds.get("int4") == np.uint8) == (precision == "int4")
    files = (f"unet/model.{precision}.onnx", f"unet/model.{precision}.safetensors")
    store({folder / files[0]: (model, data)}, folder / files[1])
    return _added(folder, Artefact(precision, "onnx", files, "ort_cpu", precision, "lossy", Difference(0.01, 0.1)))


def _named(folder: Path) -> ir.Model:
    """The canonical UNet with a name for each node."""
    model = ir.load(folder / CANONICAL)
    for node in model.graph:
        node.name = f"{node.outputs[0].name}/{node.op_type}"
    return model


def _added(folder: Path, artefact: Artefact) -> Path:
    """Note a form of the UNet, and a variant of its name that draws with it."""
    file = folder / "manifest.json"
    known = manifest_json.parse(file.read_text(encoding="utf-8"), "manifest.json")
    unet, own = known.components["unet"], [name for name in artefact.files if name not in known.files]
    way = Way("ort", artefact.name, artefact.precision, ())
    made = dataclasses.replace(
        known,
        components={**known.components, "unet": dataclasses.replace(unet, artefacts=(*unet.artefacts, artefact))},
        files={**known.files, **{name: tiny_package.entry_of(folder / name) for name in own}},
        variants=(variant(artefact.name, 30.0, 0.5, ways={"unet": way}),),
    )
    file.write_text(manifest_json.dump(made), encoding="utf-8")
    return folder
