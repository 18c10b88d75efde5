"""The manifest's parser: a good one survives the round trip, each way to be wrong has its own sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.errors import PackageError
from ldm_runtime.package import manifest


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
        place[path[-1]] = value
    return json.dumps(whole)


REMOVED = object()


def test_dump_and_parse_are_inverse(good: str) -> None:
    parsed = manifest.parse(good, "manifest.json")
    assert manifest.dump(parsed) == good
    assert manifest.parse(manifest.dump(parsed), "again") == parsed


def test_values_have_their_types(good: str) -> None:
    parsed = manifest.parse(good, "manifest.json")
    assert parsed.contract.axes["batch"].proven == (1, 2, 3)
    assert parsed.contract.tensor("unet", "sample").dims == ("batch", 4, "height", "width")
    assert parsed.contract.range_of("height") == (2, 32) and parsed.contract.range_of(7) == (7, 7)
    assert parsed.contract.schedule.prediction_type == "epsilon"
    assert (
        parsed.components["unet"].canonical.engine == "any" and parsed.components["unet"].canonical.own_weights is None
    )


def test_an_integer_is_a_number(good: str) -> None:
    text = edited(good, ("contract", "defaults", "guidance"), 7)
    assert manifest.parse(text, "m").contract.defaults.guidance == 7.0


UNET = ("contract", "components", "unet")
VARIANT = ("components", "unet", "variants", 0)
HASH = "0" * 64
WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "newer schema": (("schema_version",), 3, "schema_version 3"),
    "older schema": (("schema_version",), 1, "schema_version 1, but this runtime reads 2"),
    "schema as text": (("schema_version",), "2", "schema_version '2'"),
    "schema true": (("schema_version",), True, "schema_version True"),
    "schema missing": (("schema_version",), REMOVED, "schema_version None"),
    "unknown key": (("extra",), 1, "manifest has the unknown key 'extra'"),
    "unknown nested key": (("contract", "latent", "bias"), 0, r"contract\.latent has the unknown key 'bias'"),
    "missing key": (("proof", "passed"), REMOVED, r"proof lacks the key 'passed'"),
    "object for list": (("dropped",), {}, "dropped should be a list"),
    "list for object": (("files",), [], "files should be an object"),
    "text for integer": (("contract", "latent", "channels"), "4", r"channels should be an integer"),
    "float for integer": (("contract", "latent", "channels"), 4.0, r"channels should be an integer"),
    "boolean for integer": (("contract", "latent", "channels"), True, r"channels should be an integer"),
    "boolean for number": (("contract", "latent", "scale"), True, r"scale should be a number"),
    "integer for boolean": (("proof", "passed"), 1, "passed should be true or false"),
    "null for text": (("name",), None, "name should be a string"),
    "empty name": (("name",), "", "name should not be empty"),
    "dim of another type": ((*UNET, "inputs", 0, "dims", 0), 1.5, "should be an integer or a string"),
    "unknown engine": ((*VARIANT, "engine"), "abacus", "engine should be one of 'any', 'ort_cpu'"),
    "unknown exactness": ((*VARIANT, "exactness"), "nearly", "exactness should be one of"),
    "infinite number": (("contract", "latent", "scale"), 1e999, "Infinity is not a JSON number"),
    "component missing": (("components", "unet"), REMOVED, "components has text_encoder, vae_decoder"),
    "component unknown": (("components", "controlnet"), {}, "controlnet'] lacks the key"),
    "component not promised": ((*UNET,), REMOVED, r"contract.components has"),
    "input missing": ((*UNET, "inputs", 1), REMOVED, "has the tensors sample, encoder_hidden_states"),
    "input renamed": ((*UNET, "inputs", 0, "name"), "x", "has the tensors x, timestep"),
    "input twice": ((*UNET, "inputs", 0, "name"), "timestep", "names a tensor twice"),
    "input of another type": ((*UNET, "inputs", 0, "dtype"), "float16", "has the dtype 'float16'"),
    "input of another rank": ((*UNET, "inputs", 1, "dims"), [1], "has 1 dimensions; expected 0"),
    "axis undefined": ((*UNET, "inputs", 0, "dims", 0), "rows", "names the axis 'rows'"),
    "size zero": ((*UNET, "inputs", 0, "dims", 0), 0, "is 0; expected 1"),
    "other channels": ((*UNET, "inputs", 0, "dims", 1), 5, "has 5 channels; expected 4"),
    "other width": ((*UNET, "inputs", 2, "dims", 2), 9, "width 6 to a UNet that takes 9"),
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
    "window too long": (("contract", "tokenizer", "max_length"), 49, "max_length is 49; expected 2 to 48"),
    "token out of range": (("contract", "tokenizer", "eos_token_id"), 517, "eos_token_id is 517"),
    "no canonical": ((*VARIANT, "name"), "fast", "has the names fast; expected 'canonical'"),
    "canonical for one engine": ((*VARIANT, "engine"), "ort_cpu", "not for any engine"),
    "variant unlisted": ((*VARIANT, "file"), "unet/other.onnx", "which files does not list"),
    "variant elsewhere": ((*VARIANT, "file"), "vae_decoder/model.onnx", "outside its weights' folder"),
    "weights unlisted": (("components", "unet", "weights"), "unet/w", "names the file 'unet/w'"),
    "lossy in fp32": ((*VARIANT, "exactness"), "lossy", "is lossy in fp32; expected a reduced precision or exact"),
    "hash short": (("files", "unet/model.onnx", "sha256"), "ab", "64 hexadecimal digits"),
    "size negative": (("files", "unet/model.onnx", "size"), -1, "size is -1"),
    "transpose": (("components", "unet", "keys", "conv.bias", "transpose"), [1, 1], "no permutation"),
    "slice": (("components", "unet", "keys", "conv.bias", "slice"), [0, 2, 1], "expected axis, start, stop"),
    "slice of two": (("components", "unet", "keys", "conv.bias", "slice"), [0, 2], "a list of 3 items"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_manifest_is_refused(good: str, path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        manifest.parse(edited(good, path, value), "manifest.json")


RANGE = {"min": 1, "opt": 2, "max": 4}
PLAN = {
    "file": "engines/rtx-89/unet.plan",
    "graph": HASH,
    "weights": HASH,
    "profiles": [{"batch": RANGE, "height": RANGE | {"min": 2}, "width": RANGE | {"min": 2}, "tokens": RANGE}],
    "activation_bytes": 1,
    "weight_bytes": None,
    "exactness": "lossy",
    "difference": {"relative_rms": 1e-3, "max_abs": 0.1},
}
PLANS = {
    "flavour": "rtx",
    "version": "1.7.1.116",
    "compute_capabilities": ["8.6", "8.9"],
    "precision": "fp16",
    "options": [],
    "plans": {"unet": PLAN},
}
SET = ("engines", "rtx-89")
UNET_PLAN = (*SET, "plans", "unet")
PROFILE = (*UNET_PLAN, "profiles", 0)


@pytest.fixture
def with_plans(good: str) -> str:
    listed = edited(good, ("files", PLAN["file"]), {"sha256": HASH, "size": 1})
    return edited(listed, ("engines",), {"rtx-89": PLANS})


def test_plans_are_read(with_plans: str) -> None:
    parsed = manifest.parse(with_plans, "manifest.json")
    plan = parsed.engines["rtx-89"].plans["unet"]
    assert plan.profiles[0]["batch"] == manifest.Range(1, 2, 4)
    assert manifest.parse(manifest.dump(parsed), "again") == parsed


WRONG_PLANS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "unknown flavour": ((*SET, "flavour"), "vanilla", "flavour should be one of 'rtx', 'classic'"),
    "unknown option": ((*SET, "options"), ["fast"], "should be one of 'refit'"),
    "no capability": ((*SET, "compute_capabilities"), [], "no compute capability or no plan"),
    "no plan": ((*SET, "plans"), {}, "no compute capability or no plan"),
    "capability of another form": ((*SET, "compute_capabilities"), ["sm89"], "has 'sm89'; expected such as '8.9'"),
    "plan of no component": ((*SET, "plans", "brain"), PLAN, "has 'brain'; expected text_encoder"),
    "plan unlisted": ((*UNET_PLAN, "file"), "engines/rtx-89/u.plan", "which files does not list"),
    "plan elsewhere": ((*UNET_PLAN, "file"), "unet/model.onnx", "outside of engines/rtx-89"),
    "hash of the graph": ((*UNET_PLAN, "graph"), "ab", "graph should be 64 hexadecimal digits"),
    "hash of the weights": ((*UNET_PLAN, "weights"), HASH.replace("0", "G"), "weights should be 64 hexadecimal"),
    "lossy unmeasured": ((*UNET_PLAN, "difference"), None, "is lossy without its measured difference"),
    "lossy in fp32": ((*SET, "precision"), "fp32", "is lossy in fp32"),
    "no profile": ((*UNET_PLAN, "profiles"), [], "profiles is empty"),
    "axis missing": ((*PROFILE, "width"), REMOVED, "has the axes batch, height, tokens; expected"),
    "axis unknown": ((*PROFILE, "depth"), RANGE, "has the axes batch, depth, height"),
    "minimum beyond the contract": ((*PROFILE, "batch", "min"), 0, "min is 0; expected 1 to 16"),
    "maximum beyond the contract": ((*PROFILE, "batch", "max"), 17, "max is 17; expected 2 to 16"),
    "falling range": ((*PROFILE, "batch", "opt"), 5, "max is 4; expected 5 to 16"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG_PLANS.values(), ids=WRONG_PLANS.keys())
def test_wrong_plans_are_refused(with_plans: str, path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        manifest.parse(edited(with_plans, path, value), "manifest.json")


OPENVINO = {"name": "openvino", "file": "openvino/unet.xml", "engine": "openvino", "precision": "fp32"}


def test_a_graph_of_openvino_has_its_weights_beside_it(good: str) -> None:
    def graph(**changes: Any) -> str:
        variants = json.loads(good)["components"]["unet"]["variants"]
        made = {**OPENVINO, "exactness": "exact", "difference": None, **changes}
        return edited(
            edited(good, ("files", made["file"]), entry), ("components", "unet", "variants"), [*variants, made]
        )

    entry = {"sha256": HASH, "size": 1}
    with pytest.raises(PackageError, match="names the file 'openvino/unet.bin', which files does not list"):
        manifest.parse(graph(), "m")
    parsed = manifest.parse(edited(graph(), ("files", "openvino/unet.bin"), entry), "m")
    assert parsed.components["unet"].variants[-1].own_weights == "openvino/unet.bin"
    with pytest.raises(PackageError, match="for OpenVINO; expected a file that ends with .xml"):
        manifest.parse(graph(file="openvino/unet.onnx"), "m")


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
        with pytest.raises(PackageError, match="path"):
            manifest.parse(edited(good, place, value), "manifest.json")


@pytest.mark.parametrize("path", ["README.md", "verify/report.json", "a/b-c_d.e/f", ".hidden", "Lizenz für alle.md"])
def test_plain_relative_path_is_accepted(good: str, path: str) -> None:
    text = edited(good, ("files", path), {"sha256": HASH, "size": 1})
    assert path in manifest.parse(text, "manifest.json").files


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
    with pytest.raises(PackageError, match=message):
        manifest.parse(text, "manifest.json")


def test_number_beyond_float64_is_refused(good: str) -> None:
    text = edited(good, ("contract", "latent", "scale"), 123456789).replace("123456789", "1e999")
    with pytest.raises(PackageError, match="1e999' is too large for a float64"):
        manifest.parse(text, "manifest.json")
