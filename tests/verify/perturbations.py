"""Ways in which a package goes wrong in practice, each made in a copied package whose hashes are then right again.

An edit takes the package, the component to spoil and a seed, and says what it did. Seeds of graph edits alternate
between the canonical graph and the one for ONNX Runtime.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from ldm_runtime.package import safetensors
from tests.runtime import tiny_package
from tests.runtime.package.test_variants import LOSSY, variant, way
from tests.runtime.tiny_package import entry_of

COMPONENTS = tiny_package.COMPONENTS
GRAPHS = ("model.onnx", "model.ort_cpu.onnx")
WEIGHTS = "model.safetensors"
NORMS = {"InstanceNormalization", "LayerNormalization", "SkipLayerNormalization"}

# Sizes to bake in: none of them is a probe's.
BAKED = {"batch": 3, "height": 6, "width": 7, "tokens": 30, "context_tokens": 31}
BAKED |= {"image_height": 48, "image_width": 56}

Edit = Callable[[Path, str, int], str]

# One output channel that is 1 % off shows nearly everywhere. One number of a vector, a bias or the scale of a norm,
# moves the output least in a UNet, which adds dozens of blocks, and in a model of wide convolutions: by 0.8 to 1.25
# times the tolerance where it was measured. There it is 5 % off.
SCALE, SMALL_PART_SCALE = np.float32(1.01), np.float32(1.05)
MANY_CHANNELS = 128
# The first norms of a graph, whose own epsilon shows; it does so less, the deeper a norm stands.
EARLY_NORMS = 2


def copy(package: Path, folder: Path) -> Path:
    """Copy a package. Files are not linked: other tests read the same package, and ONNX refuses linked weights."""
    shutil.copytree(package, folder)
    return folder


def rehash(package: Path, *names: str) -> None:
    """Make the manifest agree with changed files, so that nothing but the gate can tell."""
    file = package / "manifest.json"
    value = json.loads(file.read_text())
    for name in names:
        entry = entry_of(package / name)
        value["files"][name] = {"sha256": entry.sha256, "size": entry.size}
    replace_text(file, json.dumps(value))


def replace_text(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text)


def add_variant_of_the_cpu_graph(package: Path) -> None:
    """Let a variant name the UNet's graph for ONNX Runtime's CPU, which then calls itself lossy."""
    value = json.loads((package / "manifest.json").read_text())
    value["components"]["unet"]["artefacts"][1] |= {"precision": "fp16", **LOSSY}
    value["variants"] = [variant("half", {"unet": way("ort", "ort_cpu", "fp16")})]
    replace_text(package / "manifest.json", json.dumps(value))


# --- weights ----------------------------------------------------------------------------------------------------


def is_measurable(name: str) -> bool:
    """All parameters but the biases of keys: they add q·b to every score of a row, and softmax takes it out."""
    return not name.endswith(("k_proj.bias", "to_k.bias"))


def edit_weights(package: Path, component: str, change: Callable[[dict[str, np.ndarray]], str]) -> str:
    """Change tensors in place of the same file layout, so that the graphs' offsets stay right."""
    name = f"{component}/{WEIGHTS}"
    file = package / name
    data = bytearray(file.read_bytes())
    tensors = {
        key: np.ndarray(info.shape, safetensors.DTYPES[info.dtype], data, info.offset)
        for key, info in safetensors.read_header(file).tensors.items()
    }
    what = change(tensors)
    file.unlink()
    file.write_bytes(data)
    rehash(package, name)
    return f"{component}: {what}"


def randomness(component: str, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, COMPONENTS.index(component)))


def scale_one_channel(package: Path, component: str, seed: int) -> str:
    """One output channel x 1.01: a row of a convolution, a column of a linear layer or of an embedding, or a number of
    a bias or of a norm, which is x 1.05 where it moves the output least."""
    random = randomness(component, seed)

    def change(tensors: dict[str, np.ndarray]) -> str:
        name = pick(random, [key for key in tensors if is_measurable(key)])
        tensor = tensors[name]
        axis = 0 if tensor.ndim in (1, 4) else 1
        channel = int(random.integers(tensor.shape[axis]))
        is_wide = any(each.ndim == 4 and len(each) >= MANY_CHANNELS for each in tensors.values())
        is_small_part = tensor.ndim == 1 and (component == "unet" or is_wide)
        scale = SMALL_PART_SCALE if is_small_part else SCALE
        np.moveaxis(tensor, axis, 0)[channel] *= scale
        return f"channel {channel} of {name} x {scale:.2f}"

    return edit_weights(package, component, change)


def swap_two_tensors(package: Path, component: str, seed: int) -> str:
    """Two parameters of the same shape change places."""
    random = randomness(component, seed)

    def change(tensors: dict[str, np.ndarray]) -> str:
        first = pick(random, [key for key in tensors if is_measurable(key) and len(twins(tensors, key)) > 0])
        second = pick(random, twins(tensors, first))
        kept = tensors[first].copy()
        tensors[first][...] = tensors[second]
        tensors[second][...] = kept
        return f"{first} and {second} swapped"

    def twins(tensors: dict[str, np.ndarray], name: str) -> list[str]:
        shape = tensors[name].shape
        return [key for key in tensors if key != name and tensors[key].shape == shape and is_measurable(key)]

    return edit_weights(package, component, change)


def round_to_float16(package: Path, component: str, seed: int) -> str:
    """All weights of a component, or (odd seeds) one matrix, lose 13 bits."""
    return _round(package, component, seed, "float16", lambda values: values.astype(np.float16))


def round_to_bfloat16(package: Path, component: str, seed: int) -> str:
    """All weights of a component, or (odd seeds) one matrix, lose 16 bits of float32, or 3 of float16."""
    return _round(package, component, seed, "bfloat16", to_bfloat16)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 numbers, as float32."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).view(np.float32)


def _round(package: Path, component: str, seed: int, what: str, rounded: Callable[[np.ndarray], np.ndarray]) -> str:
    def change(tensors: dict[str, np.ndarray]) -> str:
        names = list(tensors)
        if seed % 2:
            names = [pick(randomness(component, seed), [key for key in names if tensors[key].ndim > 1])]
        for name in names:
            tensors[name][...] = rounded(tensors[name])
        return f"{names[0] if len(names) == 1 else 'all weights'} rounded to {what}"

    return edit_weights(package, component, change)


# --- graphs -----------------------------------------------------------------------------------------------------


def edit_graph(package: Path, name: str, change: Callable[[onnx.ModelProto], str]) -> str:
    """Change a graph file; its weights stay where they are."""
    model = onnx.load(package / name, load_external_data=False)
    what = change(model)
    (package / name).unlink()
    (package / name).write_bytes(model.SerializeToString())
    rehash(package, name)
    return f"{name}: {what}"


def epsilons(model: onnx.ModelProto) -> list[onnx.AttributeProto]:
    return [
        attribute
        for node in model.graph.node
        if node.op_type in NORMS
        for attribute in node.attribute
        if attribute.name == "epsilon"
    ]


def graph_of(component: str, seed: int) -> str:
    return f"{component}/{GRAPHS[seed % 2]}"


def swap_epsilon(package: Path, component: str, seed: int) -> str:
    """As from a config with the wrong value: all norms of a graph that have 1e-5 get 1e-6, or the reverse."""

    def change(model: onnx.ModelProto) -> str:
        found = epsilons(model)
        old = pick(randomness(component, seed), sorted({attribute.f for attribute in found}))
        new = 1e-6 if old > 5e-6 else 1e-5
        for attribute in found:
            if attribute.f == old:
                attribute.f = new
        return f"epsilon {old:.0e} -> {new:.0e} in all norms"

    return edit_graph(package, graph_of(component, seed), change)


def swap_one_epsilon(package: Path, component: str, seed: int) -> str:
    """One norm near the input, as by a slip in one place of an exporter; the seed says which, and in which graph."""

    def change(model: onnx.ModelProto) -> str:
        index = seed // len(GRAPHS)
        attribute = epsilons(model)[index]
        attribute.f = 1e-6 if attribute.f > 5e-6 else 1e-5
        return f"epsilon of norm {index} is {attribute.f:.0e}"

    return edit_graph(package, graph_of(component, seed), change)


def reverse_a_difference(package: Path, component: str, seed: int) -> str:
    """Of the two products of a Winograd convolution whose difference goes into the lower row."""

    def change(model: onnx.ModelProto) -> str:
        products = [node for node in model.graph.node if node.name.endswith("/difference")]
        node = pick(randomness(component, seed), products)
        first, second = node.input
        node.input[:] = [second, first]
        return f"{node.name} reversed"

    return edit_graph(package, f"{component}/{GRAPHS[1]}", change)


def activations(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    """Nodes that make a GELU or QuickGELU, and what each can be confused with."""
    found = []
    for node in model.graph.node:
        if node.op_type in ("Erf", "Gelu", "BiasGelu"):
            found += [(node, "tanh"), (node, "quick")]
        elif _is_quick(model, node):
            found.append((node, "erf"))
    return found


def confuse_gelu(package: Path, component: str, seed: int) -> str:
    """One activation, or all of a graph, of another kind: erf, tanh, quick."""
    random = randomness(component, seed)

    def change(model: onnx.ModelProto) -> str:
        found = activations(model)
        kind = pick(random, sorted({becomes for _, becomes in found}))
        nodes = [node for node, becomes in found if becomes == kind]
        if random.random() < 0.5:
            nodes = [nodes[int(random.integers(len(nodes)))]]
        for node in nodes:
            _replace_activation(model.graph, node, kind)
        return f"{len(nodes)} GELU become {kind}"

    return edit_graph(package, graph_of(component, seed), change)


def _is_quick(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether it is a QuickGelu (with alpha 1 it is a SiLU), or the sigmoid of 1.702·x inside of one."""
    if node.op_type == "QuickGelu":
        return bool(abs(helper.get_node_attr_value(node, "alpha") - 1.702) < 1e-3)
    return node.op_type == "Sigmoid" and _is_scaled(model, node)


def _is_scaled(model: onnx.ModelProto, sigmoid: onnx.NodeProto) -> bool:
    constants = {node.output[0]: node for node in model.graph.node if node.op_type == "Constant"}
    for node in model.graph.node:
        if node.output[0] == sigmoid.input[0] and node.op_type == "Mul":
            values = [
                onnx.numpy_helper.to_array(constants[name].attribute[0].t) for name in node.input if name in constants
            ]
            return any(value.size == 1 and abs(float(value.item()) - 1.702) < 1e-3 for value in values)
    return False


def _replace_activation(graph: onnx.GraphProto, node: onnx.NodeProto, kind: str) -> None:
    """Put other nodes in the place of one; in unfused graphs Erf and Sigmoid are replaced by one another."""
    x, out, prefix = node.input[0], node.output[0], f"perturbed_{node.output[0]}"
    domain = "com.microsoft"
    made: list[onnx.NodeProto] = []
    if node.op_type in ("BiasGelu", "Gelu"):
        if node.op_type == "BiasGelu":
            made.append(helper.make_node("Add", [x, node.input[1]], [f"{prefix}_biased"]))
            x = f"{prefix}_biased"
        if kind == "tanh":
            made.append(helper.make_node("FastGelu", [x], [out], domain=domain))
        else:
            made.append(helper.make_node("QuickGelu", [x], [out], domain=domain, alpha=1.702))
    elif node.op_type == "QuickGelu":
        made.append(helper.make_node("Gelu", [x], [out], domain=domain))
    elif node.op_type == "Sigmoid":  # of 1.702·x -> 0.5 + 0.5·erf(x/√2)
        made += _line(x, 1 / (1.702 * np.sqrt(2)), 0.0, f"{prefix}_a")
        made.append(helper.make_node("Erf", [f"{prefix}_a"], [f"{prefix}_b"]))
        made += _line(f"{prefix}_b", 0.5, 0.5, out)
    elif kind == "quick":  # erf(x/√2) -> 2·sigmoid(1.702·x) − 1
        made += _line(x, 1.702 * np.sqrt(2), 0.0, f"{prefix}_a")
        made.append(helper.make_node("Sigmoid", [f"{prefix}_a"], [f"{prefix}_b"]))
        made += _line(f"{prefix}_b", 2.0, -1.0, out)
    else:  # erf(v), v = x/√2 -> tanh(√(2/π)·(x + 0.044715·x³)) = tanh(2/√π·(v + 0.08943·v³))
        made += _constant(f"{prefix}_three", 3.0)
        made.append(helper.make_node("Pow", [x, f"{prefix}_three"], [f"{prefix}_cube"]))
        made += _line(f"{prefix}_cube", 0.08943, 0.0, f"{prefix}_small")
        made.append(helper.make_node("Add", [x, f"{prefix}_small"], [f"{prefix}_sum"]))
        made += _line(f"{prefix}_sum", 2 / np.sqrt(np.pi), 0.0, f"{prefix}_angle")
        made.append(helper.make_node("Tanh", [f"{prefix}_angle"], [out]))
    index = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, each in enumerate(made):
        graph.node.insert(index + offset, each)


def _line(x: str, factor: float, offset: float, out: str) -> list[onnx.NodeProto]:
    """out = x·factor + offset."""
    return [
        *_constant(f"{out}_factor", factor),
        *_constant(f"{out}_offset", offset),
        helper.make_node("Mul", [x, f"{out}_factor"], [f"{out}_product"]),
        helper.make_node("Add", [f"{out}_product", f"{out}_offset"], [out]),
    ]


def _constant(name: str, value: float) -> list[onnx.NodeProto]:
    return [helper.make_node("Constant", [], [name], value_float=float(value))]


def bake_a_size(package: Path, component: str, seed: int) -> str:
    """A size of the example that a graph was traced with stays in it: in a shape, or in an input."""
    random, name = randomness(component, seed), graph_of(component, seed)

    def change(model: onnx.ModelProto) -> str:
        if random.random() < 0.3:
            value = pick(random, list(model.graph.input))
            dims = [dim for dim in value.type.tensor_type.shape.dim if dim.dim_param]
            if dims:
                dim = pick(random, dims)
                axis, size = dim.dim_param, BAKED[dim.dim_param]
                dim.dim_value = size
                return f"axis {axis} of {value.name} fixed at {size}"
        shapes = _shapes_at(package / name)
        index = pick(random, sorted(shapes))
        node = model.graph.node[index]
        baked = helper.make_node("Constant", [], list(node.output), value_ints=shapes[index])
        model.graph.node.remove(node)
        model.graph.node.insert(index, baked)
        return f"the shape of {node.input[0]} fixed at {shapes[index]}"

    return edit_graph(package, name, change)


_known_shapes: dict[bytes, dict[int, list[int]]] = {}


def _shapes_at(file: Path) -> dict[int, list[int]]:
    """Index of each Shape node -> what it gives at the sizes BAKED; each graph is run once for it."""
    content = file.read_bytes()
    if content not in _known_shapes:
        _known_shapes[content] = _measure_shapes(file)
    return _known_shapes[content]


def _measure_shapes(file: Path) -> dict[int, list[int]]:
    model = onnx.load(file, load_external_data=False)
    nodes = {index: node for index, node in enumerate(model.graph.node) if node.op_type == "Shape"}
    for node in nodes.values():
        model.graph.output.append(helper.make_tensor_value_info(node.output[0], onnx.TensorProto.INT64, None))
    probe = file.with_name("probe.onnx")
    probe.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(probe), providers=["CPUExecutionProvider"])
    probe.unlink()
    feeds: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [BAKED[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]
        dtype = np.int64 if value.type.tensor_type.elem_type == onnx.TensorProto.INT64 else np.float32
        feeds[value.name] = np.ones(shape, dtype)
    found = session.run([node.output[0] for node in nodes.values()], feeds)
    return {index: array.tolist() for index, array in zip(nodes, found, strict=True)}


# --- manifest ---------------------------------------------------------------------------------------------------

# (place in contract, value or a function of the old one, whether a sampling run or the tokens of a prompt show it).
# None: another change with the same kind of consequence stands for it in a run, or the package is refused before it.
FACTS: tuple[tuple[tuple[str | int, ...], Any, bool | None], ...] = (
    (("defaults", "sampler"), lambda old: "dpmpp_2m" if old == "ddim" else "ddim", None),
    (("defaults", "sampler"), "euler", None),
    (("defaults", "sampler"), "euler_ancestral", True),
    (("defaults", "sampler"), "dpmpp_2m_karras", None),
    (("defaults", "guidance"), 7.0, True),
    (("defaults", "guidance"), 1.0, None),
    (("defaults", "steps"), 19, False),  # runs that name their steps do not use it
    (("latent", "scale"), lambda old: old * 1.01, True),
    (("latent", "scale"), 0.13025, None),
    (("latent", "scale"), 1.0, None),
    (("latent", "scale"), lambda old: 1 / old, None),
    (("latent", "shift"), 0.1, True),
    (("schedule", "prediction_type"), lambda old: "epsilon" if old == "v_prediction" else "v_prediction", True),
    (("schedule", "prediction_type"), "sample", None),
    (("schedule", "beta_start"), 0.0001, None),
    (("schedule", "beta_end"), 0.02, None),
    (("schedule", "beta_end"), lambda old: old * 1.01, True),
    (("schedule", "beta_schedule"), "linear", None),
    (("schedule", "beta_schedule"), "squaredcos_cap_v2", None),
    (("schedule", "num_train_timesteps"), 900, None),
    (("schedule", "timestep_spacing"), "linspace", None),
    (("schedule", "timestep_spacing"), "trailing", True),
    (("schedule", "steps_offset"), lambda old: old + 1, True),
    (("schedule", "set_alpha_to_one"), lambda old: not old, True),
    (("schedule", "rescale_betas_zero_snr"), True, None),
    (("text", 0, "tokenizer", "max_length"), lambda old: old - 1, True),
    (("text", 0, "tokenizer", "bos_token_id"), lambda old: old - 1, None),
    (("text", 0, "tokenizer", "eos_token_id"), lambda old: old - 2, None),
    (("text", 0, "tokenizer", "pad_token_id"), lambda old: old + 1 if old == 0 else old - 1, True),
    (("text", 0, "tokenizer", "vocab_size"), lambda old: old + 1, None),
)


def spelt(place: tuple[str | int, ...]) -> str:
    """Return the name that a report has for a place in the contract."""
    return "contract" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)


def edit_fact(package: Path, place: tuple[str | int, ...], new: Any) -> str:
    """Change one fact of the contract."""
    *group, name = place
    file = package / "manifest.json"
    value = json.loads(file.read_text())
    facts = value["contract"]
    for key in group:
        facts = facts[key]
    old = facts[name]
    facts[name] = new(old) if callable(new) else new
    assert facts[name] != old
    replace_text(file, json.dumps(value))
    return f"{place} {old!r} -> {facts[name]!r}"


def pick(random: np.random.Generator, items: Any) -> Any:
    return items[int(random.integers(len(items)))]
