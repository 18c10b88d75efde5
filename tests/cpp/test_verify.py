"""`ldm verify` beside the Python gate: the same verdict of every fact, case and step, on good and spoilt packages."""

import dataclasses
import json
import math
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_export.verify.gate import verify_package
from ldm_export.verify.reference_file import FILE
from ldm_export.verify.report import Report
from ldm_runtime.errors import PackageError
from ldm_runtime.package import safetensors
from ldm_runtime.pipeline import BUILTIN
from tests.cpp.cpp_build import built, environment
from tests.verify import perturbations
from tests.verify.perturbations import COMPONENTS

pytestmark = pytest.mark.slow

CLOSE = 1e-2  # of a figure: both runtimes run the same graphs, but the rounding around them may differ
# Beneath these a figure is the rounding of float32 itself. PSNR: from 100 dB on it is, where 1 % is 1 dB.
NOISE = {"relative_rms": 1e-8, "max_abs": 1e-6, "image_ssim": 1e-9}
FIGURES = ("relative_rms", "max_abs", "psnr", "image_psnr", "image_ssim")


@pytest.fixture(scope="module")
def tool() -> Path:
    return built("cpp") / "ldm"


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def copy(proven, tmp_path) -> Path:
    return perturbations.copy(proven("sd15"), tmp_path / "package")


def verify(tool: Path, package: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [str(tool), "verify", str(package), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)


def both(tool: Path, package: Path) -> tuple[Report, dict[str, Any]]:
    """Return both reports of a package, held equal; the tool's status and its sentences are those of Python too."""
    expected = verify_package(package, engine="ort")
    done = verify(tool, package, "--json")
    assert done.returncode == (0 if expected.passed else 1), done.stderr
    found = json.loads(done.stdout)
    assert_alike(found, json.loads(expected.to_json()))
    said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == len(expected.failures)
    return expected, found


def assert_alike(found: Any, expected: Any, place: str = "report") -> None:
    """Hold two reports equal: every name and verdict to the letter, figures nearly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            if key == "problem" and value is not None:
                assert found[key], f"{place}.{key}"  # the sentence of an engine is its own
            elif key in FIGURES and value is not None:
                assert is_near(key, found[key], value), f"{place}.{key}: {found[key]}, Python has {value}"
            else:
                assert_alike(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_alike(found[index], value, f"{place}[{index}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=1e-6), f"{place}: {found}, Python has {expected}"
    else:
        assert type(found) is type(expected) and found == expected, f"{place}: {found!r}, Python has {expected!r}"


def is_near(figure: str, found: float | None, expected: float) -> bool:
    noise = NOISE.get(figure, 3.0 if expected > 100 else 0.1)
    return found is not None and math.isclose(found, expected, rel_tol=CLOSE, abs_tol=noise)


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


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_lossy_graph_has_the_tolerances_of_its_precision(tool, copy, precision):
    """The graph for the CPU calls itself lossy; its weights are rounded, which the canonical graph does not pass."""
    perturbations.round_to_float16(copy, "unet", 0)
    file = copy / "manifest.json"
    value = json.loads(file.read_text())
    graph = value["components"]["unet"]["artefacts"][1]
    graph |= {"precision": precision, "exactness": "lossy", "difference": {"relative_rms": 1e-3, "max_abs": 1e-2}}
    perturbations.replace_text(file, json.dumps(value))
    _, found = both(tool, copy)
    assert {case["artefact"] for case in found["cases"] if not case["passed"]} == {"canonical"}
    assert found["trajectory"]["latents_floor"] < 60


def test_an_artefact_of_another_engine_is_left_out(tool, copy):
    file = copy / "manifest.json"
    value = json.loads(file.read_text())
    value["components"]["unet"]["artefacts"][1]["engine"] = "another"
    perturbations.replace_text(file, json.dumps(value))
    both(tool, copy)
    assert "verify: unet, ort_cpu left out: ort does not run it\n" in verify(tool, copy).stderr


@pytest.mark.parametrize("value", [0.0, 3e38])
def test_latents_of_no_scale_prove_nothing(tool, copy, value):
    """They have no PSNR, as equal ones have none."""
    edit_reference(copy, tensors=lambda tensors: tensors["trajectory/latents"].fill(value))
    report, found = both(tool, copy)
    assert not report.passed and not found["trajectory"]["passed"]


# --- what cannot be compared --------------------------------------------------------------------------------------


def refused(tool: Path, package: Path, *, same_sentence: bool = True) -> str:
    """Return what the tool says of a package that Python refuses as well: one sentence, and its code."""
    with pytest.raises(PackageError) as error:
        verify_package(package, engine="ort")
    done = verify(tool, package)
    said = [line for line in done.stderr.splitlines() if not line.startswith("[ ")]
    assert (done.returncode, done.stdout, len(said)) == (1, "", 1), done.stderr
    assert said[0].startswith("error: ") and said[0].endswith(f"[{error.value.code}]"), said
    if same_sentence:
        assert said[0] == f"error: {error.value} [{error.value.code}]"
    return said[0]


def edit_report(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = package / "verify" / "report.json"
    value = json.loads(file.read_text())
    change(value)
    perturbations.replace_text(file, json.dumps(value))


REPORTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda report: report.update(schema_version=2),
    "verdict": lambda report: report.update(passed=False),
    "digest": lambda report: report["contract"]["facts"]["image"].update(width=8),
    "type": lambda report: report["cases"][0].update(tolerance="small"),
    "key": lambda report: report["cases"][0].update(colour="red"),
    "missing": lambda report: report["trajectory"].pop("drift"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_will_not_do_is_one_sentence(tool, copy, name):
    edit_report(copy, REPORTS[name])
    refused(tool, copy, same_sentence=name in ("version", "digest"))


def test_without_the_report_of_the_build_nothing_is_compared(tool, copy):
    (copy / "verify" / "report.json").unlink()
    refused(tool, copy)


def test_a_package_without_a_reference_is_one_sentence(tool, tiny_build):
    refused(tool, tiny_build("sd15").package)


def test_a_tampered_reference_is_refused_by_its_hash(tool, copy):
    data = bytearray((copy / FILE).read_bytes())
    data[-1] ^= 1
    (copy / FILE).unlink()
    (copy / FILE).write_bytes(data)
    refused(tool, copy, same_sentence=False)


def edit_reference(
    package: Path,
    header: Callable[[dict[str, Any]], object] = lambda value: None,
    tensors: Callable[[dict[str, np.ndarray]], object] = lambda value: None,
) -> None:
    """Write another reference, whose hash is right."""
    file = package / FILE
    arrays = {name: np.array(array) for name, array in safetensors.read(file).items()}
    value = json.loads(safetensors.read_header(file).metadata["reference"])
    header(value)
    tensors(arrays)
    file.unlink()
    safetensors.write(file, arrays, {"reference": json.dumps(value)})
    perturbations.rehash(package, FILE)


def put_nan(tensors: dict[str, np.ndarray]) -> None:
    next(array for name, array in tensors.items() if "/output/" in name).flat[3] = np.nan


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda value: value.update(schema_version=2),
    "case": lambda value: value["cases"][0].update(name="../../etc"),
    "twice": lambda value: value["cases"].append(value["cases"][0]),
    "no cases": lambda value: value.update(cases=[]),
    "tolerance": lambda value: value["cases"][0].update(tolerance=1.5),
    "no inputs": lambda value: value["cases"][0].update(inputs=[]),
    "timesteps": lambda value: value["trajectory"].update(timesteps=[]),
    "prompts": lambda value: value.update(prompts=["one"]),
    "tokenizer": lambda value: value["facts"]["tokenizers"].clear(),
    "type": lambda value: value["trajectory"].update(seed="one"),
    "no prompts": lambda value: value.update(prompts=[]),
    "a tolerance of any size": lambda value: value["cases"][0].update(tolerance=0.5),
    "a floor for everything": lambda value: value["trajectory"].update(latents_floor=-1e308),
    "a floor of the image": lambda value: value["trajectory"].update(image_floor=12),
    "a floor for nothing": lambda value: value["trajectory"].update(latents_floor=1e308),
    "seed": lambda value: value["trajectory"].update(seed=-1),
    "guidance": lambda value: value["trajectory"].update(guidance=1),
    "sampler": lambda value: value["trajectory"].update(sampler="euler_a"),
    "steps": lambda value: value["trajectory"].update(steps=1000),
    "a step less": lambda value: value["trajectory"].update(steps=19),
    "no step": lambda value: value["trajectory"].update(steps=0),
    "schedule": lambda value: value["facts"]["schedule"].update(num_train_timesteps=10),
    "another sampler": lambda value: value["facts"]["defaults"].update(sampler="none"),
    "a timestep": lambda value: value["trajectory"]["timesteps"].__setitem__(3, 1.5),
    "another size": lambda value: value["trajectory"].update(size=[8, 8]),
    "channels": lambda value: value["facts"]["latent"].update(channels=5),
    "downsample": lambda value: value["facts"]["latent"].update(downsample=0),
}
SENTENCES_DIFFER = {"version", "case", "twice", "no cases", "tokenizer", "type", "schedule"}
TENSORS: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "NaN": put_nan,
    "too many": lambda tensors: tensors.update(another=np.zeros(3, np.float32)),
    "lacking": lambda tensors: tensors.pop("trajectory/image"),
    "empty": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 0, 0), np.float32)}),
    "integers": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 64, 64), np.int32)}),
    "small": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 8, 8), np.float32)}),
    "another size": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 32, 64), np.float32)}),
    "steps": lambda tensors: tensors.update({"trajectory/latents": tensors["trajectory/latents"][1:]}),
    "other latents": lambda tensors: tensors.update({"trajectory/latents": tensors["trajectory/latents"][:, :, 1:]}),
    "numbers of latents": lambda tensors: tensors.update(
        {"trajectory/latents": tensors["trajectory/latents"].reshape(len(tensors["trajectory/latents"]), -1)}
    ),
    "tokens": lambda tensors: tensors.update({"text_encoder/tokens": tensors["text_encoder/tokens"].astype(np.int32)}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_reference_with_another_header_is_one_sentence(tool, copy, name):
    edit_reference(copy, header=HEADERS[name])
    refused(tool, copy, same_sentence=name not in SENTENCES_DIFFER)


@pytest.mark.parametrize("name", TENSORS)
def test_a_reference_with_other_tensors_is_one_sentence(tool, copy, name):
    edit_reference(copy, tensors=TENSORS[name])
    refused(tool, copy, same_sentence=name != "too many")


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:4],
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: data.replace(b'"F32"', b'"F64"', 1),
        lambda data: data + b"more",
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    ],
    ids=["cut", "tiny", "immense header", "type", "longer", "stub"],
)
def test_a_damaged_reference_is_one_sentence(tool, copy, bytes_of):
    data = bytes_of((copy / FILE).read_bytes())
    (copy / FILE).unlink()
    (copy / FILE).write_bytes(data)
    perturbations.rehash(copy, FILE)
    refused(tool, copy, same_sentence=False)


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


def test_a_case_without_an_output_is_one_sentence(tool, copy):
    def rename(value):
        unet = next(case for case in value["cases"] if case["component"] == "unet")
        case.append(f"unet/{unet['name']}/output/")
        unet["outputs"] = ["another"]

    def move(tensors):
        name = next(name for name in tensors if name.startswith(case[0]))
        tensors[case[0] + "another"] = tensors.pop(name)

    case: list[str] = []
    edit_reference(copy, header=rename, tensors=move)
    assert "lacks the output" in refused(tool, copy)


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


def test_another_mask_in_an_inpainting_reference_is_one_sentence(tool, proven, tmp_path):
    package = perturbations.copy(proven("inpaint"), tmp_path / "package")

    def move_the_mask(tensors):
        array = next(array for name, array in tensors.items() if name.endswith("captured at step 1/input/sample"))
        array[:, 4] = 1 - array[:, 4]

    edit_reference(package, tensors=move_the_mask)
    refused(tool, package)


def test_verifying_changes_nothing(tool, copy):
    before = {path: path.stat().st_mtime_ns for path in sorted(copy.rglob("*"))}
    assert verify(tool, copy).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(copy.rglob("*"))} == before


def test_every_field_of_a_report_is_in_the_tool_s(tool):
    found = json.loads(verify(tool, BUILTIN, "--json").stdout)
    assert list(found) == [field.name for field in dataclasses.fields(Report)]
