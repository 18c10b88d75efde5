"""Variants in a manifest, and the artefacts that they are made of: what is read, and each way in which one is wrong."""

import copy
import json
from typing import Any

import pytest

from ldm_runtime.errors import FormatError
from ldm_runtime.package import manifest_json
from ldm_runtime.package.variants import Caching, Way
from tests.runtime.package.edits import HASH, REMOVED, edited

LATENT = ["batch", 4, "height", "width"]
SAMPLE = {"name": "sample", "dtype": "float32", "dims": LATENT}
TIMESTEP = {"name": "timestep", "dtype": "float32", "dims": []}
TEXT = {"name": "encoder_hidden_states", "dtype": "float32", "dims": ["batch", "tokens", 6]}
OUTPUT = {"name": "out_sample", "dtype": "float32", "dims": LATENT}
DEEP_OUTPUT = {"name": "deep", "dtype": "float32", "dims": LATENT}
TEXT_KEYS = {"name": "keys", "dtype": "float16", "dims": ["batch", "tokens", 4]}


def onnx(name: str, *data: str, **more: Any) -> dict[str, Any]:
    exact = {"precision": "fp32", "exactness": "exact", "difference": None, "requires": None}
    files = [f"unet/{name}.onnx", *(data or ("unet/model.safetensors",))]
    return {"name": name, "format": "onnx", "files": files, "engine": "any", **exact, **more}


LOSSY = {"exactness": "lossy", "difference": {"relative_rms": 0.031, "max_abs": 0.4}}
INT8_DATA = ("unet/model.int8.safetensors", "unet/model.safetensors")
ARTEFACTS = [
    onnx("int8", *INT8_DATA, engine="ort_cpu", precision="int8", **LOSSY, kept=["conv_in", "conv_out"]),
    onnx("deep", interface={"inputs": [SAMPLE, TIMESTEP, TEXT], "outputs": [OUTPUT, DEEP_OUTPUT]}),
    onnx("shallow", interface={"inputs": [SAMPLE, DEEP_OUTPUT], "outputs": [OUTPUT]}),
    onnx("keys", interface={"inputs": [TEXT], "outputs": [TEXT_KEYS]}),
    onnx("fp16", "unet/model.fp16.safetensors", engine="openvino", precision="fp16", **LOSSY, rescaled=64.0),
    onnx("merged", **LOSSY, merged=0.5),
]
ERROR = {
    "components": {"unet": {"relative_rms": 0.031, "max_abs": 0.4}},
    "latents": [0.004, 0.011],
    "psnr": 34.1,
    "ssim": 0.981,
    "worst": 5,
    "prompts": {"sha256": HASH, "count": 12},
    "seeds": [101, 112],
    "steps": 4,
    "sampler": "dpmpp_2m",
    "guidance": 3.0,
    "size": [64, 48],
    "units": ["avx512_vnni"],
    "versions": {"openvino": "2026.4.1"},
}
NO_RUN = {"caching": None, "guidance_until": 1.0, "steps": None, "sampler": None}


def variant(name: str, ways: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = {"name": name, "methods": ["int8", "bf16"], "ways": ways, "run": NO_RUN, "error": ERROR}
    return {**made, "time": 0.41, "bytes": 16_000_000, **more}


def way(engine: str, artefact: str, precision: str, *units: str) -> dict[str, Any]:
    return {"engine": engine, "artefact": artefact, "precision": precision, "units": list(units)}


VARIANTS = [
    variant("int8-bf16", {"unet": way("openvino", "int8", "bf16", "avx512_bf16", "avx512_vnni")}),
    variant(
        "cached",
        {},
        run={
            "caching": {"interval": 2, "keeps": "deep", "reads": "shallow"},
            "guidance_until": 0.8,
            "steps": 3,
            "sampler": "euler",
        },
        error={**ERROR, "psnr": None},
    ),
    variant(
        "mixed",
        {"unet": way("ort:cuda", "canonical", "bf16"), "vae_decoder": way("openvino", "canonical", "bf16")},
        error={**ERROR, "components": dict.fromkeys(("unet", "vae_decoder"), LOSSY["difference"])},
    ),
    variant("merged", {"unet": way("ort", "merged", "fp32")}, methods=["merging"]),
]


def with_variants(good: str, variants: list[dict[str, Any]] = VARIANTS) -> str:
    """Add the artefacts and variants to the tiny package's manifest."""
    whole = json.loads(good)
    whole["components"]["unet"]["artefacts"] += copy.deepcopy(ARTEFACTS)
    for artefact in ARTEFACTS:
        for file in artefact["files"]:
            whole["files"].setdefault(file, {"sha256": HASH, "size": 1})
    whole["variants"] = copy.deepcopy(variants)
    return json.dumps(whole)


def test_a_manifest_with_variants_survives_the_round_trip(good: str) -> None:
    parsed = manifest_json.parse(with_variants(good), "manifest.json")
    first, cached, *_ = parsed.variants
    assert first.ways["unet"] == Way("openvino", "int8", "bf16", ("avx512_bf16", "avx512_vnni"))
    assert first.error.seeds == (101, 112) and first.error.psnr == 34.1 and cached.error.psnr is None
    assert cached.run.caching == Caching(2, "deep", "shallow") and first.run.caching is None
    assert manifest_json.parse(manifest_json.dump(parsed), "again") == parsed
    int8, *_, fp16, merged = parsed.components["unet"].artefacts[1:]
    assert (int8.kept, int8.rescaled, fp16.kept, fp16.rescaled) == (("conv_in", "conv_out"), None, (), 64.0)
    assert (int8.merged, merged.merged, merged.precision, merged.exactness) == (None, 0.5, "fp32", "lossy")
    assert [each.needs_variant for each in (int8, fp16, merged)] == [True, False, True]


def test_a_manifest_without_variants_says_nothing_of_them(good: str) -> None:
    text = manifest_json.dump(manifest_json.parse(good, "manifest.json"))
    for key in ("variants", "interface", "kept", "rescaled", "merged"):
        assert f'"{key}"' not in text


def test_an_engine_may_pick_what_is_exact_and_what_no_variant_names(good: str) -> None:
    """The lossy fp16 of no variant is a builder's choice, as a plan in half precision is."""
    parsed = manifest_json.parse(with_variants(good), "manifest.json")
    assert [each.name for each in parsed.pickable("unet")] == ["canonical", "fp16"]
    assert [each.name for each in parsed.pickable("vae_decoder")] == ["canonical"]
    named = variant("fp16", {"unet": way("openvino", "fp16", "fp16")})
    parsed = manifest_json.parse(with_variants(good, [*VARIANTS, named]), "manifest.json")
    assert [each.name for each in parsed.pickable("unet")] == ["canonical"]


UNET = ("components", "unet", "artefacts")
INT8, DEEP, FP16, MERGED = (*UNET, 1), (*UNET, 2), (*UNET, 5), (*UNET, 6)
ELSEWHERE = "vae_decoder/model.safetensors"
OWN = "unet/model.int8.safetensors"
WEIGHTS = "unet/model.safetensors"
WRONG_PARTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "data of another component": ((*INT8, "files"), ["unet/int8.onnx", ELSEWHERE, WEIGHTS], "files of its own in that"),
    "data of another format": (
        (*INT8, "files"),
        ["unet/int8.onnx", "unet/deep.onnx"],
        "then 'unet/model.safetensors', o",
    ),
    "data behind the weights": ((*INT8, "files"), ["unet/int8.onnx", WEIGHTS, OWN], "before it or in its place"),
    "data twice": ((*INT8, "files"), ["unet/int8.onnx", OWN, OWN], "before it or in its place"),
    "no data": ((*INT8, "files"), ["unet/int8.onnx"], "files is unet/int8.onnx; expected a graph in 'unet', then"),
    "data unlisted": ((*INT8, "files", 1), "unet/other.safetensors", "which files does not list"),
    "data of the canonical graph": ((*UNET, 0, "files"), ["unet/model.onnx", OWN], "then 'unet/model.safetensors'$"),
    "int8 exact": ((*INT8, "exactness"), "exact", "is exact in int8; expected lossy"),
    "int8 unmeasured": ((*INT8, "difference"), None, "is lossy without its measured difference"),
    "node kept twice": ((*INT8, "kept"), ["a", "a"], "kept has a node twice; expected each once"),
    "node without a name": ((*INT8, "kept"), [""], "kept should not be empty"),
    "kept in fp32": ((*DEEP, "kept"), ["a"], "has nodes kept or values rescaled in fp32; expected neither"),
    "rescaled in fp32": ((*DEEP, "rescaled"), 2.0, "has nodes kept or values rescaled in fp32"),
    "rescaled by one": (
        (*FP16, "rescaled"),
        1,
        r"rescaled is 1\.0; expected more than 1 and at most 1152921504606846976",
    ),
    "merged without a share": ((*MERGED, "merged"), None, "is lossy in fp32; expected a reduced precision or exact"),
    "merged exactly": ((*MERGED, "exactness"), "exact", "is exact with merged tokens; expected lossy"),
    "merged unmeasured": ((*MERGED, "difference"), None, "is lossy without its measured difference"),
    "merged no tokens": ((*MERGED, "merged"), 0, r"merged is 0\.0; expected more than 0 and less than 1"),
    "merged all tokens": ((*MERGED, "merged"), 1.0, r"merged is 1\.0; expected more than 0 and less than 1"),
    "rescaled beyond all": ((*FP16, "rescaled"), 1e30, r"rescaled is 1e\+30; expected more than 1"),
    "interface of the canonical graph": (
        (*UNET, 0, "interface"),
        {"inputs": [], "outputs": []},
        "has a canonical graph with an interface; expected the contract's",
    ),
    "tensor of another type": (
        (*DEEP, "interface", "outputs", 1, "dtype"),
        "int8",
        "has the dtype 'int8'; expected float32",
    ),
    "axis of an interface": (
        (*DEEP, "interface", "outputs", 1, "dims", 0),
        "rows",
        "names the axis 'rows', which axes d",
    ),
    "size of an interface": ((*DEEP, "interface", "outputs", 1, "dims", 1), 0, "dims is 0; expected 1 to"),
    "tensor of an interface twice": ((*DEEP, "interface", "outputs", 1, "name"), "out_sample", "names a tensor twice"),
    "input and output": ((*DEEP, "interface", "outputs", 1, "name"), "sample", "an input and an output named 'sample'"),
}
FIRST, CACHED, MIXED = ("variants", 0), ("variants", 1), ("variants", 2)
FOUND, CACHING = (*FIRST, "error"), (*CACHED, "run", "caching")
WRONG_VARIANTS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "no list": (("variants",), {}, "variants must be a list"),
    "key missing": ((*FIRST, "time"), REMOVED, r"variants\[0\] lacks the key 'time'"),
    "too many": (("variants",), [VARIANTS[0]] * 65, "variants has 65 variants; expected 64 at most"),
    "name of another form": ((*FIRST, "name"), "a/b", r"variants\['a/b'\]\.name is 'a/b'; expected up to 200 letters"),
    "name twice": ((*FIRST, "name"), "cached", "has the names cached, cached, merged, mixed; expected each once"),
    "no methods": ((*FIRST, "methods"), [], "methods is empty"),
    "method of another form": (
        (*FIRST, "methods"),
        ["INT8"],
        "methods is 'INT8'; expected a short name such as 'int8'",
    ),
    "method twice": ((*FIRST, "methods"), ["int8", "int8"], "methods has 'int8' twice; expected each once"),
    "way of no component": ((*FIRST, "ways", "net"), VARIANTS[0]["ways"]["unet"], r"\['net'\] is for no component of"),
    "engine of another form": (
        (*FIRST, "ways", "unet", "engine"),
        "ort:",
        "is 'ort:'; expected an engine such as 'open",
    ),
    "artefact that is not there": ((*FIRST, "ways", "unet", "artefact"), "int4", "is 'int4', which unet does not have"),
    "unknown precision": (
        (*FIRST, "ways", "unet", "precision"),
        "fp8",
        "precision must be one of fp32, fp16, bf16, int8",
    ),
    "unit of another form": (
        (*FIRST, "ways", "unet", "units"),
        ["AVX"],
        "is 'AVX'; expected a short name such as 'avx51",
    ),
    "unit twice": ((*FIRST, "ways", "unet", "units"), ["a", "a"], "units has 'a' twice; expected each once"),
    "integers of a graph of floats": (
        (*MIXED, "ways", "vae_decoder", "precision"),
        "int8",
        "precision is int8; expected fp32 as the artefact's, or a precision of floating point",
    ),
    "way of other outputs": ((*MIXED, "ways", "unet", "artefact"), "keys", "which does not make 'out_sample'"),
    "way of what reads more": ((*MIXED, "ways", "unet", "artefact"), "shallow", "reads 'deep', which nothing makes"),
    "way beside caching": (
        (*CACHED, "ways", "unet"),
        way("ort", "int8", "int8"),
        "artefact is 'int8'; expected 'deep', which caching keeps",
    ),
    "interval of one": ((*CACHING, "interval"), 1, r"caching\.interval is 1; expected 2 to 100"),
    "kept artefact unknown": ((*CACHING, "keeps"), "deeper", "keeps is 'deeper', which unet does not have"),
    "read artefact unknown": ((*CACHING, "reads"), "deeper", "reads is 'deeper', which unet does not have"),
    "keeps what reads more": (
        (*CACHING, "keeps"),
        "shallow",
        "keeps is 'shallow', which reads 'deep', which nothing m",
    ),
    "reads what nothing makes": (
        (*CACHING, "keeps"),
        "int8",
        "reads is 'shallow', which reads 'deep', which nothing m",
    ),
    "reads nothing": ((*CACHING, "reads"), "int8", "reads is 'int8', which reads nothing that 'deep' keeps"),
    "reads nothing that is kept": (
        (*CACHING, "reads"),
        "deep",
        "reads is 'deep', which reads nothing that 'deep' keeps",
    ),
    "guidance beyond the run": ((*CACHED, "run", "guidance_until"), 1.5, r"guidance_until is 1\.5; expected 0 to 1"),
    "no steps": ((*CACHED, "run", "steps"), 0, "run.steps is 0; expected 1 to 1000"),
    "unknown sampler": (
        (*CACHED, "run", "sampler"),
        "magic",
        "run.sampler is not usable: sampler 'magic' is not known",
    ),
    "nothing is given up": (
        FIRST,
        variant("exact", {"unet": way("ort", "canonical", "fp32")}),
        r"variants\['exact'\] is exact; expected a lossy way, caching, guidance_until below 1, steps or a sampler",
    ),
    "error of no component": (
        (*FOUND, "components", "net"),
        LOSSY["difference"],
        r"\['net'\] is for no component of the",
    ),
    "error of a way missing": ((*FOUND, "components"), {}, "components lacks 'unet', which has a way of its own"),
    "error below zero": (
        (*FOUND, "components", "unet", "relative_rms"),
        -0.1,
        r"relative_rms is -0\.1; expected 0 to 1",
    ),
    "largest error below zero": (
        (*FOUND, "components", "unet", "max_abs"),
        -1,
        r"max_abs is -1\.0; expected 0 to 1000000000000",
    ),
    "error immense": (
        (*FOUND, "components", "unet", "relative_rms"),
        1.7e308,
        r"relative_rms is 1\.7e\+308; expected 0 to 1000000000000",
    ),
    "no latents": ((*FOUND, "latents"), [], "latents is empty"),
    "latents below zero": ((*FOUND, "latents", 1), -1.0, r"latents is -1\.0; expected 0 to 1000000000000"),
    "psnr below zero": ((*FOUND, "psnr"), -1.0, r"psnr is -1\.0; expected 0 to 200"),
    "psnr as text": ((*FOUND, "psnr"), "high", "psnr must be a number"),
    "ssim beyond one": ((*FOUND, "ssim"), 1.1, r"ssim is 1\.1; expected -1 to 1"),
    "worst of none": ((*FOUND, "worst"), 12, "worst is 12; expected 0 to 11"),
    "hash of the prompts": ((*FOUND, "prompts", "sha256"), "ab", "sha256 should be 64 hexadecimal digits"),
    "no prompts": ((*FOUND, "prompts", "count"), 0, "count is 0; expected 1 to 65536"),
    "seeds as a number": ((*FOUND, "seeds"), 101, "seeds must be a list; got 101"),
    "three seeds": ((*FOUND, "seeds"), [1, 2, 3], "seeds must be a list of 2 items"),
    "seed as text": ((*FOUND, "seeds", 1), "2", r"seeds\[1\] must be an integer"),
    "seed below zero": ((*FOUND, "seeds", 0), -1, r"seeds\[0\] is -1; expected 0 to"),
    "falling seeds": ((*FOUND, "seeds", 1), 100, r"seeds\[1\] is 100; expected 101 to"),
    "no evaluations": ((*FOUND, "steps"), 0, "error.steps is 0; expected 1 to 65536"),
    "sampler that commands": ((*FOUND, "sampler"), "\x1b[31m", "sampler is .*no control characters"),
    "guidance immense": ((*FOUND, "guidance"), 1e9, r"guidance is 1000000000\.0; expected 0 to 1000"),
    "width zero": ((*FOUND, "size", 0), 0, r"size\[0\] is 0; expected 1 to 65536"),
    "height zero": ((*FOUND, "size", 1), 0, r"size\[1\] is 0; expected 1 to 65536"),
    "measured unit of another form": (
        (*FOUND, "units"),
        [""],
        "units is ''; expected a short name such as 'avx512_vnni'",
    ),
    "tool without a name": ((*FOUND, "versions", ""), "1", "versions should not be empty"),
    "version that commands": ((*FOUND, "versions", "openvino"), "\x1b", r"versions\['openvino'\] is .*no control char"),
    "no time": ((*FIRST, "time"), 0, r"time is 0\.0; expected more than 0 and at most 1000000000"),
    "time immense": ((*FIRST, "time"), 1e308, r"time is 1e\+308; expected more than 0 and at most 1000000000"),
    "bytes below zero": ((*FIRST, "bytes"), -1, "bytes is -1; expected 0 to"),
    "int8 of no variant": (
        ("variants",),
        VARIANTS[1:],
        r"\['int8'\] is in int8, but no variant names it; expected one",
    ),
    "merged of no variant": (
        ("variants",),
        VARIANTS[:-1],
        r"\['merged'\] has merged tokens, but no variant names it; expected one with its error",
    ),
}
WRONG = WRONG_PARTS | WRONG_VARIANTS


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_variants_are_refused(good: str, path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        manifest_json.parse(edited(with_variants(good), path, value), "manifest.json")
