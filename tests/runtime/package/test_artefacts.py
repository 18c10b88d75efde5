"""Artefacts in a manifest: the formats that are read, and each way in which one is wrong."""

import json
from typing import Any

import pytest

from ldm_runtime.errors import FormatError
from ldm_runtime.package import artefacts, manifest_json
from tests.runtime.package.edits import HASH, REMOVED, edited

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
        assert artefact.requires.profiles[0]["batch"] == artefacts.Range(1, 2, 4)
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
    "capability twice": (
        (*ADDED, "requires", "compute_capabilities"),
        ["8.6", "8.6"],
        "has '8.6' twice; expected each",
    ),
    "option twice": ((*ADDED, "requires", "options"), ["refit", "refit"], "has an option twice; expected each once"),
    "no profile": ((*ADDED, "requires", "profiles"), [], "profiles is empty"),
    "axis missing": ((*PROFILE, "width"), REMOVED, "lacks the axis 'width' of the component"),
    "axis unknown": ((*PROFILE, "depth"), RANGE, "has the axis 'depth', which the contract"),
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
