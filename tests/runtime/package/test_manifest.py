"""The manifest's parser: a good one survives the round trip, each way to be wrong has its own sentence."""

from typing import Any

import pytest

from ldm_runtime.errors import FormatError
from ldm_runtime.package import manifest_json
from tests.runtime.package.edits import HASH, REMOVED, edited


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
WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "newer schema": (("schema_version",), 4, "schema_version 4"),
    "older schema": (("schema_version",), 2, "schema_version 2, but this runtime reads 3"),
    "schema as text": (("schema_version",), "3", 'schema_version "3"'),
    "schema true": (("schema_version",), True, "schema_version true"),
    "schema missing": (("schema_version",), REMOVED, "schema_version null"),
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
    "output named as an input": (
        (*UNET, "outputs", 0, "name"),
        "timestep",
        "has an input and an output named 'timestep'",
    ),
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
    "schedule unknown": (
        ("contract", "schedule", "beta_schedule"),
        "odd",
        r"contract\.schedule\.beta_schedule is 'odd'",
    ),
    "prediction unknown": (
        ("contract", "schedule", "prediction_type"),
        "flow",
        r"contract\.schedule\.prediction_type is ",
    ),
    "sampler unknown": (
        ("contract", "defaults", "sampler"),
        "magic",
        "defaults.sampler is not usable: sampler 'magic' is not known; expected one of ddpm",
    ),
    "steps zero": (("contract", "defaults", "steps"), 0, "steps is 0"),
    "steps too many": (("contract", "defaults", "steps"), 1001, "steps is 1001; expected 1 to 1000"),
    "steps beyond the training": (
        ("contract", "schedule", "steps_offset"),
        999,
        "sampler is not usable: 4 steps with timestep_spacing 'leading' and steps_offset 999 reach timestep 1799",
    ),
    "sampler of fewer steps": (
        ("contract", "defaults"),
        {"sampler": "lcm", "steps": 51, "guidance": 1.0},
        "sampler is not usable: 51 steps of 'lcm' are not usable with original_steps 50",
    ),
    "steps too close": (
        ("contract", "defaults"),
        {"sampler": "dpmpp_2m", "steps": 1000, "guidance": 1.0},
        "sampler is not usable: 1000 steps",
    ),
    "options that do not go together": (
        ("contract", "defaults", "sampler"),
        "dpmsolver:algorithm=dpmsolver",
        "sampler is not usable: .* cannot end at zero noise",
    ),
    "guidance negative": (("contract", "defaults", "guidance"), -1.0, "guidance is -1.0"),
    "window too long": ((*TEXT, "tokenizer", "max_length"), 49, "max_length is 49; expected 2 to 48"),
    "token out of range": ((*TEXT, "tokenizer", "eos_token_id"), 517, "eos_token_id is 517"),
    "no text encoder": (("contract", "text"), [], "text is empty; expected a text encoder"),
    "role of no component": ((*TEXT, "component"), "brain", "components has text_.*expected exactly brain"),
    "two roles": ((*CODEC, "decoder"), {"component": "vae_encoder", "input": "x", "output": "y"}, "components has"),
    "codec called as a component": ((*CODEC, "name"), "unet", "gives a component two roles"),
    "role of another rank": ((*TEXT, "output"), "pooler_output", r"\['pooler_output'\] has 2 dimensions; expected 3"),
    "role of no output": ((*TEXT, "output"), "states", "has no output 'states', which is its text.output"),
    "two meanings": ((*DENOISER, "context"), "sample", r"\['sample'\] has 4 dimensions; expected 3"),
    "input without a role": (
        (*UNET, "inputs", 3),
        {"name": "style", "dtype": "float32", "dims": ["batch", 6]},
        "has the input 'style', which has no role",
    ),
    "rule unknown": (
        (*DENOISER, "extra"),
        {"sample": "magic"},
        "must be one of pooled_text, image_sizes, guidance_emb",
    ),
    "rule of another rank": ((*DENOISER, "extra"), {"timestep": "image_sizes"}, "has 0 dimensions; expected 2"),
    "concat unknown": (("contract", "concat"), ["depth"], "must be one of mask, masked_latents"),
    "concat without the latents": (("contract", "concat"), ["mask"], "concat has 1 parts; expected none, or mask"),
    "concat not in the sample": (("contract", "concat"), ["mask", "masked_latents"], "has 4 channels; expected 9"),
    "an axis twice": ((*UNET, "inputs", 0, "dims", 2), "batch", "names an axis twice: 'batch'"),
    "an output of another height": (
        (*UNET, "outputs", 0, "dims", 2),
        4,
        "has latents of 4 x 'width'; expected 'height'",
    ),
    "latents of the decoder": ((*DECODER, "inputs", 0, "dims", 3), 4, "has latents of 'height' x 4; expected 'heigh"),
    "context of one token": ((*UNET, "inputs", 2, "dims", 1), 1, r"max_length is \d+; expected 1 to 1"),
    "context of rows": ((*UNET, "inputs", 2, "dims", 1), "height", "counts tokens by 'height', as 'sample' count"),
    "outputs of one token": ((*ENCODER, "outputs", 0, "dims", 1), 1, "has outputs of 1 tokens for inputs of 'tokens'"),
    "codec without a name": (("contract", "codec", "name"), "", "codec.name should not be empty"),
    "codec that commands": (("contract", "codec", "name"), "\x1b[31m", "codec.name is .*no control characters"),
    "codec called as its half": ((*CODEC, "name"), "vae_encoder", "gives a component two roles"),
    "axis that commands": (
        ("contract", "axes", "\x1b[31m"),
        {"min": 1, "max": 1, "proven": [], "multiple_of": None},
        "axes is .*no control characters",
    ),
    "type of a parameter": ((*KEY, "dtype"), "\x1b[31m", "dtype is .*; expected one of F64"),
    "place of a parameter": ((*KEY, "initialiser"), "", "initialiser should not be empty"),
    "another batch": ((*UNET, "inputs", 2, "dims", 0), "width", "begins with 'width'; expected 'batch', the batch"),
    "tokenizer elsewhere": ((*TEXT, "tokenizer", "file"), "../x.json", "leaves the package"),
    "tokenizer unlisted": ((*TEXT, "tokenizer", "file"), "tokenizer/x.json", "which files does not list"),
    "multiple of nothing": ((*AXIS, "multiple_of", "axis"), "depth", "names the axis 'depth'; expected one of axes"),
    "multiple of a multiple": ((*AXIS, "multiple_of", "axis"), "image_width", "that is not a multiple itself"),
    "multiple with another range": ((*AXIS, "max"), 255, "has 16 to 255; expected 8 times 2 to 32"),
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
        ("[]", "schema_version null"),
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


def test_defaults_that_need_another_batch_are_refused(good: str) -> None:
    one = edited(good, ("contract", "axes", "batch"), {"min": 1, "max": 1, "proven": [], "multiple_of": None})
    with pytest.raises(
        FormatError, match="guidance is 3.0, so an image needs a batch of 2; expected 1 to 1"
    ) as refused:
        manifest_json.parse(one, "manifest.json")
    assert refused.value.code == "manifest.range"
    assert (
        manifest_json.parse(edited(one, ("contract", "defaults", "guidance"), 1.0), "m").contract.axes["batch"].max == 1
    )
    two = edited(good, ("contract", "axes", "batch"), {"min": 2, "max": 2, "proven": [], "multiple_of": None})
    with pytest.raises(FormatError, match=r"'text_encoder'\]\['input_ids'\] takes a batch of 2 to 2; expected 1"):
        manifest_json.parse(two, "manifest.json")


@pytest.mark.parametrize("hidden", ["\n", "\t", "\x9b", "\xad", "\u200b", "\u202e", "\u2066", "\ufeff", "\U000e0041"])
def test_a_name_with_a_hidden_character_is_refused(good: str, hidden: str) -> None:
    for place in (("name",), ("contract", "codec", "name"), ("components", "unet", "keys", "conv.bias", "initialiser")):
        with pytest.raises(FormatError, match="expected 1 to 1024 characters and no control") as refused:
            manifest_json.parse(edited(good, place, f"sd{hidden}15"), "manifest.json")
        assert refused.value.code == "manifest.name" and hidden not in str(refused.value)
    with pytest.raises(FormatError, match="with a character that no package path may have"):
        manifest_json.parse(edited(good, ("files", f"a{hidden}b"), {"sha256": HASH, "size": 1}), "manifest.json")


@pytest.mark.parametrize("name", ["emoji 👩\u200d🚀", "נקודה", "نمی\u200cخواهم", "naïve 日本語"])
def test_a_name_in_any_script_is_taken(good: str, name: str) -> None:
    assert manifest_json.parse(edited(good, ("name",), name), "manifest.json").name == name
