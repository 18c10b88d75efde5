"""The TensorRT engine on a GPU of numpy: what it computes, chooses, captures and says, and that nothing leaks."""

import dataclasses
import gc
import hashlib
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_runtime.engines.choice import choose, open_engine, readable_by
from ldm_runtime.engines.cuda.device import CudaDevice
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.tensorrt.engine import TensorRtEngine, missing_tensorrt, open_tensorrt
from ldm_runtime.engines.tensorrt.fit import plan_name
from ldm_runtime.engines.tensorrt.jit_cache import JitCache
from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX, Flavour
from ldm_runtime.errors import EngineError, EngineUnavailable, InputError, OutOfProfile, PackageError
from ldm_runtime.files.hash_cache import cache_folder
from ldm_runtime.package.manifest import Artefact, Difference, FileEntry, PlanRequirements, Range
from ldm_runtime.package.open import Package, open_package
from tests.runtime.engines.tensorrt_fakes import EngineValidity, FakeCuda, FakeEngine, FakeTensorRt, feeds_of

NAME = "rtx-1.7.1.116-sm89-fp32"
NOTHING = {"memory": 0, "streams": 0, "graphs": 0}
SMALL = {"batch": Range(1, 2, 4), "height": Range(2, 4, 8), "width": Range(2, 4, 8), "tokens": Range(1, 12, 48)}
LARGE = {"batch": Range(1, 2, 4), "height": Range(8, 16, 16), "width": Range(8, 16, 16), "tokens": Range(1, 12, 48)}
SIZES = {"batch": 2, "height": 4, "width": 6, "tokens": 12}


def compute(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    text = feeds["encoder_hidden_states"].mean(axis=(1, 2))[:, None, None, None]
    return {"out_sample": 2 * feeds["sample"] + feeds["timestep"] + text}


class Machine:
    """A package with a plan of its UNet, a GPU and a TensorRT that run it; tests change what they like, then `load`."""

    def __init__(self, folder: Path, flavour: Flavour = RTX) -> None:
        self.package = open_package(folder, check="size")
        parts = self.package.manifest.components["unet"]
        digests = [self.package.manifest.files[file].sha256 for file in (parts.canonical.file, parts.weights)]
        content = b"a plan that only the fakes read" * 4
        file = f"engines/{NAME}/unet.plan"
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_bytes(content)
        self.path = folder / file
        self.plan = PlanRequirements(flavour, "1.7.1.116", ("8.9",), (), *digests, (SMALL, LARGE), 5_000_000, 1_000_000)
        self.artefact = Artefact(NAME, "tensorrt", (file,), "tensorrt", "fp32", "exact", None, self.plan)
        entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        self.digest = entry.sha256
        manifest = self.package.manifest
        components = {
            **manifest.components,
            "unet": dataclasses.replace(parts, artefacts=(*parts.artefacts, self.artefact)),
        }
        changed = dataclasses.replace(manifest, components=components, files={**manifest.files, file: entry})
        self.package = Package(folder, changed, self.package.identity, "size")
        self.contract = manifest.contract.components["unet"]
        self.cuda = FakeCuda()
        self.engine = FakeEngine(plan_name("unet", *digests), self.contract, self.plan, self.cuda, compute)
        self.trt = FakeTensorRt(self.engine)
        self.device = CudaDevice(self.cuda)

    def load(self, *, capture: bool = False) -> TensorRtEngine:
        artefact = dataclasses.replace(self.artefact, requires=self.plan)
        library = self.trt.library(self.plan.flavour)
        return TensorRtEngine(self.package, "unet", artefact, library, self.device, capture=capture)

    def feeds(self, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
        return feeds_of(self.contract, {**SIZES, **sizes}, seed)

    def equal(self, engine: TensorRtEngine, feeds: dict[str, np.ndarray]) -> None:
        np.testing.assert_array_equal(engine.run(feeds)["out_sample"], compute(feeds)["out_sample"])


@pytest.fixture(params=[RTX, CLASSIC])
def machine(request: pytest.FixtureRequest, package_copy: Path) -> Machine:
    return Machine(package_copy, request.param)


@pytest.fixture
def rtx(package_copy: Path) -> Machine:
    return Machine(package_copy, RTX)


@pytest.fixture
def classic(package_copy: Path) -> Machine:
    return Machine(package_copy, CLASSIC)


# --- running ------------------------------------------------------------------------------------------------------


def test_it_computes_what_the_plan_computes_at_several_sizes(machine: Machine) -> None:
    engine = machine.load()
    for seed, sizes in enumerate([{}, {"batch": 1}, {"width": 8, "tokens": 24}, {"height": 16, "width": 16}, {}]):
        machine.equal(engine, machine.feeds(seed, **sizes))
    engine.close()
    assert machine.cuda.leaks() == NOTHING and machine.device.allocated == {}


def test_inputs_that_are_not_contiguous_are_read_right(machine: Machine) -> None:
    engine, feeds = machine.load(), machine.feeds()
    feeds["sample"] = np.asfortranarray(feeds["sample"])
    machine.equal(engine, feeds)


def test_buffers_are_reused_and_grow_only(machine: Machine) -> None:
    engine = machine.load()
    engine.run(machine.feeds())
    first = dict(machine.device.allocated)
    assert len(first) == 4  # three inputs, one output
    for _ in range(3):
        engine.run(machine.feeds())
        engine.run(machine.feeds(batch=1))  # smaller: fits
    assert machine.device.allocated == first and machine.cuda.counts["cudaMalloc"] == 4
    engine.run(machine.feeds(batch=4))
    assert len(machine.device.allocated) == 4 and sum(machine.device.allocated.values()) > sum(first.values())


def test_a_run_at_the_same_sizes_sets_nothing_anew(machine: Machine) -> None:
    engine = machine.load()
    engine.run(machine.feeds())
    (context,) = machine.engine.contexts
    context.calls.clear()
    engine.run(machine.feeds(1))
    assert context.calls == ["execute_async_v3"]


def test_the_profile_is_chosen_by_size_and_kept_while_it_covers(machine: Machine) -> None:
    engine = machine.load()
    (context,) = machine.engine.contexts
    chosen = []
    for height in (4, 16, 8, 4, 8):  # 8 is in both
        engine.run(machine.feeds(height=height, width=8))
        chosen.append(context.profile)
    assert chosen == [0, 1, 1, 0, 0]
    assert context.calls.count("set_optimization_profile_async") == 3


def test_sizes_that_no_profile_covers_are_refused_and_the_next_run_is_right(machine: Machine) -> None:
    engine = machine.load()
    with pytest.raises(OutOfProfile, match="plan of unet does not cover this run: it needs batch 5 where .* 1 to 4"):
        engine.run(machine.feeds(batch=5))
    with pytest.raises(OutOfProfile, match="no profile has together: batch 2, height 4, width 16"):
        engine.run(machine.feeds(height=4, width=16))
    machine.equal(engine, machine.feeds())


def test_feeds_that_break_the_contract_are_refused(machine: Machine) -> None:
    engine = machine.load()
    with pytest.raises(EngineError, match="was given sample as float64"):
        engine.run({**machine.feeds(), "sample": np.zeros((2, 4, 4, 6))})
    with pytest.raises(EngineError, match="it takes sample, timestep, encoder_hidden_states"):
        engine.run({"sample": np.zeros((2, 4, 4, 6), np.float32)})


def test_a_closed_engine_says_so_and_closes_twice(machine: Machine) -> None:
    engine = machine.load()
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed; load the package again"):
        engine.run(machine.feeds())


def test_a_dropped_engine_gives_everything_back_at_once(machine: Machine) -> None:
    gc.disable()
    try:
        engine = machine.load(capture=True)
        for _ in range(3):
            engine.run(machine.feeds())
        dropped = weakref.ref(engine)
        del engine
        assert dropped() is None and machine.cuda.leaks() == NOTHING and machine.device.allocated == {}
    finally:
        gc.enable()


def test_outputs_of_an_earlier_run_stay(machine: Machine) -> None:
    engine = machine.load()
    first = engine.run(machine.feeds(0))["out_sample"]
    kept = first.copy()
    second = engine.run(machine.feeds(1))["out_sample"]
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


# --- failures give everything back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", range(4))
def test_no_memory_for_a_buffer_is_an_error_and_nothing_leaks(machine: Machine, allowed: int) -> None:
    engine = machine.load()
    machine.cuda.fail["cudaMalloc"] = allowed
    with pytest.raises(EngineError, match="CUDA says cudaErrorMemoryAllocation: the fake GPU is full"):
        engine.run(machine.feeds())
    del machine.cuda.fail["cudaMalloc"]
    machine.equal(engine, machine.feeds())  # half prepared is not prepared
    engine.close()
    assert machine.cuda.leaks() == NOTHING


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("set_optimization_profile_async", "cannot select profile 0 with .*unet.plan: .*Error Code 3"),
        ("set_input_shape", r"cannot take sample of shape \(2, 4, 4, 6\)"),
        ("set_tensor_address", "cannot use a buffer of 768 bytes for sample"),
        ("execute_async_v3", "cannot run with .*unet.plan: execute_async_v3: Error Code 3: the fake refuses"),
    ],
)
def test_what_tensorrt_refuses_is_said_in_its_words(machine: Machine, method: str, message: str) -> None:
    engine = machine.load()
    machine.engine.refuse[method] = 0
    with pytest.raises(EngineError, match=message):
        engine.run(machine.feeds())
    del machine.engine.refuse[method]
    machine.equal(engine, machine.feeds())
    engine.close()
    assert machine.cuda.leaks() == NOTHING


def test_a_failing_kernel_is_an_error(machine: Machine) -> None:
    engine = machine.load()
    machine.cuda.fail["cudaStreamSynchronize"] = 1  # that after the profile succeeds
    with pytest.raises(EngineError, match="cudaErrorIllegalAddress: the fake GPU is lost"):
        engine.run(machine.feeds())
    engine.close()
    assert machine.cuda.leaks() == NOTHING


def wrong_name(machine: Machine) -> None:
    machine.engine.name = plan_name("unet", "0" * 64, machine.plan.weights)


def wrong_dims(machine: Machine) -> None:
    first, *rest = machine.engine.inputs
    machine.engine.inputs = (dataclasses.replace(first, dims=("batch", 7, "height", "width")), *rest)


def wrong_output(machine: Machine) -> None:
    machine.engine.outputs = (dataclasses.replace(machine.engine.outputs[0], name="noise"),)


def wrong_type(machine: Machine) -> None:
    machine.engine.outputs = (dataclasses.replace(machine.engine.outputs[0], dtype="bfloat16"),)


def fewer_profiles(machine: Machine) -> None:
    machine.engine.num_optimization_profiles = 1


def other_profile(machine: Machine) -> None:
    machine.engine.plan = dataclasses.replace(machine.plan, profiles=(SMALL, {**LARGE, "batch": Range(1, 2, 3)}))


def no_context(machine: Machine) -> None:
    machine.engine.refuse["create_execution_context"] = 0


def not_loadable(machine: Machine) -> None:
    machine.trt.engine = None


def no_memory(machine: Machine) -> None:
    machine.cuda.free = 1_000_000


def empty(machine: Machine) -> None:
    machine.path.write_bytes(b"")


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (wrong_name, PackageError, "calls itself 'unet 0000.*another package's plan"),
        (wrong_dims, PackageError, r"has as input .*7.* but the manifest promises"),
        (wrong_output, PackageError, "has as output nothing of that name"),
        (wrong_type, PackageError, "'out_sample' of type BF16, which no component uses"),
        (fewer_profiles, PackageError, "has 1 profiles, but the manifest says 2"),
        (other_profile, PackageError, "takes sample of 1x4x8x8 : 2x4x16x16 : 3x4x16x16 in its profile 1, but the"),
        (no_context, EngineError, "cannot run .*unet.plan: out of memory for activations"),
        (not_loadable, EngineUnavailable, "cannot load .*unet.plan: Serialization assertion failed"),
        (no_memory, EngineUnavailable, "needs 0.01 GB of the GPU's memory, but 0.00 GB are free; close other"),
        (empty, PackageError, "unet.plan is empty; fetch or build the package again"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_and_nothing_leaks(
    machine: Machine, break_it: Callable[[Machine], None], error: type[Exception], message: str
) -> None:
    break_it(machine)
    with pytest.raises(error, match=message):
        machine.load()
    assert machine.cuda.leaks() == NOTHING and machine.device.allocated == {}


# --- CUDA graphs ---------------------------------------------------------------------------------------------------


def test_classic_captures_the_second_run_and_launches_it_from_then_on(classic: Machine) -> None:
    engine = classic.load(capture=True)
    for seed in range(4):
        classic.equal(engine, classic.feeds(seed))
    assert classic.cuda.counts["cudaGraphLaunch"] == 3
    assert classic.cuda.counts["cudaGraphInstantiate"] == classic.cuda.counts["cudaGraphDestroy"] == 1
    assert classic.engine.contexts[0].calls.count("execute_async_v3") == 2  # the first, and the capture
    engine.close()
    assert classic.cuda.leaks() == NOTHING


def test_another_size_drops_the_graph(classic: Machine) -> None:
    engine = classic.load(capture=True)
    for batch in (2, 2, 4, 4, 4, 2, 2):
        classic.equal(engine, classic.feeds(batch, batch=batch))
    assert len(classic.cuda.executables) == 1 and classic.cuda.counts["cudaGraphInstantiate"] == 3
    engine.close()
    assert classic.cuda.leaks() == NOTHING


def test_without_capture_nothing_is_captured(machine: Machine) -> None:
    engine = machine.load(capture=False)
    for _ in range(3):
        engine.run(machine.feeds())
    assert "cudaStreamBeginCapture" not in machine.cuda.counts
    assert machine.engine.config.cuda_graph_strategy == "off"


def test_rtx_captures_by_itself(rtx: Machine) -> None:
    engine = rtx.load(capture=True)
    for _ in range(3):
        rtx.equal(engine, rtx.feeds())
    assert rtx.engine.config.cuda_graph_strategy == "whole" and "cudaStreamBeginCapture" not in rtx.cuda.counts


@pytest.mark.parametrize("where", ["execute_async_v3", "cudaGraphInstantiate"])
def test_a_capture_that_fails_is_an_error_and_nothing_leaks(classic: Machine, where: str) -> None:
    engine = classic.load(capture=True)
    engine.run(classic.feeds())
    (classic.engine.refuse if where == "execute_async_v3" else classic.cuda.fail)[where] = 0
    with pytest.raises(EngineError):
        engine.run(classic.feeds())
    assert classic.cuda.recording is None
    engine.close()
    assert classic.cuda.leaks() == NOTHING


# --- compiled kernels, weights, notices -----------------------------------------------------------------------------


def test_compiled_kernels_are_kept_in_the_users_cache_and_given_back(rtx: Machine) -> None:
    kept = cache_folder() / "tensorrt" / rtx.digest
    engine = rtx.load()
    assert engine._jit is not None and engine._jit.cache.given is None
    engine.run(rtx.feeds())
    assert kept.read_bytes() == b"compiled"
    engine._jit.cache.content = b"compiled more"  # in the background
    engine.close()
    assert kept.read_bytes() == b"compiled more"
    again = rtx.load()
    assert again._jit is not None and again._jit.cache.given == b"compiled more"
    assert not any(rtx.package.path.rglob("*.partial*"))


def test_kernels_of_another_gpu_are_replaced(rtx: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = cache_folder() / "tensorrt" / rtx.digest
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"foreign!")  # as long as ours
    monkeypatch.setattr("tests.runtime.engines.tensorrt_fakes.FakeCache.accepts", False)
    engine = rtx.load()
    engine.run(rtx.feeds())
    assert kept.read_bytes() == b"compiled"


def test_a_cache_that_grew_too_large_is_not_read(rtx: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = cache_folder() / "tensorrt" / rtx.digest
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x" * 11)
    monkeypatch.setattr("ldm_runtime.engines.tensorrt.jit_cache.MAX_BYTES", 10)
    assert rtx.load()._jit.cache.given is None  # type: ignore[union-attr]


def test_a_cache_folder_that_cannot_be_written_does_not_stop_a_run(rtx: Machine) -> None:
    cache_folder().parent.mkdir(parents=True, exist_ok=True)
    cache_folder().write_text("a file where the folder should be")
    rtx.equal(rtx.load(), rtx.feeds())


def test_a_plan_without_weights_gets_those_of_the_package(rtx: Machine) -> None:
    rtx.plan = dataclasses.replace(rtx.plan, options=("weight_stripped",))
    rtx.equal(rtx.load(), rtx.feeds())
    assert rtx.trt.refitted == [str(rtx.package.path / "unet/model.onnx")]


def test_a_plan_with_weights_is_left_alone(rtx: Machine) -> None:
    rtx.load()
    assert rtx.trt.refitted == []


def test_reduced_precision_is_said_with_its_difference(rtx: Machine) -> None:
    assert rtx.load().notices == ()
    lossy = Difference(1.5e-3, 0.5)
    rtx.artefact = dataclasses.replace(rtx.artefact, precision="fp16", exactness="lossy", difference=lossy)
    assert rtx.load().notices == ("unet computes in fp16: its results differ by 1.5e-03 (relative RMS)",)


@pytest.mark.parametrize(
    ("validity", "error", "message"),
    [
        ((EngineValidity.INVALID, 1 | 4), EngineUnavailable, "does not run .*: VERSION_MISMATCH, OLD_CUDA_DRIVER"),
        ((EngineValidity.INVALID, 32), PackageError, "is damaged: TensorRT 1.7.1.116 does not know it as a plan"),
        ((EngineValidity.INVALID, 0), EngineUnavailable, "it says no more"),
    ],
)
def test_a_plan_is_asked_whether_it_fits_before_it_is_loaded(
    rtx: Machine, validity: tuple[int, int], error: type[Exception], message: str
) -> None:
    rtx.trt.validity = validity
    with pytest.raises(error, match=message):
        rtx.load()
    assert rtx.cuda.leaks() == NOTHING


def test_a_plan_that_runs_slower_here_is_said(rtx: Machine) -> None:
    rtx.trt.validity = (EngineValidity.SUBOPTIMAL, 0)
    (notice,) = rtx.load().notices
    assert "slower than a plan that is built for this GPU" in notice


# --- the choice ----------------------------------------------------------------------------------------------------


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
