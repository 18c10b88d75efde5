"""The target OpenVINO: exact or lossy as measured, and proven by the gate."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ldm_runtime
from ldm_export.cli.main import verbs
from ldm_export.errors import VerificationError
from ldm_export.precision.table import PRECISIONS
from ldm_export.process.isolate import run_isolated
from ldm_export.targets.openvino import graph as openvino_graph
from ldm_export.targets.openvino.graph import convert, convert_and_measure
from ldm_export.verify import metrics, reference_file
from ldm_export.verify.compare import measure
from ldm_export.verify.gate import prove_package, verify_package
from ldm_runtime.engines.openvino.engine import OpenVinoEngine
from ldm_runtime.errors import PackageError
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import Difference
from ldm_runtime.package.open import open_package, read_manifest
from tests.runtime.tiny_package import COMPONENTS
from tests.targets.building import add


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def built(request, proven, tmp_path_factory) -> Path:
    package = tmp_path_factory.mktemp(request.param) / "package"
    shutil.copytree(proven("sd15"), package)
    stages = add(package, "openvino", precision=request.param)
    assert [name for name, _, _ in stages] == [f"openvino {name}" for name in COMPONENTS]
    return package


pytestmark = pytest.mark.slow


def measured(package: Path, component: str):
    cases = reference_file.read(package / reference_file.FILE).cases_of(component)
    graph = package / f"openvino/{component}/openvino_model.xml"
    contract = open_package(package, check="size").manifest.contract
    return measure(OpenVinoEngine(graph, contract, component).run, cases, precision_of(package), target="openvino")


def precision_of(package: Path) -> str:
    return read_manifest(package).components["unet"].artefacts[-1].precision


def test_what_differs_is_measured_and_said(built):
    manifest = read_manifest(built)
    for name in COMPONENTS:
        artefact = manifest.components[name].artefacts[-1]
        assert (artefact.engine, artefact.file) == ("openvino", f"openvino/{name}/openvino_model.xml")
        if precision_of(built) == "fp32":
            assert artefact.exactness == "exact" and artefact.difference is None
        else:
            assert artefact.exactness == "lossy" and 1e-5 < artefact.difference.relative_rms < 5e-3


def test_the_package_is_proven_with_other_engines_as_before(built):
    said = []
    report = verify_package(built, progress=said.append)
    assert report.passed, report.failures
    assert {case.artefact for case in report.cases} == {"canonical", "ort_cpu"}
    assert "verify: unet, openvino left out: auto does not run it" in said


def test_what_is_all_in_float32_has_to_be_exact(proven, tmp_path, monkeypatch):
    contract = open_package(proven("sd15"), check="size").manifest.contract
    graph, reference = proven("sd15") / "vae_decoder/model.onnx", proven("sd15") / reference_file.FILE
    monkeypatch.setattr(openvino_graph, "convert", lambda *args: convert(*args[:-1], "fp16"))
    with pytest.raises(
        VerificationError, match=r"vae_decoder \(openvino fp32\), .*relative RMS is .*no package is left"
    ):
        convert_and_measure(graph, tmp_path / "it.xml", "fp32", contract, "vae_decoder", reference)
    found = convert_and_measure(graph, tmp_path / "it.xml", "fp16", contract, "vae_decoder", reference)
    assert isinstance(found, Difference)


def test_the_gate_proves_it_and_the_package_stays_whole(built):
    report = prove_package(built, read_manifest(built), engine="openvino")
    assert report.passed, report.failures
    assert {case.artefact for case in report.cases} == {"canonical", "openvino"}
    assert (built / "verify/openvino/report.json").exists()
    open_package(built, check="full").confirm()
    floor = 60 if precision_of(built) == "fp32" else PRECISIONS["fp16"].tolerance.latents_floor
    assert report.trajectory.latents_floor >= floor


def test_half_precision_halves_the_file_and_keeps_the_vectors(built, proven):
    stored = (built / "openvino/unet/openvino_model.bin").stat().st_size
    source = (proven("sd15") / "unet/model.safetensors").stat().st_size
    share = 0.5 if precision_of(built) == "fp16" else 1
    assert 0.9 * share * source < stored < 1.1 * share * source


def test_another_weight_does_not_pass(built, tmp_path):
    package = tmp_path / "package"
    shutil.copytree(built, package)
    weights = package / "openvino/unet/openvino_model.bin"
    stored = safetensors.read(package / "unet/model.safetensors")["conv_in.weight"]
    kernel = stored.astype(np.float16 if precision_of(package) == "fp16" else np.float32).tobytes()
    content = weights.read_bytes()
    assert content.count(kernel) == 1
    content = content.replace(kernel, bytes(len(kernel)))
    weights.write_bytes(content)
    with pytest.raises(PackageError, match="openvino_model.bin has changed"):
        ldm_runtime.load(package, engine="openvino")
    with pytest.raises(VerificationError, match=r"unet \(openvino fp\d\d\), case seeded batch .* relative RMS is"):
        measured(package, "unet")


def test_what_is_not_finite_is_refused(built, tmp_path, monkeypatch):
    run = OpenVinoEngine.run
    monkeypatch.setattr(OpenVinoEngine, "run", lambda self, feeds: {k: v * np.nan for k, v in run(self, feeds).items()})
    with pytest.raises(VerificationError, match=r"unet \(openvino fp\d\d\), case .* holds NaN or infinity"):
        measured(built, "unet")


def test_timesteps_between_integers_reach_the_unet(built):
    contract = open_package(built).manifest.contract
    engine = OpenVinoEngine(built / "openvino/unet/openvino_model.xml", contract, "unet")
    cases = reference_file.read(built / reference_file.FILE).cases
    inputs = next(case.inputs for case in cases if case.component == "unet")
    outputs = [engine.run({**inputs, "timestep": np.array(t, np.float32)})["out_sample"] for t in (10.0, 10.5, 11.0)]
    assert metrics.relative_rms(outputs[1], outputs[0]) > 1e-4 and metrics.relative_rms(outputs[1], outputs[2]) > 1e-4


def test_the_runtime_prefers_the_graph_made_for_openvino(built):
    with ldm_runtime.load(built, engine="openvino") as pipe:
        paths = {engine._path.suffix for engine in pipe.engines.values()}
        assert paths == {".xml"}
    with ldm_runtime.load(built, engine="ort") as pipe:
        assert {engine._path.name for engine in pipe.engines.values()} == {"model.ort_cpu.onnx"}


def test_the_same_graph_is_converted_to_the_same_bytes(built, tmp_path):
    for name in COMPONENTS:
        run_isolated(convert, built / name / "model.onnx", tmp_path / f"{name}.xml", precision_of(built))
        for ending in (".xml", ".bin"):
            again = (tmp_path / f"{name}{ending}").read_bytes()
            assert again == (built / f"openvino/{name}/openvino_model{ending}").read_bytes()
            assert str(built.parents[1]).encode() not in again


@pytest.mark.usefixtures("remembered_traces")
def test_the_verb_builds_proves_and_runs_it(tiny_build, tmp_path):
    out = tmp_path / "package"
    arguments = ["build", str(tiny_build("sd15").source), "--target", "openvino", "--precision", "fp16"]
    result = CliRunner().invoke(verbs, [*arguments, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "on openvino" in result.stdout and result.stdout.count(": passed") == 2
    assert read_manifest(out).proof.passed and precision_of(out) == "fp16"
    assert read_manifest(out).provenance.recipe["targets"] == ["openvino"]
    picture = tmp_path / "a.png"
    run = ["run", str(out), "--prompt", "red", "--steps", "1", "--engine", "openvino", "--out", str(picture)]
    assert CliRunner().invoke(verbs, run, catch_exceptions=False).exit_code == 0
    with Image.open(picture) as image:
        assert np.asarray(image).std() > 1
