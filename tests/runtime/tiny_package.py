"""A package of four graphs with a handful of nodes each, written with onnx alone, to test the runtime on.

The graphs have the real signatures, dynamic axes and external data in safetensors files; they are no model.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from ldm_runtime.package import artefacts, manifest, manifest_json, safetensors
from ldm_runtime.package.manifest import Axis, Multiple
from ldm_runtime.package.open import Package
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.text.tokenizer import Tokenizer as PackageTokenizer

TOKENIZER = "tokenizer/tokenizer.json"
COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
CHANNELS, WIDTH, VOCABULARY, WINDOW, DOWNSAMPLE = 4, 6, 514 + 3, 12, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def make(folder: Path, **changes: Any) -> Path:
    """Write a whole package into `folder` and return it; `changes` replace fields of its contract."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in GRAPHS.items():
        (folder / name).mkdir()
        nodes, weights = build(np.random.default_rng(7))
        write_graph(folder / name, name, nodes, weights)
    (folder / "tokenizer").mkdir()
    clip_like_tokenizer().save(str(folder / "tokenizer" / "tokenizer.json"))
    contract = dataclasses.replace(CONTRACT, **changes)
    write_manifest(folder, contract)
    return folder


def write_manifest(folder: Path, contract: manifest.Contract) -> None:
    """Describe and hash the files that are in `folder` now."""
    components = {
        name: artefacts.Component(
            weights=f"{name}/model.safetensors",
            artefacts=(canonical(name),),
            keys={
                key: artefacts.KeyEntry(key, None, "F32")
                for key in safetensors.read_header(folder / name / "model.safetensors").tensors
            },
        )
        for name in GRAPHS
    }
    made = manifest.Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        name="tiny",
        contract=contract,
        components=components,
        files={
            path.relative_to(folder).as_posix(): entry_of(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "manifest.json"
        },
        provenance=manifest.Provenance(
            "stable-diffusion",
            manifest.Source("nothing", {}),
            {"onnx": onnx.__version__},
            18,
            10,
            {},
            "ldm-export test",
        ),
        dropped=(),
        proof=manifest.Proof(True, "verify/report.json", {"trajectory_psnr": 99.0}),
    )
    (folder / "manifest.json").write_text(manifest_json.dump(made), encoding="utf-8")


def canonical(name: str) -> artefacts.Artefact:
    """Describe the graph of a component."""
    files = (f"{name}/model.onnx", f"{name}/model.safetensors")
    return artefacts.Artefact("canonical", "onnx", files, "any", "fp32", "exact", None)


def entry_of(path: Path) -> manifest.FileEntry:
    content = path.read_bytes()
    return manifest.FileEntry(hashlib.sha256(content).hexdigest(), len(content))


def rehash(folder: Path) -> None:
    """Make manifest.json agree with the files again, as the author of a hostile package would."""
    value = json.loads((folder / "manifest.json").read_text())
    for name in value["files"]:
        entry = entry_of(folder / name)
        value["files"][name] = {"sha256": entry.sha256, "size": entry.size}
    (folder / "manifest.json").write_text(json.dumps(value))


def edit_manifest(folder: Path, *path: Any, value: Any = None, remove: bool = False) -> None:
    """Set (or remove) one place of manifest.json, given by its keys and indices."""
    whole = json.loads((folder / "manifest.json").read_text())
    place = whole
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(whole))


def add_openvino(folder: Path, component: str, graph: str) -> None:
    """List a graph in OpenVINO's format, with the weights beside it, as the component's own for OpenVINO."""
    text = (folder / "manifest.json").read_text()
    known = manifest_json.parse(text, "manifest.json")
    parts = known.components[component]
    kept = tuple(artefact for artefact in parts.artefacts if artefact.engine != "openvino")
    made = artefacts.Artefact("openvino", "openvino", (graph, f"{graph[:-4]}.bin"), "openvino", "fp32", "exact", None)
    components = {**known.components, component: dataclasses.replace(parts, artefacts=(*kept, made))}
    files = {**known.files, **{name: entry_of(folder / name) for name in made.files}}
    changed = dataclasses.replace(known, components=components, files=files)
    (folder / "manifest.json").write_text(manifest_json.dump(changed), encoding="utf-8")


def write_graph(folder: Path, component: str, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> None:
    """model.onnx in `folder`, its weights as external data inside model.safetensors."""
    header = safetensors.write(folder / "model.safetensors", weights)
    initialisers = []
    for name, info in header.tensors.items():
        tensor = TensorProto(name=name, data_type=FLOAT, dims=info.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (
            ("location", "model.safetensors"),
            ("offset", info.offset),
            ("length", info.length),
        ):
            tensor.external_data.add(key=key, value=str(value))
        initialisers.append(tensor)
    contract = CONTRACT.components[component]
    graph = helper.make_graph(
        nodes,
        component,
        [_value_info(spec) for spec in contract.inputs],
        [_value_info(spec) for spec in contract.outputs],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = {"float32": FLOAT, "int64": INT64}[spec.dtype]
    return helper.make_tensor_value_info(spec.name, kind, list(spec.dims))


def _normal(rng: np.random.Generator, *shape: int, scale: float = 0.3) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def text_encoder(rng: np.random.Generator) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    nodes = [
        helper.make_node("Gather", ["embedding.weight", "input_ids"], ["embedded"]),
        helper.make_node("Tanh", ["embedded"], ["last_hidden_state"]),
        helper.make_node("ReduceMax", ["last_hidden_state", "axis"], ["pooler_output"], keepdims=0),
    ]
    nodes.insert(0, helper.make_node("Constant", [], ["axis"], value_ints=[1]))
    return nodes, {"embedding.weight": _normal(rng, VOCABULARY, WIDTH, scale=1.0)}


def unet(rng: np.random.Generator) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """0.5 tanh(conv(sample) + text mean projected + 0.001 timestep): sees every input, stays small."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Constant", [], ["plane"], value_ints=[2, 3]),
        helper.make_node("Constant", [], ["thousandth"], value_float=0.001),
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Conv", ["sample", "conv.weight", "conv.bias"], ["mixed"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["encoder_hidden_states", "one"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "to_k.weight"], ["projected"]),
        helper.make_node("Unsqueeze", ["projected", "plane"], ["text"]),
        helper.make_node("Mul", ["timestep", "thousandth"], ["time"]),
        helper.make_node("Add", ["mixed", "text"], ["with_text"]),
        helper.make_node("Add", ["with_text", "time"], ["with_time"]),
        helper.make_node("Tanh", ["with_time"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "half"], ["out_sample"]),
    ]
    weights = {
        "conv.weight": _normal(rng, CHANNELS, CHANNELS, 3, 3),
        "conv.bias": _normal(rng, CHANNELS),
        "to_k.weight": _normal(rng, WIDTH, CHANNELS, scale=3.0),
    }
    return nodes, weights


def vae_encoder(rng: np.random.Generator) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    stride = [DOWNSAMPLE, DOWNSAMPLE]
    nodes = [
        helper.make_node("Conv", ["sample", "conv.weight"], ["latent_parameters"], strides=stride, kernel_shape=stride)
    ]
    return nodes, {"conv.weight": _normal(rng, 2 * CHANNELS, 3, *stride, scale=0.1)}


def vae_decoder(rng: np.random.Generator) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    stride = [DOWNSAMPLE, DOWNSAMPLE]
    nodes = [
        helper.make_node("ConvTranspose", ["latent_sample", "conv.weight"], ["grown"], strides=stride),
        helper.make_node("Tanh", ["grown"], ["sample"]),
    ]
    return nodes, {"conv.weight": _normal(rng, CHANNELS, 3, *stride, scale=0.05)}


GRAPHS = {
    "text_encoder": text_encoder,
    "unet": unet,
    "vae_encoder": vae_encoder,
    "vae_decoder": vae_decoder,
}


def tokenizer_of(package: Package, index: int = 0) -> PackageTokenizer:
    """Return the tokenizer of a package's text encoder."""
    return PackageTokenizer(package, package.manifest.contract.text[index].tokenizer)


def clip_like_tokenizer() -> Tokenizer:
    """Byte-level BPE with CLIP's normaliser, pre-tokeniser and special tokens, and one merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*alphabet, *(letter + "</w>" for letter in alphabet), "re", "red</w>"]
    vocabulary += ["<|startoftext|>", "<|endoftext|>", "<|unused|>"]
    model = BPE(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=[("r", "e"), ("re", "d</w>")],
        end_of_word_suffix="</w>",
        unk_token="<|endoftext|>",
    )
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    white_space = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), white_space, normalizers.Lowercase()])
    words = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    start, end = (tokenizer.token_to_id(token) for token in ("<|startoftext|>", "<|endoftext|>"))
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=("<|endoftext|>", end), cls=("<|startoftext|>", start), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def _float(name: str, *dims: int | str) -> TensorSpec:
    return TensorSpec(name, "float32", dims)


_LATENT = ("batch", CHANNELS, "height", "width")
_IMAGE = ("batch", 3, "image_height", "image_width")
CONTRACT = manifest.Contract(
    components={
        "text_encoder": ComponentContract(
            (TensorSpec("input_ids", "int64", ("batch", "tokens")),),
            (_float("last_hidden_state", "batch", "tokens", WIDTH), _float("pooler_output", "batch", WIDTH)),
        ),
        "unet": ComponentContract(
            (
                _float("sample", *_LATENT),
                _float("timestep"),
                _float("encoder_hidden_states", "batch", "tokens", WIDTH),
            ),
            (_float("out_sample", *_LATENT),),
        ),
        "vae_encoder": ComponentContract(
            (_float("sample", *_IMAGE),),
            (_float("latent_parameters", "batch", 2 * CHANNELS, "height", "width"),),
        ),
        "vae_decoder": ComponentContract((_float("latent_sample", *_LATENT),), (_float("sample", *_IMAGE),)),
    },
    axes={
        "batch": Axis(1, 16, (1, 2, 3), None),
        "height": Axis(2, 32, (4, 8), None),
        "width": Axis(2, 32, (4, 8), None),
        "image_height": Axis(16, 256, (32, 64), Multiple("height", DOWNSAMPLE)),
        "image_width": Axis(16, 256, (32, 64), Multiple("width", DOWNSAMPLE)),
        "tokens": Axis(1, 4 * WINDOW, (WINDOW,), None),
    },
    text=(
        manifest.TextRole(
            component="text_encoder",
            input="input_ids",
            tokenizer=manifest.TokenizerFacts(TOKENIZER, WINDOW, 514, 515, 515, VOCABULARY),
            output="last_hidden_state",
            pooled=None,
        ),
    ),
    denoiser=manifest.DenoiserRole("unet", "sample", "timestep", "encoder_hidden_states", {}, "out_sample"),
    concat=(),
    codec=manifest.CodecRole(
        "vae",
        encoder=manifest.CodecHalf("vae_encoder", "sample", "latent_parameters"),
        decoder=manifest.CodecHalf("vae_decoder", "latent_sample", "sample"),
    ),
    latent=manifest.LatentSpec(CHANNELS, DOWNSAMPLE, 0.5, 0.1),
    image=manifest.ImageSpec(64, 48),
    schedule=NoiseSchedule(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        rescale_betas_zero_snr=False,
    ),
    defaults=manifest.Defaults("dpmpp_2m", 4, 3.0),
)
