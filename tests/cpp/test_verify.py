"""`ldm verify` beside the Python gate: the same verdict of every fact, case and step, on good and spoilt packages."""

import dataclasses
import json

import numpy as np
import pytest

from ldm_export.verify.gate import verify_package
from ldm_export.verify.reference_file import FILE
from ldm_export.verify.report import Report
from ldm_runtime.package import safetensors
from ldm_runtime.pipeline import BUILTIN
from tests.cpp.verifying import both, edit_reference, verify
from tests.verify import perturbations
from tests.verify.perturbations import COMPONENTS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("private_cache")]


def test_the_built_in_package_has_the_same_table(tool):
    done = verify(tool, BUILTIN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == verify_package(BUILTIN, engine="ort").table() + "\n"
    assert "verify: unet, ort_cpu\n" in done.stderr and "verify: sampling run of 20 steps\n" in done.stderr


def test_the_built_in_package_has_the_same_report(tool):
    expected, found = both(tool, BUILTIN)
    assert expected.passed and len(found["cases"]) == len(expected.cases) > 50


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sd15-fp16", "inpaint"])
def test_a_good_package_passes(tool, proven, kind):
    expected, found = both(tool, proven(kind))
    assert found["passed"] and len(found["trajectory"]["drift"]) == len(expected.trajectory.drift) > 1


EDITS: dict[perturbations.Edit, tuple[str, ...]] = {
    perturbations.scale_one_channel: COMPONENTS,
    perturbations.swap_two_tensors: COMPONENTS,
    perturbations.round_to_float16: COMPONENTS,
    perturbations.swap_epsilon: COMPONENTS,
    perturbations.bake_a_size: COMPONENTS,
    perturbations.confuse_gelu: ("text_encoder", "unet"),
}


@pytest.mark.parametrize("edit", EDITS, ids=[edit.__name__ for edit in EDITS])
def test_spoilt_files_fail_alike(tool, copy, edit):
    what = [edit(copy, component, 1) for component in EDITS[edit]]
    _, found = both(tool, copy)
    assert {case["component"] for case in found["cases"] if not case["passed"]} == set(EDITS[edit]), what


def test_only_the_spoilt_graph_is_blamed(tool, copy):
    def spoil(model):
        for attribute in perturbations.epsilons(model):
            attribute.f = 1e-3
        return "epsilon 1e-3"

    perturbations.edit_graph(copy, "unet/model.ort_cpu.onnx", spoil)
    _, found = both(tool, copy)
    blamed = {(case["component"], case["artefact"]) for case in found["cases"] if not case["passed"]}
    assert blamed == {("unet", "ort_cpu")}


@pytest.mark.parametrize("components", [COMPONENTS, ("vae_encoder",)], ids=["all", "vae_encoder"])
def test_what_is_not_finite_fails_alike(tool, copy, components):
    def change(tensors):
        name = next(name for name in tensors if name.endswith(("norm_out.bias", "final_layer_norm.bias")))
        tensors[name][0] = np.inf if len(tensors) % 2 else np.nan
        return name

    for component in components:
        perturbations.edit_weights(copy, component, change)
    _, found = both(tool, copy)
    failed = [case for case in found["cases"] if not case["passed"]]
    assert {case["component"] for case in failed} == set(components)
    assert "it holds NaN or infinity" in {case["problem"] for case in failed}
    assert found["trajectory"]["passed"] == (components == ("vae_encoder",))


FACTS = [
    (("image", "width"), 8),
    (("axes", "batch", "max"), 65),
    (("axes", "width", "proven"), [7]),
    (("latent", "scale"), 0.5),
    (("schedule", "beta_end"), 0.02),
    (("schedule", "timestep_spacing"), "trailing"),
    (("defaults", "guidance"), 7.25),
    (("defaults", "steps"), 21),
    (("text", 0, "tokenizer", "pad_token_id"), 5),
    (("components", "text_encoder", "inputs", 0, "dtype"), "int32"),
]


def test_changed_facts_are_named_alike(tool, copy):
    for place, new in FACTS:
        perturbations.edit_fact(copy, place, new)
    expected, found = both(tool, copy)
    named = {fact["name"] for fact in found["facts"] if not fact["passed"]}
    assert {perturbations.spelt(place) for place, _ in FACTS} < named and not expected.passed
    assert any(name.startswith("tokens of ") for name in named)


def test_a_default_that_may_be_left_out_is_the_same_when_it_is_not(tool, copy):
    file = copy / "manifest.json"
    value = json.loads(file.read_text())
    assert "zero_negative" not in value["contract"]["defaults"]
    value["contract"]["defaults"]["zero_negative"] = False
    value["contract"]["latent"]["shift"] = 0  # an integer is a number too
    perturbations.replace_text(file, json.dumps(value))
    assert both(tool, copy)[0].passed


def test_a_graph_that_cannot_be_opened_fails_alike(tool, copy):
    def use_unknown_operator(model):
        model.graph.node[0].op_type = "NoSuchOperator"
        return "an operator that no engine has"

    perturbations.edit_graph(copy, "unet/model.onnx", use_unknown_operator)
    _, found = both(tool, copy)
    failed = [(case["component"], case["artefact"], case["case"]) for case in found["cases"] if not case["passed"]]
    assert failed == [("unet", "canonical", "opening")]


def call_lossy(package, precision, recorded):
    """Say of the UNet's graph for the CPU that it is lossy, by as much; and round its weights."""
    perturbations.round_to_float16(package, "unet", 0)
    file = package / "manifest.json"
    value = json.loads(file.read_text())
    graph = value["components"]["unet"]["artefacts"][1]
    graph |= {"precision": precision, "exactness": "lossy", "difference": {"relative_rms": recorded, "max_abs": 1e-2}}
    perturbations.replace_text(file, json.dumps(value))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_lossy_graph_has_the_tolerances_of_its_precision(tool, copy, precision):
    """The canonical graph, of the same weights, does not pass; for the lossy one more is allowed, in a run too."""
    call_lossy(copy, precision, recorded=1.0)
    _, found = both(tool, copy)
    assert {case["artefact"] for case in found["cases"] if not case["passed"]} == {"canonical"}
    tolerance = {"fp16": 2e-2, "bf16": 1.5e-1}[precision]  # whatever was recorded
    lossy = [case for case in found["cases"] if (case["component"], case["artefact"]) == ("unet", "ort_cpu")]
    assert {case["tolerance"] for case in lossy} == {tolerance}
    assert found["trajectory"]["latents_floor"] < 60


def test_a_lossy_graph_is_held_to_what_was_recorded_of_it(tool, copy):
    call_lossy(copy, "fp16", recorded=1e-5)
    _, found = both(tool, copy)
    failed = [case for case in found["cases"] if not case["passed"] and case["artefact"] == "ort_cpu"]
    assert failed and {case["tolerance"] for case in failed} == {1.2e-5}
    assert all(case["relative_rms"] < 2e-2 for case in failed)


def test_an_artefact_of_another_engine_is_left_out(tool, copy):
    file = copy / "manifest.json"
    value = json.loads(file.read_text())
    value["components"]["unet"]["artefacts"][1]["engine"] = "another"
    perturbations.replace_text(file, json.dumps(value))
    both(tool, copy)
    assert "verify: unet, ort_cpu left out: ort does not run it\n" in verify(tool, copy).stderr


def test_an_artefact_of_a_variant_is_left_out(tool, copy):
    perturbations.add_variant_of_the_cpu_graph(copy)
    _, found = both(tool, copy)
    assert {case["artefact"] for case in found["cases"] if case["component"] == "unet"} == {"canonical"}
    assert "verify: unet, ort_cpu left out: no engine picks it by itself\n" in verify(tool, copy).stderr


@pytest.mark.parametrize("value", [0.0, 3e38])
def test_latents_of_no_scale_prove_nothing(tool, copy, value):
    """They have no PSNR, as equal ones have none."""
    edit_reference(copy, tensors=lambda tensors: tensors["trajectory/latents"].fill(value))
    report, found = both(tool, copy)
    assert not report.passed and not found["trajectory"]["passed"]


def test_an_input_of_a_shape_that_no_graph_takes_is_a_failed_case(tool, copy):
    def widen(tensors):
        name = next(name for name in tensors if name.startswith("vae_decoder/") and "/input/" in name)
        tensors[name] = np.concatenate([tensors[name]] * 2, axis=1)

    edit_reference(copy, tensors=widen)
    _, found = both(tool, copy)
    failed = [case for case in found["cases"] if not case["passed"]]
    assert {case["component"] for case in failed} == {"vae_decoder"} and all(case["problem"] for case in failed)


def test_a_run_that_the_package_refuses_fails_alike(tool, copy):
    edit_reference(copy, header=lambda value: value["trajectory"].update(prompt="(red" + 100_000 * " apple"))
    _, found = both(tool, copy)
    assert not found["trajectory"]["passed"] and found["trajectory"]["problem"]


def test_a_name_never_commands_a_terminal(tool, copy):
    def rename(value):
        value["cases"][0]["tolerance"] = 1e-12
        value["cases"][0]["name"] = "\x1b]0;title\x07"

    def move(tensors):
        for name in [name for name in tensors if name.startswith(f"{first['component']}/{first['name']}/")]:
            moved = name.replace(first["name"], "\x1b]0;title\x07", 1)
            tensors[moved] = tensors.pop(name)

    first = json.loads(safetensors.read_header(copy / FILE).metadata["reference"])["cases"][0]
    edit_reference(copy, header=rename, tensors=move)
    for options in ([], ["--json"]):
        done = verify(tool, copy, *options)
        assert done.returncode == 1 and "\x1b" not in done.stdout + done.stderr
        assert "x1b]0;title" in done.stderr


def test_verifying_changes_nothing(tool, copy):
    before = {path: path.stat().st_mtime_ns for path in sorted(copy.rglob("*"))}
    assert verify(tool, copy).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(copy.rglob("*"))} == before


def test_every_field_of_a_report_is_in_the_tool_s(tool):
    found = json.loads(verify(tool, BUILTIN, "--json").stdout)
    assert list(found) == [field.name for field in dataclasses.fields(Report) if field.name != "variants"]
