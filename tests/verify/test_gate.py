"""The gate on whole packages: what is right passes, what is wrong fails, and verifying changes nothing."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ldm_export.package.describe import describe
from ldm_export.verify import report as reports
from ldm_export.verify.gate import verify_package
from ldm_export.verify.reference_file import FILE
from ldm_runtime.errors import InputError, LdmError, PackageError
from ldm_runtime.package.open import open_package
from tests import hub_cache
from tests.verify import perturbations
from tests.wall import run_behind_wall

ROOT = Path(__file__).parents[2]
BLOCKED = ["torch", "onnx", "onnxscript", "onnx_ir", "diffusers", "transformers", "optimum", "safetensors"]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def copy(proven, tmp_path) -> Path:
    """A copy that the test may spoil, by replacing files."""
    return perturbations.copy(proven("sd15"), tmp_path / "package")


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    "kind", ["sd15", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sd21", "sd15-fp16", "inpaint"))]
)
def test_a_good_package_passes_and_is_not_changed(proven, kind):
    package = proven(kind)
    before = contents(package)
    report = verify_package(package)
    assert report.passed and report.failures == []
    assert contents(package) == before
    graphs = {(case.component, case.artefact) for case in report.cases}
    names = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
    assert graphs == {(name, variant) for name in names for variant in ("canonical", "ort_cpu")}
    assert all(case.relative_rms <= 1e-5 for case in report.cases)
    assert len(report.trajectory.drift) == (20 if kind == "sd21" else 21)  # PNDM takes one evaluation more
    assert all(step.psnr is None or step.psnr >= 60 for step in report.trajectory.drift)
    assert report.trajectory.image_ssim > 0.9999


def test_the_report_of_the_build_is_in_the_package_and_says_what_it_is_about(proven):
    package = proven("sd15")
    report = reports.parse((package / "verify" / "report.json").read_text(), "report.json")
    assert report.passed
    for name, digest in report.artefacts.items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == digest
    assert {"unet/model.onnx", "unet/model.ort_cpu.onnx", "unet/model.safetensors", FILE} <= set(report.artefacts)
    assert (package / "verify" / "report.html").read_text().count("data:image/png;base64,") == 3


def test_progress_names_every_graph(proven):
    said: list[str] = []
    verify_package(proven("sd15"), progress=said.append)
    assert "verify: unet, ort_cpu" in said and "verify: sampling run of 20 steps" in said


def test_an_artefact_of_a_variant_is_left_out(copy):
    perturbations.add_variant_of_the_cpu_graph(copy)
    said: list[str] = []
    report = verify_package(copy, progress=said.append)
    assert {case.artefact for case in report.cases if case.component == "unet"} == {"canonical"}
    assert report.failures and all(each.startswith("variant half: ") for each in report.failures)  # it has no record
    assert "verify: unet, ort_cpu left out: no engine picks it by itself" in said


def test_reports_are_written_where_asked_and_kept_unless_forced(proven, tmp_path):
    out = tmp_path / "proof"
    report = verify_package(proven("sd15"), out=out)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    assert reports.parse((out / "report.json").read_text(), "report.json") == report
    with pytest.raises(LdmError, match="exists already"):
        verify_package(proven("sd15"), out=out)
    verify_package(proven("sd15"), out=out, force=True)


@pytest.mark.parametrize("inside", [".", "verify", "new/folder"])
def test_a_report_never_goes_into_the_package_it_is_about(copy, inside):
    before = contents(copy)
    with pytest.raises(InputError, match="lies in the package"):
        verify_package(copy, out=copy / inside, force=True)
    assert contents(copy) == before


def test_an_output_that_is_a_file_or_has_no_parent_is_refused_before_the_work(proven, tmp_path):
    (tmp_path / "file").write_text("kept")
    said: list[str] = []
    for out in (tmp_path / "file", tmp_path / "missing" / "proof"):
        with pytest.raises(LdmError):
            verify_package(proven("sd15"), out=out, force=True, progress=said.append)
    assert (tmp_path / "file").read_text() == "kept"
    assert said == []


def test_the_first_failure_can_end_the_work(copy):
    perturbations.edit_fact(copy, ("latent", "scale"), 0.5)
    report = verify_package(copy, stop_at_first_failure=True)
    assert not report.passed
    assert report.cases == () and report.trajectory is None
    assert len(report.failures) == 1


def edit_contract(package: Path, place: tuple[str, ...], new: object) -> None:
    """As with an editor: nothing but the manifest changes, which stays valid."""
    value = json.loads((package / "manifest.json").read_text())
    part = value["contract"]
    for key in place[:-1]:
        part = part[key]
    assert part[place[-1]] != new
    part[place[-1]] = new
    perturbations.replace_text(package / "manifest.json", json.dumps(value))
    open_package(package, check="full").confirm()


CHANGES = [
    (("image", "width"), 8),
    (("image", "height"), 16),
    (("axes", "batch", "max"), 65),
    (("axes", "context_tokens", "max"), 100000),
    (("axes", "width", "proven"), [7]),
    (("latent", "scale"), 0.5),
    (("latent", "shift"), 0.25),
    (("schedule", "beta_end"), 0.02),
    (("schedule", "prediction_type"), "v_prediction"),
    (("defaults", "guidance"), 7.25),
    (("defaults", "steps"), 21),
    (("defaults", "sampler"), "euler"),
    (("text", 0, "tokenizer", "pad_token_id"), 5),
    (("text", 0, "tokenizer", "max_length"), 20),
]


@pytest.mark.parametrize(("place", "new"), CHANGES, ids=[perturbations.spelt(place) for place, _ in CHANGES])
def test_whatever_of_the_contract_is_changed_after_the_build_is_named(copy, place, new):
    edit_contract(copy, place, new)
    report = verify_package(copy, stop_at_first_failure=True)
    assert not report.passed
    assert report.first_failure.startswith(f"{perturbations.spelt(place)}: the package has {json.dumps(new)}, but was")
    if place != ("axes", "width", "proven"):
        facts = describe(copy)["proof"]
        assert facts == {"passed": False, "problem": f"changed since it was proven: {perturbations.spelt(place)}"}


def test_an_axis_that_contradicts_what_is_a_multiple_of_it_is_one_sentence(copy):
    with pytest.raises(
        PackageError, match=r"axes\['image_height'\].multiple_of has 2 to 512; expected 2 times 1 to 4096"
    ):
        edit_contract(copy, ("axes", "height", "max"), 4096)


def test_a_tensor_of_the_contract_that_is_renamed_is_seen_by_the_digest(copy):
    edit_contract(copy, ("components", "text_encoder", "inputs", 0, "dtype"), "int32")
    report = verify_package(copy, stop_at_first_failure=True)
    assert report.first_failure.startswith("contract.components.text_encoder.inputs[0].dtype: the package has")


def test_a_tensor_that_is_taken_out_of_the_contract_is_one_sentence(copy):
    outputs = json.loads((copy / "manifest.json").read_text())["contract"]["components"]["text_encoder"]["outputs"]
    edit_contract(copy, ("components", "text_encoder", "outputs"), outputs[:1])
    with pytest.raises(PackageError, match="has text_encoder/pooler_output of shape .*, but the contract has no such"):
        verify_package(copy)


def test_a_contract_as_it_was_proven_is_told(proven):
    facts = describe(proven("sd15"))["proof"]
    assert facts["passed"] is True and "problem" not in facts and facts["unet"]["relative_rms"] < 1e-5


def test_the_digest_is_that_of_the_canonical_contract(proven):
    package = proven("sd15")
    contract = json.loads((package / "manifest.json").read_text())["contract"]
    for axis in contract["axes"].values():
        assert axis.pop("proven")
    text = json.dumps(contract, sort_keys=True, separators=(",", ":"))
    recorded = json.loads((package / "verify" / "report.json").read_text())["contract"]
    assert recorded == {"sha256": hashlib.sha256(text.encode()).hexdigest(), "facts": contract}


def test_a_report_whose_contract_was_changed_along_is_refused_by_its_digest(copy):
    edit_contract(copy, ("image", "width"), 8)
    report = json.loads((copy / "verify" / "report.json").read_text())
    report["contract"]["facts"]["image"]["width"] = 8
    perturbations.replace_text(copy / "verify" / "report.json", json.dumps(report))
    with pytest.raises(PackageError, match=r"report\.json contradicts itself: its contract has another digest"):
        verify_package(copy)
    assert "another digest" in describe(copy)["proof"]["problem"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), r"verify/report\.json is missing"),
        (lambda file: perturbations.replace_text(file, "{"), r"verify/report\.json is not valid JSON"),
        (lambda file: perturbations.replace_text(file, '{"schema_version": 2}'), "which records the contract"),
        (lambda file: (file.unlink(), file.symlink_to("/etc/passwd")), "is a link to /etc/passwd, outside"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "is not a regular file"),
    ],
)
def test_without_the_report_of_the_build_nothing_is_called_proven(copy, spoil, message):
    spoil(copy / "verify" / "report.json")
    with pytest.raises(PackageError, match=message):
        verify_package(copy)
    facts = describe(copy)["proof"]
    assert facts["passed"] is False and re.search(message, facts["problem"])


def test_inspect_does_not_describe_a_package_that_is_damaged(copy):
    data = bytearray((copy / "unet/model.safetensors").read_bytes())
    data[-1] ^= 0x80
    (copy / "unet/model.safetensors").unlink()
    (copy / "unet/model.safetensors").write_bytes(data)
    with pytest.raises(PackageError, match=r"unet/model\.safetensors has changed"):
        describe(copy)


def test_a_package_in_a_hubs_cache_is_verified_through_its_links(proven, tmp_path):
    snapshot = hub_cache.make(proven("sd15"), tmp_path / "hub")
    report = verify_package(snapshot)
    assert report.passed, report.failures


def test_a_tampered_reference_is_refused_by_its_hash(copy):
    data = bytearray((copy / FILE).read_bytes())
    data[-1] ^= 1
    (copy / FILE).unlink()
    (copy / FILE).write_bytes(data)
    with pytest.raises(PackageError, match="reference.safetensors has changed"):
        verify_package(copy)


def test_a_forged_stamp_does_not_hide_a_change(copy):
    """`verify` hashes now: a remembered hash with the same size and time is not believed."""
    verify_package(copy, stop_at_first_failure=True)
    status = (copy / FILE).stat()
    data = bytearray((copy / FILE).read_bytes())
    data[-1] ^= 1
    linked = copy / FILE
    content = bytes(data)
    linked.unlink()
    linked.write_bytes(content)
    os.utime(linked, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(PackageError, match="has changed"):
        verify_package(copy)


def test_a_package_without_a_reference_cannot_be_verified(tiny_build):
    with pytest.raises(PackageError, match="carries no reference"):
        verify_package(tiny_build("sd15").package)


@pytest.mark.parametrize(
    ("component", "bad"),
    [("text_encoder", np.nan), ("unet", np.inf), ("vae_decoder", -np.inf), ("vae_encoder", np.nan)],
)
def test_a_value_that_is_not_finite_fails_in_every_component(copy, component, bad):
    def change(tensors):
        name = next(name for name in tensors if name.endswith(("norm_out.bias", "final_layer_norm.bias")))
        tensors[name][0] = bad
        return name

    perturbations.edit_weights(copy, component, change)
    report = verify_package(copy)
    assert not report.passed
    failed = {case.component for case in report.cases if not case.passed}
    assert failed == {component}
    assert any(case.problem == "it holds NaN or infinity" for case in report.cases)
    if component != "vae_encoder":  # which a sampling run does not use
        assert not report.trajectory.passed
        assert "NaN or infinity" in report.trajectory.problem


def test_a_graph_that_cannot_be_opened_is_a_failure_with_its_reason(copy):
    perturbations.edit_graph(copy, "unet/model.onnx", use_unknown_operator)
    report = verify_package(copy)
    failed = [case for case in report.cases if not case.passed]
    assert [(case.component, case.artefact, case.case) for case in failed] == [("unet", "canonical", "opening")]
    assert "cannot load" in failed[0].problem


def use_unknown_operator(model) -> str:
    model.graph.node[0].op_type = "NoSuchOperator"
    return "an operator that no engine has"


def test_only_the_spoiled_graph_is_blamed(copy):
    perturbations.edit_graph(copy, "unet/model.ort_cpu.onnx", spoil_epsilons)
    report = verify_package(copy)
    blamed = {(case.component, case.artefact) for case in report.cases if not case.passed}
    assert blamed == {("unet", "ort_cpu")}


def spoil_epsilons(model) -> str:
    for attribute in perturbations.epsilons(model):
        attribute.f = 1e-3
    return "epsilon 1e-3"


VERIFY = """
from pathlib import Path
from ldm_export.verify.gate import verify_package
report = verify_package(Path({package!r}), out=Path({out!r}))
assert not set({blocked!r}) & set(name.partition(".")[0] for name in sys.modules)
print(report.to_json())
"""


def run(body: str) -> "subprocess.CompletedProcess[str]":
    return run_behind_wall(body, blocked=BLOCKED, paths=[ROOT, ROOT / "runtime"])


def test_verifying_needs_neither_torch_nor_onnx(proven, tmp_path):
    done = run(VERIFY.format(blocked=BLOCKED, package=str(proven("sd15")), out=str(tmp_path / "proof")))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True
    assert (tmp_path / "proof" / "report.html").exists()


def test_the_wall_of_that_test_does_block():
    done = run("import torch")
    assert done.returncode != 0 and "blocked: torch" in done.stderr
