"""The rule by which "auto" takes OpenVINO before ONNX Runtime: each condition decides, and no proof follows it."""

import dataclasses
from pathlib import Path

import pytest

from ldm_export.verify.gate import proving_engines
from ldm_runtime.engines.choice import automatic_engines, choose, open_engine
from ldm_runtime.engines.openvino import rule
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import InputError
from ldm_runtime.package.artefacts import Difference
from ldm_runtime.package.open import Package, open_package


@pytest.fixture
def package(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package whose denoiser counts as a large one, on a machine that counts as one with AVX-512."""
    opened = open_package(tiny)
    monkeypatch.setattr(rule, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(rule, "LEAST_STEPS", opened.manifest.contract.defaults.steps)
    monkeypatch.setattr(rule, "cpu_units", lambda: frozenset({"avx512f"}))
    monkeypatch.setattr(rule, "available_memory", lambda: 10**9)
    return opened


def considered(package: Package, component: str = "unet") -> list[str]:
    return list(automatic_engines(choose(), package, component))


def test_a_large_denoiser_is_run_by_openvino(package):
    assert considered(package) == ["openvino", "ort"]
    assert open_engine(choose(), package, "unet").name == "openvino"


@pytest.mark.parametrize("component", ["text_encoder", "vae_encoder", "vae_decoder"])
def test_nothing_else_is(component, package):
    assert considered(package, component) == ["ort"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEAST_WEIGHTS", 2**27),
        ("LEAST_STEPS", 10**6),
        ("cpu_units", lambda: frozenset({"avx2"})),
        ("available_memory", lambda: 0),
    ],
)
def test_each_condition_decides(name, value, package, monkeypatch):
    monkeypatch.setattr(rule, name, value)
    assert considered(package) == ["ort"]
    assert open_engine(choose(), package, "unet").name == "ort"


def test_a_machine_that_does_not_tell_its_memory_has_enough(package, monkeypatch):
    monkeypatch.setattr(rule, "available_memory", lambda: None)
    assert considered(package) == ["openvino", "ort"]


def test_without_openvino_it_is_not_considered_and_no_weights_are_looked_at(package, monkeypatch):
    monkeypatch.setattr(rule.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(rule.safetensors, "read_header", lambda path: pytest.fail("at every start"))
    assert considered(package) == ["ort"]


def test_an_artefact_of_its_own_that_is_lossy_is_not_taken_by_itself(package):
    denoiser = package.manifest.components["unet"]
    own = dataclasses.replace(
        denoiser.canonical, name="openvino", format="openvino", engine="openvino", precision="fp16", exactness="lossy",
        difference=Difference(1e-3, 1e-2),
    )  # fmt: skip
    components = {"unet": dataclasses.replace(denoiser, artefacts=(denoiser.canonical, own))}
    manifest = dataclasses.replace(package.manifest, components={**package.manifest.components, **components})
    changed = Package(package.path, manifest, package.identity, "size")
    assert considered(changed) == ["ort"]
    exact = dataclasses.replace(own, precision="fp32", exactness="exact", difference=None)
    components = {"unet": dataclasses.replace(denoiser, artefacts=(denoiser.canonical, exact))}
    manifest = dataclasses.replace(package.manifest, components={**package.manifest.components, **components})
    assert considered(Package(package.path, manifest, package.identity, "size")) == ["openvino", "ort"]


def test_a_proof_does_not_follow_the_rule(package):
    choice = proving_engines()
    assert list(automatic_engines(choice, package, "unet")) == ["ort"]
    assert open_engine(choice, package, "unet").name == "ort"
    by_name = proving_engines("openvino")
    assert open_engine(by_name, package, "unet").name == "openvino"


def test_options_name_who_reads_them():
    """A rule is no promise that somebody does."""
    with pytest.raises(InputError, match="engine is 'auto', which never runs it"):
        choose("auto", options={"openvino": {"device": "CPU"}})


def test_a_gpu_goes_before_it():
    names = list(ENGINES)
    assert names.index("tensorrt") < names.index("ort:cuda") < names.index("openvino") < names.index("ort")
