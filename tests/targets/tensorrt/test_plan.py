"""What classic TensorRT and the options are told, on a stand-in for the module: neither builds without a GPU."""

from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldm_export.errors import ExportError
from ldm_export.targets.tensorrt import plan as tensorrt_plan
from ldm_export.targets.tensorrt.plan import BuiltPlan, PlanRequest, build_plan
from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX, Flavour, Library
from ldm_runtime.errors import LdmError

SHAPES = {"x": ((1, 4), (2, 4), (4, 4))}


class BuilderFlag(IntEnum):
    TF32 = 1
    REFIT = 2
    STRIP_PLAN = 3
    REFIT_IDENTICAL = 4


class Config:
    """`flags` starts as TensorRT's does; a timing cache is bytes, and one of another GPU is not taken."""

    def __init__(self, taken: bool) -> None:
        self.flags = {BuilderFlag.TF32}
        self.taken = taken
        self.profiles: list[Any] = []
        self.timings: list[bytes] = []  # that were offered, oldest first
        self.progress_monitor: Any = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(content=content, serialize=lambda: content + b"measured;")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self.timings.append(cache.content)
        return self.taken or cache.content == b""


class Module:
    """TensorRT, as far as a build goes. `notes` is what it says meanwhile, `plan` what comes out."""

    BuilderFlag = BuilderFlag
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})

    def __init__(self, *, plan: bytes | None = b"the plan", notes: tuple[str, ...] = (), taken: bool = True) -> None:
        self.plan, self.notes = plan, notes
        self.config = Config(taken)
        self.network = SimpleNamespace(
            num_inputs=1, num_outputs=1, name="", get_input=lambda index: SimpleNamespace(name="x")
        )

    def library(self, flavour: Flavour) -> Library:
        self.log = SimpleNamespace(errors=[], notes=[])
        return Library(self, flavour, "10.14.1", self.log)

    def Builder(self, log: Any) -> Any:
        def create_network(flags: int) -> Any:
            self.network.flags = flags
            return self.network

        def build(network: Any, config: Config) -> bytes | None:
            config.progress_monitor.phase_start("Building engine", None, 3)
            config.progress_monitor.phase_start("Timing", "Optimizing graph", 3)
            self.log.notes.extend(self.notes)
            return self.plan

        return SimpleNamespace(
            create_network=create_network,
            create_builder_config=lambda: self.config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: None),
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, log: Any) -> Any:
        return SimpleNamespace(parse_from_file=lambda path: True)


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(module: Module, flavour: Flavour = CLASSIC, **changes: Any) -> PlanRequest:
        monkeypatch.setattr(tensorrt_plan, "import_tensorrt", lambda name: module.library(flavour))
        made = {"graph": tmp_path / "model.onnx", "plan": tmp_path / "out.plan", "name": "unet 12 34", **changes}
        return PlanRequest(flavour=flavour, capabilities=(), profiles=(SHAPES,), **made)

    return make


def test_networks_are_strongly_typed_named_and_without_tf32(request_of: Any) -> None:
    module = Module(notes=("Total Activation Memory: 123 bytes", "Total Weights Memory: 45 bytes"))
    request = request_of(module)
    said: list[str] = []
    assert build_plan(request, progress=said.append) == BuiltPlan("10.14.1", 123, 45)
    assert request.plan.read_bytes() == b"the plan"
    assert module.network.flags == 1 << 1 and module.network.name == "unet 12 34"
    assert module.config.flags == set() and len(module.config.profiles) == 1
    assert said == ["TensorRT: building engine"]  # phases within phases are left out


def test_sizes_that_tensorrt_does_not_say_are_not_invented(request_of: Any) -> None:
    assert build_plan(request_of(Module())) == BuiltPlan("10.14.1", None, None)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ((), set()),
        (("refit",), {BuilderFlag.REFIT}),
        (("weight_stripped",), {BuilderFlag.STRIP_PLAN, BuilderFlag.REFIT_IDENTICAL}),
        (("refit", "weight_stripped"), {BuilderFlag.REFIT, BuilderFlag.STRIP_PLAN, BuilderFlag.REFIT_IDENTICAL}),
    ],
)
def test_options_are_passed_on(request_of: Any, options: tuple[str, ...], flags: set[BuilderFlag]) -> None:
    module = Module()
    build_plan(request_of(module, options=options))
    assert module.config.flags == flags


def test_classic_keeps_its_timings_and_is_given_them_again(request_of: Any, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "timings"
    for expected in (b"", b"measured;", b"measured;measured;"):
        module = Module()
        build_plan(request_of(module, timing_cache=place))
        assert module.config.timings == [expected]
    assert place.read_bytes() == b"measured;" * 3


def test_timings_of_another_gpu_are_measured_again(request_of: Any, tmp_path: Path) -> None:
    place = tmp_path / "timings"
    place.write_bytes(b"foreign")
    module = Module(taken=False)
    build_plan(request_of(module, timing_cache=place))
    assert module.config.timings == [b"foreign", b""] and place.read_bytes() == b"measured;"


def test_rtx_has_no_timings(request_of: Any, tmp_path: Path) -> None:
    module = Module()
    build_plan(request_of(module, RTX, timing_cache=tmp_path / "timings"))
    assert module.config.timings == [] and not (tmp_path / "timings").exists()


def test_a_warning_that_sizes_contradict_one_another_is_an_error(request_of: Any) -> None:
    request = request_of(Module(notes=("Profile kMAX values are not self-consistent. 64 != 128",)))
    with pytest.raises(ExportError, match="the profile contradicts the graph .*64 != 128"):
        build_plan(request)
    assert not request.plan.exists()


def test_a_build_that_fails_without_a_word_is_an_error(request_of: Any) -> None:
    with pytest.raises(ExportError, match=r"^TensorRT 10.14.1 cannot build .*model.onnx: it says no more$"):
        build_plan(request_of(Module(plan=None)))


def test_a_plan_that_cannot_be_written_is_said(request_of: Any, tmp_path: Path) -> None:
    (tmp_path / "out.plan").mkdir()
    with pytest.raises(LdmError, match="cannot write the file .*out.plan: a folder has that name"):
        build_plan(request_of(Module()))
