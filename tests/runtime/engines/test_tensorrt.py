"""The TensorRT engine on a GPU of numpy: what it computes, captures and says, and that nothing leaks."""

import dataclasses
import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from ldm_runtime.engines.tensorrt.fit import plan_name
from ldm_runtime.errors import EngineError, EngineUnavailable, OutOfProfile, PackageError
from ldm_runtime.files.hash_cache import cache_folder
from ldm_runtime.package.artefacts import Difference, Range
from tests.runtime.engines.tensorrt_fakes import EngineValidity
from tests.runtime.engines.tensorrt_machine import LARGE, NOTHING, SMALL, Machine

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
