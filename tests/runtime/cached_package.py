"""The tiny package with graphs between which deep features pass, and variants that draw with them."""

import dataclasses
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from ldm_runtime.package import manifest_json
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec
from ldm_runtime.package.variants import Caching, Variant, Way
from tests.runtime import lossy_package, tiny_package

KEPT = "kept_features"
DIMS = ("batch", tiny_package.CHANNELS, "height", "width")
WEIGHTS = "unet/model.safetensors"


def make(folder: Path) -> Path:
    """Write the package; its variant "cached" keeps deep features for two rows."""
    tiny_package.make(folder)
    deep = onnx.load(folder / "unet/model.onnx", load_external_data=False)
    deep.graph.output.append(helper.make_tensor_value_info(KEPT, TensorProto.FLOAT, list(DIMS)))
    for node in deep.graph.node:  # the convolution of the latents and the text; the timestep comes after
        for names in (node.input, node.output):
            names[:] = [KEPT if name == "with_text" else name for name in names]
    onnx.save(deep, folder / "unet/model.deep.onnx")
    onnx.save(_shallow(), folder / "unet/model.shallow.onnx")
    path = folder / "manifest.json"
    known = manifest_json.parse(path.read_text(encoding="utf-8"), "manifest.json")
    path.write_text(manifest_json.dump(_with_variant(folder, known)), encoding="utf-8")
    return folder


def variant(interval: int = 2, keeps: str = "deep", reads: str = "shallow", **run: object) -> Variant:
    """A variant with caching; `run`: what else is not the package's own."""
    way = Way("ort", keeps, "fp32", ())
    made = lossy_package.variant(
        "cached", 30.0, 0.5, ways={"unet": way}, caching=Caching(interval, keeps, reads), **run
    )
    return dataclasses.replace(made, methods=("caching",))


def _shallow() -> onnx.ModelProto:
    """0.5 tanh(what was kept + 0.001 timestep)."""
    nodes = [
        helper.make_node("Constant", [], ["thousandth"], value_float=0.001),
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Mul", ["timestep", "thousandth"], ["time"]),
        helper.make_node("Add", [KEPT, "time"], ["with_time"]),
        helper.make_node("Tanh", ["with_time"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "half"], ["out_sample"]),
    ]
    inputs = [
        helper.make_tensor_value_info("timestep", TensorProto.FLOAT, []),
        helper.make_tensor_value_info(KEPT, TensorProto.FLOAT, list(DIMS)),
    ]
    outputs = [helper.make_tensor_value_info("out_sample", TensorProto.FLOAT, list(DIMS))]
    graph = helper.make_graph(nodes, "shallow", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _with_variant(folder: Path, known: Manifest) -> Manifest:
    own = known.contract.components["unet"]
    kept = TensorSpec(KEPT, "float32", DIMS)
    timestep = next(spec for spec in own.inputs if spec.name == "timestep")
    interfaces = {
        "deep": ComponentContract(own.inputs, (*own.outputs, kept)),
        "shallow": ComponentContract((timestep, kept), own.outputs),
    }
    made = tuple(
        Artefact(name, "onnx", (f"unet/model.{name}.onnx", WEIGHTS), "any", "fp32", "exact", None, interface=interface)
        for name, interface in interfaces.items()
    )
    parts = known.components["unet"]
    components = {**known.components, "unet": dataclasses.replace(parts, artefacts=(*parts.artefacts, *made))}
    files = {each.file: tiny_package.entry_of(folder / each.file) for each in made}
    return dataclasses.replace(known, components=components, files={**known.files, **files}, variants=(variant(),))
