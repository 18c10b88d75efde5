"""The manifest's parser: a good one survives the round trip, each way to be wrong has its own sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.errors import FormatError
from ldm_runtime.package import manifest, manifest_json


@pytest.fixture(scope="module")
def good(tiny: Path) -> str:
    return (tiny / "manifest.json").read_text(encoding="utf-8")


def edited(text: str, path: tuple[Any, ...], value: Any) -> str:
    whole = json.loads(text)
    place = whole
    for key in path[:-1]:
        place = place[key]
    if value is REMOVED:
        del place[path[-1]]
    else:
        if isinstance(place, list) and path[-1] == len(place):
            place.append(value)
        else:
            place[path[-1]] = value
    return json.dumps(whole)


REMOVED = object()


def test_dump_and_parse_are_inverse(good: str) -> None:
    parsed = manifest_json.parse(good, "manifest.json")
    assert manifest_json.dump(parsed) == good
    assert manifest_json.parse(manifest_json.dump(parsed), "again") == parsed


def test_values_have_their_types(good: str) -> None:
    parsed = manifest_json.parse(good, "manifest.json")
    assert parsed.contract.axes["batch"].proven == (1, 2, 3)
    assert parsed.contract.tensor("unet", "sample").dims == ("batch", 4, "height", "width")
    assert parsed.contract.range_of("height") == (2, 32) and parsed.contract.range_of(7) == (7, 7)
    assert parsed.contract.schedule.prediction_type == "epsilon"
    canonical = parsed.components["unet"].canonical
    assert (canonical.format, canonical.engine, canonical.requires) == ("onnx", "any", None)
    assert canonical.file == "unet/model.onnx" and canonical.files[1:] == ("unet/model.safetensors",)


def test_an_integer_is_a_number(good: str) -> None:
    text = edited(good, ("contract", "defaults", "guidance"), 7)
    assert manifest_json.parse(text, "m").contract.defaults.guidance == 7.0


UNET = ("contract", "components", "unet")
KEY = ("components", "unet", "keys", "conv.bias")
DECODER = ("contract", "components", "vae_decoder")
ENCODER = ("contract", "components", "text_encoder")
TEXT = ("contract", "text", 0)
DENOISER = ("contract", "denoiser")
CODEC = ("contract", "codec")
AXIS = ("contract", "axes", "image_height")
CANONICAL = ("components", "unet", "artefacts", 0)
HASH = "0" * 64
WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "newer schema": (("schema_version",), 4, "schema_version 4"),
    "older schema": (("schema_version",), 2, "schema_version 2, but this runtime reads 3"),
    "schema as text": (("schema_version",), "3", "schema_version '3'"),
    "schema true": (("schema_version",), True, "schema_version True"),
    "schema missing": (("schema_version",), REMOVED, "schema_version None"),
    "unknown key": (("extra",), 1, "manifest has the unknown key 'extra'"),
    "unknown nested key": (("contract", "latent", "bias"), 0, r"contract\.latent has the unknown key 'bias'"),
    "missing key": (("proof", "passed"), REMOVED, r"proof lacks the key 'passed'"),
    "object for list": (("dropped",), {}, "dropped must be a list"),
    "list for object": (("files",), [], "files must be an object"),
    "text for integer": (("contract", "latent", "channels"), "4", r"channels must be an integer"),
    "float for integer": (("contract", "latent", "channels"), 4.0, r"channels must be an integer"),
    "boolean for integer": (("contract", "latent", "channels"), True, r"channels must be an integer"),
    "boolean for number": (("contract", "latent", "scale"), True, r"scale must be a number"),
    "integer for boolean": (("proof", "passed"), 1, "passed must be true or false"),
    "null for text": (("name",), None, "name must be a string"),
    "empty name": (("name",), "", "name should not be empty"),
    "dim of another type": ((*UNET, "inputs", 0, "dims", 0), 1.5, "must be an integer or a string"),
    "canonical for one engine of another form": ((*CANONICAL, "engine"), "an abacus", "not ONNX for any engine"),
    "name of another form": ((*CANONICAL, "name"), "../a", "has the names ../a; expected 'canonical' first"),
    "requirements of a graph": ((*CANONICAL, "requires"), {}, "requires lacks the key"),
    "unknown exactness": ((*CANONICAL, "exactness"), "nearly", "exactness must be one of"),
    "infinite number": (("contract", "latent", "scale"), 1e999, "Infinity is not a JSON number"),
    "component missing": (("components", "unet"), REMOVED, "components has text_encoder, vae_decoder"),
    "component unknown": (("components", "controlnet"), {}, "controlnet'] lacks the key"),
    "component not promised": ((*UNET,), REMOVED, r"contract.components has"),
    "input missing": ((*UNET, "inputs", 1), REMOVED, "has no input 'timestep', which is its denoiser.timestep"),
    "input renamed": ((*UNET, "inputs", 0, "name"), "x", "has no input 'sample', which is its denoiser.sample"),
    "input twice": ((*UNET, "inputs", 0, "name"), "timestep", "names a tensor twice"),
    "input of another type": ((*UNET, "inputs", 0, "dtype"), "float16", "has the dtype 'float16'"),
    "input of another rank": ((*UNET, "inputs", 1, "dims"), [1], "has 1 dimensions; expected 0"),
    "axis undefined": ((*UNET, "inputs", 0, "dims", 0), "rows", "names the axis 'rows'"),
    "size zero": ((*UNET, "inputs", 0, "dims", 0), 0, "is 0; expected 1"),
    "other channels": ((*UNET, "inputs", 0, "dims", 1), 5, "has 5 channels; expected 4"),
    "other width": ((*UNET, "inputs", 2, "dims", 2), 9, "width 6 to a denoiser that takes 9"),
    "axis minimum 0": (("contract", "axes", "batch", "min"), 0, r"min is 0; expected 1"),
    "axis reversed": (("contract", "axes", "batch", "max"), 0, r"max is 0; expected 1"),
    "axis immense": (("contract", "axes", "batch", "max"), 2**40, "max is 1099511627776; expected"),
    "axis beyond words": (("contract", "axes", "batch", "max"), 10**300, "an immense number"),
    "proof out of range": (("contract", "axes", "batch", "proven"), [17], "proven is 17; expected 1 to 16"),
    "scale zero": (("contract", "latent", "scale"), 0.0, "scale is 0.0"),
    "shift immense": (("contract", "latent", "shift"), 1e30, "shift is 1e"),
    "downsample zero": (("contract", "latent", "downsample"), 0, "downsample is 0"),
    "image not divisible": (("contract", "image", "width"), 63, "width is 63, not a multiple of 8"),
    "image too large": (("contract", "image", "width"), 10**6, "width is 1000000; expected 16 to 256"),
    "schedule unknown": (("contract", "schedule", "beta_schedule"), "odd", r"contract\.schedule: .*'odd'"),
    "prediction unknown": (("contract", "schedule", "prediction_type"), "flow", r"contract\.schedule: "),
    "sampler unknown": (
        ("contract", "defaults", "sampler"),
        "magic",
        "defaults.sampler is not usable: sampler 'magic' is not known; expected one of ddpm",
    ),
    "steps zero": (("contract", "defaults", "steps"), 0, "steps is 0"),
    "steps too many": (("contract", "defaults", "steps"), 1001, "steps is 1001; expected 1 to 1000"),
    "guidance negative": (("contract", "defaults", "guidance"), -1.0, "guidance is -1.0"),
    "window too long": ((*TEXT, "tokenizer", "max_length"), 49, "max_length is 49; expected 2 to 48"),
    "token out of range": ((*TEXT, "tokenizer", "eos_token_id"), 517, "eos_token_id is 517"),
    "no text encoder": (("contract", "text"), [], "text is empty; expected a text encoder"),
    "role of no component": ((*TEXT, "component"), "brain", "components has text_.*expected exactly brain"),
    "two roles": ((*CODEC, "decoder"), {"component": "vae_encoder", "input": "x", "output": "y"}, "components has"),
    "codec called as a component": ((*CODEC, "name"), "unet", "gives a component two roles"),
    "role of another rank": ((*TEXT, "output"), "pooler_output", "pooler_output has 2 dimensions; expected 3"),
    "role of no output": ((*TEXT, "output"), "states", "has no output 'states', which is its text.output"),
    "two meanings": ((*DENOISER, "context"), "sample", "sample has 4 dimensions; expected 3"),
    "input without a role": (
        (*UNET, "inputs", 3),
        {"name": "style", "dtype": "float32", "dims": ["batch", 6]},
        "has the input 'style', which has no role",
    ),
    "rule unknown": ((*DENOISER, "extra"), {"sample": "magic"}, "must be one of pooled_text, image_sizes"),
    "rule of another rank": ((*DENOISER, "extra"), {"timestep": "image_sizes"}, "has 0 dimensions; expected 2"),
    "concat unknown": (("contract", "concat"), ["depth"], "must be one of mask, masked_latents"),
    "concat without the latents": (("contract", "concat"), ["mask"], r"concat is \['mask'\]; expected \[\] or"),
    "concat not in the sample": (("contract", "concat"), ["mask", "masked_latents"], "has 4 channels; expected 9"),
    "an axis twice": ((*UNET, "inputs", 0, "dims", 2), "batch", "names an axis twice: batch, batch, width"),
    "an output of another height": ((*UNET, "outputs", 0, "dims", 2), 4, "has latents of 4 x width; expected height x"),
    "latents of the decoder": ((*DECODER, "inputs", 0, "dims", 3), 4, "has latents of height x 4; expected height x"),
    "context of one token": ((*UNET, "inputs", 2, "dims", 1), 1, r"max_length is \d+; expected 1 to 1"),
    "context of rows": ((*UNET, "inputs", 2, "dims", 1), "height", "counts tokens by 'height', as sample counts lat"),
    "outputs of one token": ((*ENCODER, "outputs", 0, "dims", 1), 1, "has outputs of 1 tokens for inputs of 'tokens'"),
    "codec without a name": (("contract", "codec", "name"), "", "codec.name should not be empty"),
    "codec that commands": (("contract", "codec", "name"), "\x1b[31m", "codec.name is .*no control characters"),
    "type of a parameter": ((*KEY, "dtype"), "\x1b[31m", "dtype is .*; expected one of F64"),
    "place of a parameter": ((*KEY, "initialiser"), "", "initialiser should not be empty"),
    "another batch": ((*UNET, "inputs", 2, "dims", 0), "width", "begins with 'width'; expected 'batch', the batch"),
    "tokenizer elsewhere": ((*TEXT, "tokenizer", "file"), "../x.json", "leaves the package"),
    "tokenizer unlisted": ((*TEXT, "tokenizer", "file"), "tokenizer/x.json", "which files does not list"),
    "multiple of nothing": ((*AXIS, "multiple_of", "axis"), "depth", "names the axis 'depth'; expected one of axes"),
    "multiple of a multiple": ((*AXIS, "multiple_of", "axis"), "image_width", "that is not a multiple itself"),
    "multiple with another range": ((*AXIS, "max"), 255, "has 16 to 255; expected 16 to 256"),
    "image no multiple": ((*AXIS, "multiple_of"), None, "has images of 'image_height' for latents of 'height'"),
    "image of another factor": (("contract", "latent", "downsample"), 4, "expected 4 times as many"),
    "no canonical": ((*CANONICAL, "name"), "fast", "has the names fast; expected 'canonical' first"),
    "canonical for one engine": ((*CANONICAL, "engine"), "ort_cpu", "not ONNX for any engine"),
    "canonical of another format": ((*CANONICAL, "format"), "openvino", "not ONNX for any engine"),
    "graph unlisted": ((*CANONICAL, "files", 0), "unet/other.onnx", "which files does not list"),
    "graph elsewhere": ((*CANONICAL, "files", 0), "vae_decoder/model.onnx", "expected a graph in 'unet', then"),
    "graph without its weights": ((*CANONICAL, "files"), ["unet/model.onnx"], "expected a graph in 'unet', then"),
    "no files": ((*CANONICAL, "files"), [], "files is empty"),
    "weights unlisted": (("components", "unet", "weights"), "unet/w", "names the file 'unet/w'"),
    "lossy in fp32": ((*CANONICAL, "exactness"), "lossy", "is lossy in fp32; expected a reduced precision or exact"),
    "hash short": (("files", "unet/model.onnx", "sha256"), "ab", "64 hexadecimal digits"),
    "size negative": (("files", "unet/model.onnx", "size"), -1, "size is -1"),
    "transpose": (("components", "unet", "keys", "conv.bias", "transpose"), [1, 1], "not a permutation"),
    "slice": (("components", "unet", "keys", "conv.bias", "slice"), None, "has the unknown key 'slice'"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_manifest_is_refused(good: str, path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        manifest_json.parse(edited(good, path, value), "manifest.json")


RANGE = {"min": 1, "opt": 2, "max": 4}
REQUIRES = {
    "flavour": "rtx",
    "version": "1.7.1.116",
    "compute_capabilities": ["8.6", "8.9"],
    "options": [],
    "graph": HASH,
    "weights": HASH,
    "profiles": [{"batch": RANGE, "height": RANGE | {"min": 2}, "width": RANGE | {"min": 2}, "tokens": RANGE}],
    "activation_bytes": 1,
    "weight_bytes": None,
}
PLAN = {
    "name": "rtx-89",
    "format": "tensorrt",
    "files": ["engines/rtx-89/unet.plan"],
    "engine": "tensorrt",
    "precision": "fp16",
    "exactness": "lossy",
    "difference": {"relative_rms": 1e-3, "max_abs": 0.1},
    "requires": REQUIRES,
}
OPENVINO = {
    "name": "openvino",
    "format": "openvino",
    "files": ["openvino/unet.xml", "openvino/unet.bin"],
    "engine": "openvino",
    "precision": "fp32",
    "exactness": "exact",
    "difference": None,
    "requires": None,
}
ADDED = ("components", "unet", "artefacts", 1)
PROFILE = (*ADDED, "requires", "profiles", 0)


def with_artefact(good: str, made: dict[str, Any]) -> str:
    text = good
    for file in made["files"]:
        text = edited(text, ("files", file), {"sha256": HASH, "size": 1})
    return edited(
        text, ("components", "unet", "artefacts"), [*json.loads(text)["components"]["unet"]["artefacts"], made]
    )


@pytest.mark.parametrize("made", [PLAN, OPENVINO], ids=["plan", "openvino"])
def test_artefacts_of_other_formats_are_read(good: str, made: dict[str, Any]) -> None:
    parsed = manifest_json.parse(with_artefact(good, made), "manifest.json")
    artefact = parsed.components["unet"].artefacts[1]
    assert (artefact.name, artefact.format, artefact.files) == (made["name"], made["format"], tuple(made["files"]))
    if artefact.requires is not None:
        assert artefact.requires.profiles[0]["batch"] == manifest.Range(1, 2, 4)
    assert manifest_json.parse(manifest_json.dump(parsed), "again") == parsed


def test_an_artefact_for_an_engine_that_this_runtime_does_not_know_is_left_alone(good: str) -> None:
    made = {**OPENVINO, "name": "abacus", "format": "beads", "engine": "abacus", "files": ["unet/a.beads"]}
    parsed = manifest_json.parse(with_artefact(good, made), "manifest.json")
    assert parsed.components["unet"].canonical.name == "canonical"


WRONG_PLANS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "unknown flavour": ((*ADDED, "requires", "flavour"), "vanilla", "flavour must be one of rtx, classic"),
    "unknown option": ((*ADDED, "requires", "options"), ["fast"], "must be one of refit"),
    "no capability": ((*ADDED, "requires", "compute_capabilities"), [], "compute_capabilities is empty"),
    "capability of another form": (
        (*ADDED, "requires", "compute_capabilities"),
        ["sm89"],
        "has 'sm89'; expected such as '8.9'",
    ),
    "no requirements": ((*ADDED, "requires"), None, "does not fit the format"),
    "requirements of another format": ((*ADDED, "format"), "openvino", "does not fit the format"),
    "name of another form": ((*ADDED, "name"), "../a", r"name is '../a'; expected up to 200 letters"),
    "engine of another form": ((*ADDED, "engine"), "an abacus", "engine is 'an abacus'; expected a short name"),
    "format of another form": ((*ADDED, "format"), "", "format is ''; expected a short name"),
    "name twice": ((*ADDED, "name"), "canonical", "expected 'canonical' first and each once"),
    "plan unlisted": ((*ADDED, "files"), ["engines/rtx-89/u.plan"], "which files does not list"),
    "plan elsewhere": ((*ADDED, "files"), ["unet/model.onnx"], "expected one plan in engines/rtx-89"),
    "two plans": ((*ADDED, "files"), ["engines/rtx-89/unet.plan", "unet/model.onnx"], "expected one plan in"),
    "hash of the graph": ((*ADDED, "requires", "graph"), "ab", "graph should be 64 hexadecimal digits"),
    "hash of the weights": ((*ADDED, "requires", "weights"), HASH.replace("0", "G"), "weights should be 64 hexadec"),
    "lossy unmeasured": ((*ADDED, "difference"), None, "is lossy without its measured difference"),
    "lossy in fp32": ((*ADDED, "precision"), "fp32", "is lossy in fp32"),
    "unknown precision": ((*ADDED, "precision"), "fp8", "precision must be one of fp32"),
    "version of another form": ((*ADDED, "requires", "version"), "../x", "version is '../x'; expected such as"),
    "no version": ((*ADDED, "requires", "version"), "", "version is ''; expected such as"),
    "immense memory": ((*ADDED, "requires", "activation_bytes"), 10**30, "activation_bytes is an immense number"),
    "negative memory": ((*ADDED, "requires", "weight_bytes"), -1, "weight_bytes is -1; expected 0 to"),
    "capability twice": ((*ADDED, "requires", "compute_capabilities"), ["8.6", "8.6"], "is 8.6, 8.6; expected each"),
    "option twice": ((*ADDED, "requires", "options"), ["refit", "refit"], "is refit, refit; expected each once"),
    "no profile": ((*ADDED, "requires", "profiles"), [], "profiles is empty"),
    "axis missing": ((*PROFILE, "width"), REMOVED, "has the axes batch, height, tokens; expected"),
    "axis unknown": ((*PROFILE, "depth"), RANGE, "has the axes batch, depth, height"),
    "minimum beyond the contract": ((*PROFILE, "batch", "min"), 0, "min is 0; expected 1 to 16"),
    "maximum beyond the contract": ((*PROFILE, "batch", "max"), 17, "max is 17; expected 2 to 16"),
    "falling range": ((*PROFILE, "batch", "opt"), 5, "max is 4; expected 5 to 16"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG_PLANS.values(), ids=WRONG_PLANS.keys())
def test_wrong_plans_are_refused(good: str, path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        manifest_json.parse(edited(with_artefact(good, PLAN), path, value), "manifest.json")


@pytest.mark.parametrize(
    "files",
    [
        ["openvino/unet.xml"],
        ["openvino/unet.onnx", "openvino/unet.bin"],
        ["openvino/unet.bin", "openvino/unet.xml"],
        ["openvino/unet.xml", "openvino/unet.bin", "genai/unet.bin"],
    ],
)
def test_a_graph_of_openvino_is_an_xml_and_its_weights(good: str, files: list[str]) -> None:
    with pytest.raises(FormatError, match=r"expected a graph in \.xml, then its weights in \.bin"):
        manifest_json.parse(with_artefact(good, {**OPENVINO, "files": files}), "m")


ESCAPES = [
    "../secret",
    "unet/../../secret",
    "/etc/passwd",
    "C:/windows",
    "C:secret",
    "unet\\model.onnx",
    "..\\secret",
    "unet//model.onnx",
    "./model.onnx",
    "unet/.",
    "",
    "unet/",
    "a\0b",
    "a\nb",
    "name.",
    "name ",
    "a" * 256,
    "a/" * 600 + "a",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_path_that_leaves_the_package_is_refused(good: str, escape: str) -> None:
    for place in (("files", escape), ("proof", "report")):
        value: Any = {"sha256": HASH, "size": 1} if place[0] == "files" else escape
        with pytest.raises(FormatError, match="path"):
            manifest_json.parse(edited(good, place, value), "manifest.json")


@pytest.mark.parametrize("path", ["README.md", "verify/report.json", "a/b-c_d.e/f", ".hidden", "Lizenz für alle.md"])
def test_plain_relative_path_is_accepted(good: str, path: str) -> None:
    text = edited(good, ("files", path), {"sha256": HASH, "size": 1})
    assert path in manifest_json.parse(text, "manifest.json").files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON at line 1"),
        ("{", "not valid JSON"),
        ("[]", "schema_version None"),
        ('{"schema_version": 1, "schema_version": 1}', "'schema_version' is given twice"),
        ('{"schema_version": NaN}', "NaN is not a JSON number"),
        ('{"schema_version": -Infinity}', "-Infinity is not a JSON number"),
        ('{"schema_version": ' + "9" * 5000 + "}", "not acceptable JSON"),
        ("[" * 200_000, "nests its JSON too deeply|not valid JSON"),
    ],
)
def test_text_that_is_no_manifest_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        manifest_json.parse(text, "manifest.json")


def test_number_beyond_float64_is_refused(good: str) -> None:
    text = edited(good, ("contract", "latent", "scale"), 123456789).replace("123456789", "1e999")
    with pytest.raises(FormatError, match="1e999' is too large for a float64"):
        manifest_json.parse(text, "manifest.json")
