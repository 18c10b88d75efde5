"""Whether a plan is taken: by name or by itself, where it fits, with options that exist, in one sentence if not."""

import dataclasses
from typing import Any

import pytest

from ldm_runtime.engines.choice import choose, open_engine, readable_by
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.tensorrt.engine import TensorRtEngine, missing_tensorrt, open_tensorrt
from ldm_runtime.engines.tensorrt.jit_cache import JitCache
from ldm_runtime.errors import EngineUnavailable, InputError, PackageError
from ldm_runtime.files.hash_cache import cache_folder
from ldm_runtime.package.open import Package
from tests.runtime.engines.tensorrt_machine import NOTHING, Machine


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, machine: Machine, capability: str = "8.9") -> None:
    """Let the whole way from a choice to a run meet the fakes."""
    library = machine.trt.library(machine.plan.flavour)
    module = "ldm_runtime.engines.tensorrt.engine"
    monkeypatch.setattr(f"{module}.missing_tensorrt", lambda: None)
    monkeypatch.setattr(f"{module}.installed", lambda: [library])
    monkeypatch.setattr(f"{module}.import_tensorrt", lambda flavour: library)
    monkeypatch.setattr(f"{module}.import_cuda", lambda: machine.cuda)
    monkeypatch.setattr(f"{module}.compute_capability", lambda: capability)
    monkeypatch.setattr(f"{module}.check_header", lambda package, found: None)  # of a real plan only
    kind = dataclasses.replace(ENGINES["tensorrt"], automatic=lambda: True)
    monkeypatch.setitem(ENGINES, "tensorrt", kind)


def test_auto_takes_the_plan_first(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch, machine)
    opened = open_engine(choose("auto"), machine.package, "unet")
    assert opened.name == "tensorrt" and opened.notices == ()
    assert isinstance(opened.engine, TensorRtEngine)
    machine.equal(opened.engine, machine.feeds())


def test_auto_says_why_a_plan_does_not_fit_and_takes_the_next(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_gpu(monkeypatch, machine, "12.0")
    opened = open_engine(choose("auto"), machine.package, "unet")
    assert opened.name == "ort"
    (notice,) = opened.notices
    assert notice.startswith("tensorrt does not run unet here: no TensorRT plan of unet in")
    assert "is for GPUs of compute capability 8.9, here is 12.0" in notice and notice.endswith("; ort does instead")


def test_auto_is_silent_about_components_without_a_plan(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch, machine)
    opened = open_engine(choose("auto"), machine.package, "vae_decoder")
    assert opened.name == "ort" and opened.notices == ()
    kind = ENGINES["tensorrt"]
    assert readable_by(kind, machine.package, "unet") and not readable_by(kind, machine.package, "vae_decoder")


def test_by_name_a_plan_that_does_not_fit_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch, machine, "12.0")
    with pytest.raises(EngineUnavailable, match="build one with `ldm-export build .* --target tensorrt`"):
        open_engine(choose("tensorrt"), machine.package, "unet")


def test_a_given_plan_that_does_not_fit_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch, machine, "12.0")
    with pytest.raises(EngineUnavailable, match=r"the TensorRT plan engines/.*/unet.plan is for GPUs .* here is 12.0"):
        open_engine(choose("tensorrt"), machine.package, "unet", machine.artefact)


def test_a_changed_plan_is_refused_before_it_is_loaded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch, machine)
    machine.path.write_bytes(machine.path.read_bytes()[:-1] + b"!")
    package = Package(machine.package.path, machine.package.manifest, "", "full")
    with pytest.raises(PackageError, match="unet.plan has changed: its SHA-256 is"):
        open_engine(choose("tensorrt"), package, "unet")
    assert machine.cuda.leaks() == NOTHING and machine.engine.contexts == []


def test_the_graph_of_the_step_is_captured_unless_it_is_switched_off(
    rtx: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_gpu(monkeypatch, rtx)
    for options, strategy in (({}, "whole"), ({"cuda_graph": "off"}, "off"), ({"cuda_graph": "on"}, "whole")):
        rtx.engine.config.cuda_graph_strategy = "off"
        open_tensorrt(rtx.package, "unet", rtx.artefact, options)
        assert rtx.engine.config.cuda_graph_strategy == strategy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "1"}, "tensorrt has no option 'device'; it has cuda_graph"),
        ({"cuda_graph": "1"}, "the option cuda_graph of tensorrt is '1'; expected on or off"),
    ],
)
def test_options_that_are_none_are_refused(rtx: Machine, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_tensorrt(rtx.package, "unet", rtx.artefact, options)


def test_what_is_missing_here_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "ldm_runtime.engines.tensorrt.engine"
    monkeypatch.setattr(f"{module}.import_tensorrt", lambda: None)
    monkeypatch.setattr(f"{module}.import_cuda", lambda: None)
    monkeypatch.setattr(f"{module}.missing_gpu", lambda: "an NVIDIA GPU (the driver finds none)")
    assert missing_tensorrt() == "it needs an NVIDIA GPU (the driver finds none)"
    monkeypatch.setattr(f"{module}.missing_gpu", lambda: None)
    assert missing_tensorrt() is None

    def no_bindings() -> Any:
        raise EngineUnavailable("the CUDA bindings cannot be imported")

    monkeypatch.setattr(f"{module}.import_cuda", no_bindings)
    assert missing_tensorrt() == "the CUDA bindings cannot be imported"


def test_engines_of_graphs_do_not_run_plans() -> None:
    assert {name for name, kind in ENGINES.items() if kind.pick is not None} == {"tensorrt"}
    readers = {name for name, kind in ENGINES.items() if "tensorrt" in {format for format, _ in kind.reads}}
    assert readers == {"tensorrt"} and len(ENGINES["tensorrt"].reads) == 1
    assert next(iter(ENGINES)) == "tensorrt"


def test_jit_caches_are_named_by_their_plan(rtx: Machine) -> None:
    class Cache:
        def deserialize(self, content: bytes) -> bool:
            return True

    assert JitCache.of("ab" * 32, Cache()).place == cache_folder() / "tensorrt" / ("ab" * 32)
