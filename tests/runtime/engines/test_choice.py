"""Which engine runs what: names by part, options, what is missing here, and nothing on the CPU unsaid."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ldm_runtime
from ldm_runtime.engines.choice import (
    artefact_for,
    artefacts_for,
    choice_of,
    choose,
    most_threads,
    open_engine,
    readable_by,
)
from ldm_runtime.engines.engine import EngineKind, Settings
from ldm_runtime.engines.ort import providers as ort_providers
from ldm_runtime.engines.ort.providers import PROVIDERS, Provider
from ldm_runtime.engines.ort.session import OrtEngine, fallbacks
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.package.open import open_package
from tests.runtime.notices import said
from tests.runtime.package.varied_package import add_variants
from tests.runtime.tiny_package import COMPONENTS, CONTRACT

NAN = float("nan")
TELLS = "get_provider_graph_assignment_info"  # ONNX Runtime 1.24's method that says which provider runs what


def test_a_name_is_for_all_components():
    assert choose("ort").names(CONTRACT) == dict.fromkeys(COMPONENTS, "ort")
    assert choose().names(CONTRACT) == dict.fromkeys(COMPONENTS, "auto")


def test_engines_by_component_are_a_choice():
    choice = choice_of({"unet": "openvino", "vae_decoder": "ort"}, 1)
    assert dict(choice.parts) == {"unet": "openvino", "vae_decoder": "ort"} and choice.threads == 1
    assert choice_of({}, None).text == "auto"


def test_names_by_part_leave_the_rest_to_auto():
    names = {"text_encoder": "auto", "unet": "ort:cuda", "vae_encoder": "ort", "vae_decoder": "ort"}
    assert choose("unet=ort:cuda,vae=ort").names(CONTRACT) == names
    assert choose(" vae = ort , unet = ort:cuda ").names(CONTRACT) == names
    assert choose("vae_encoder=ort").names(CONTRACT) == {**dict.fromkeys(COMPONENTS, "auto"), "vae_encoder": "ort"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abacus", "engine is 'abacus'; expected one of auto, "),
        ("", "engine is ''; expected one of auto, "),
        ("unet=abacus", "engine is 'abacus'"),
        ("unet=", "engine is ''"),
        ("unet=ort,ort", "engine has 'ort'; expected PART=NAME such as unet=tensorrt"),
        ("unet=ort,unet=ort", "names 'unet' twice"),
        (None, "engine is None; expected a text such as auto"),
        (["ort"], "engine is .'ort'.; expected a text"),
    ],
)
def test_what_is_no_choice_is_refused(text: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brain=ort", "engine has 'brain=ort'; expected PART=NAME with one of the parts text_encoder, unet, vae_enc"),
        ("vae=ort,vae_decoder=ort:cuda", "names vae_decoder twice"),
    ],
)
def test_parts_are_the_package_s_own(tiny: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(text).names(CONTRACT)
    with pytest.raises(InputError, match=message):
        ldm_runtime.load(tiny, engine=text)


def test_options_for_an_engine_that_every_part_goes_without_are_refused() -> None:
    choice = choose("text_encoder=ort,unet=ort,vae=ort", options={"ort:cuda": {"device_id": 1}})
    with pytest.raises(InputError, match="options for the engine ort:cuda, but engine is .*, which never runs it"):
        choice.names(CONTRACT)


def test_options_reach_their_engine_as_text_and_no_other():
    choice = choose(threads=3, options={"ort:cuda": {"device_id": 1, "use_tf32": "1"}})
    assert choice.settings("ort:cuda") == Settings(3, {"device_id": "1", "use_tf32": "1"})
    assert choice.settings("ort") == Settings(3, {})
    with pytest.raises(InputError, match="engine is 'cuda'; expected one of"):
        choose(options={"cuda": {"device_id": 1}})


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("auto", "ort", "there are options for the engine ort, which has none; threads are a choice of their own"),
        ("ort", "openvino", "there are options for the engine openvino, but engine is 'ort', which never runs it"),
        ("auto", "openvino", "but engine is 'auto', which never runs it"),
        ("unet=openvino", "ort:qnn", "but engine is 'unet=openvino', which never runs it"),
    ],
)
def test_options_that_nothing_would_read_are_refused(text: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(text, options={name: {"device_id": 1}})


@pytest.mark.parametrize(
    ("text", "name"), [("auto", "tensorrt"), ("vae=openvino", "ort:cuda"), ("unet=openvino,vae=ort", "openvino")]
)
def test_options_that_something_may_read_are_taken(text: str, name: str) -> None:
    assert choose(text, options={name: {"some": 1}}).settings(name).options == {"some": "1"}


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", True, NAN, 1000 * most_threads(), most_threads() + 1])
def test_a_number_of_threads_that_is_none_is_refused(threads: Any) -> None:
    with pytest.raises(InputError, match=f"threads is .*; expected an integer from 1 to {most_threads()}$"):
        choose(threads=threads)


def test_a_machine_may_have_four_threads_for_each_cpu_and_sixteen_on_the_smallest(monkeypatch: Any) -> None:
    for cpus, most in ((None, 16), (2, 16), (8, 32)):
        monkeypatch.setattr("os.cpu_count", lambda cpus=cpus: cpus)
        assert most_threads() == most
        assert choose(threads=most).threads == most


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("x", "engine_options is 'x'; expected engine -> options"),
        (3, "engine_options is 3"),
        ([("ort:cuda", {})], "engine_options is "),
        ({"ort": 3}, "engine_options has 3 for 'ort'"),
        ({"ort:cuda": "device_id=1"}, "engine_options has 'device_id=1' for 'ort:cuda'"),
        ({"ort:cuda": {3: 1}}, "expected texts, numbers and booleans by name"),
        ({"ort:cuda": {"device_id": None}}, "expected texts, numbers and booleans by name"),
        ({"ort:cuda": {"device_id": b"1"}}, "expected texts, numbers and booleans by name"),
        ({"ort:cuda": {"device_id": "1\0"}}, "expected texts, numbers and booleans by name"),
        ({3: {}}, "engine is 3; expected one of"),
        ({"auto": {"device_id": 1}}, "options for auto, which is not an engine"),
    ],
)
def test_engine_options_of_another_form_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(options=options)


def test_engine_options_may_be_texts_numbers_and_booleans() -> None:
    made = choose("ort:cuda", options={"ort:cuda": {"a": 1, "b": 0.5, "c": True, "d": "x"}})
    assert made.settings("ort:cuda").options == {"a": "1", "b": "0.5", "c": "True", "d": "x"}


@pytest.mark.parametrize(
    "engine", [5, None, b"ort", ["ort"], "", "a" * 5000, "unet=" + "a" * 5000, "unet=ort,unet=ort"]
)
def test_an_engine_of_another_form_is_one_short_sentence(engine: Any) -> None:
    with pytest.raises(InputError, match="^engine ") as caught:
        choose(engine)
    assert len(str(caught.value)) < 400


def test_threads_reach_the_session(tiny: Path) -> None:
    opened = open_engine(choose("ort", threads=1), open_package(tiny), "unet")
    assert isinstance(opened.engine, OrtEngine)
    assert opened.engine._session.get_session_options().intra_op_num_threads == 1


def test_a_pipeline_tells_which_engine_runs_what(tiny: Path) -> None:
    with ldm_runtime.load(tiny, engine="unet=ort", threads=1) as pipe:
        assert pipe.info["engines"] == dict.fromkeys(("text_encoder", "unet", "vae_decoder"), "ort")
        assert pipe("red", seed=1, steps=1)[0].size == (64, 48)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_runs_here_or_says_the_one_thing_that_is_missing(tiny: Path, name: str) -> None:
    missing = ENGINES[name].missing()
    package = open_package(tiny)
    if missing is None:
        feeds = {"latent_sample": np.ones((1, 4, 4, 4), np.float32)}
        expected = open_engine(choose("ort"), package, "vae_decoder").engine.run(feeds)["sample"]
        got = open_engine(choose(name), package, "vae_decoder").engine.run(feeds)["sample"]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    else:
        assert len(missing) < 250 and "\n" not in missing
        with pytest.raises(EngineUnavailable):
            open_engine(choose(name), package, "vae_decoder")


def test_a_provider_that_is_not_installed_says_how_to_get_it() -> None:
    provider = Provider("AbacusExecutionProvider", "", "pip install onnxruntime-abacus")
    missing = provider.missing(onnxruntime)
    assert missing is not None and "install it with `pip install onnxruntime-abacus`" in missing


def test_a_provider_of_another_system_says_of_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert PROVIDERS["directml"].missing(onnxruntime) == "it exists for Windows only"
    assert PROVIDERS["coreml"].missing(onnxruntime) == "it exists for macOS only"


def test_a_provider_without_its_device_says_which() -> None:
    provider = Provider("CPUExecutionProvider", "", "", missing_device=lambda: "an abacus")
    assert provider.missing(onnxruntime) == "it needs an abacus"


def test_a_provider_that_leaves_everything_to_the_cpu_is_refused(tiny: Path) -> None:
    """Azure's is in ONNX Runtime for CPUs, and has a kernel for nothing: a session with it works, on the CPU."""
    azure = Provider("AzureExecutionProvider", "", "")
    assert azure.missing(onnxruntime) is None
    with pytest.raises(EngineUnavailable, match="AzureExecutionProvider would run nothing of .*all of it to the CPU"):
        OrtEngine(tiny / "unet/model.onnx", provider=azure)


def test_what_a_provider_leaves_to_the_cpu_is_said() -> None:
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    nodes = [(gpu, "Conv"), (cpu, "MatMul"), (cpu, "Erf"), (cpu, "MatMul"), (cpu, "Shape")]
    (notice,) = fallbacks(gpu, nodes, Path("unet/model.onnx"))
    assert notice == f"{gpu} leaves 3 of 5 nodes of unet/model.onnx to the CPU: 2 MatMul, 1 Erf"
    assert fallbacks(gpu, [(gpu, "Conv"), (cpu, "Shape"), (cpu, "Concat")], Path("x")) == ()


def test_an_onnxruntime_that_cannot_tell_who_runs_what_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (owner,) = (each for each in onnxruntime.InferenceSession.__mro__ if TELLS in vars(each))
    monkeypatch.delattr(owner, TELLS)
    with pytest.raises(EngineUnavailable, match="does not tell which provider runs what; .* needs 1.24 or newer"):
        OrtEngine(tiny / "unet/model.onnx", provider=Provider("AzureExecutionProvider", "", ""))


class Plugins:
    """Stands for an ONNX Runtime that a plugin with two devices was registered with."""

    __version__ = "1.32.0"

    def __init__(self, *kinds: str) -> None:
        self.registered: list[tuple[str, str]] = []
        self.kinds = kinds

    def get_available_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return [
            SimpleNamespace(ep_name="Abacus", device=SimpleNamespace(type=SimpleNamespace(name=kind)))
            for kind in self.kinds
        ]


class SessionOptions:
    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self.kinds = [device.device.type.name for device in devices]
        self.options = options


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setattr(ort_providers, "_registered", set())
    module = SimpleNamespace(get_library_path=lambda: "libabacus.so")
    return Provider("Abacus", "", "", defaults={"beads": "10", "fast": "0"}, import_plugin=lambda: module)


def test_a_plugin_is_registered_once_and_gets_its_first_device(plugin: Provider) -> None:
    runtime, options = Plugins("GPU", "NPU"), SessionOptions()
    for _ in range(2):
        plugin.add_to(options, runtime, {"fast": "1"})
    assert runtime.registered == [("Abacus", "libabacus.so")]
    assert options.kinds == ["GPU"] and options.options == {"beads": "10", "fast": "1"}


def test_a_plugins_device_may_be_chosen_by_its_kind(plugin: Provider) -> None:
    runtime, options = Plugins("GPU", "NPU"), SessionOptions()
    plugin.add_to(options, runtime, {"device": "NPU"})
    assert options.kinds == ["NPU"] and "device" not in options.options
    with pytest.raises(InputError, match="the option device is 'CPU'; Abacus has here GPU, NPU"):
        plugin.add_to(options, runtime, {"device": "CPU"})


def test_a_plugin_without_a_device_is_refused(plugin: Provider) -> None:
    with pytest.raises(EngineUnavailable, match="it needs a device that Abacus can use"):
        plugin.add_to(SessionOptions(), Plugins(), {})


def test_auto_takes_the_next_engine_and_says_why(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Any:
        raise EngineUnavailable("its beads are worn")

    worn = EngineKind("", (("onnx", "any"),), refuse, lambda: None, lambda: True)
    monkeypatch.setitem(ENGINES, "tensorrt", worn)  # the first that "auto" looks at
    with ldm_runtime.load(tiny, engine="text_encoder=ort,vae=ort") as pipe:
        assert pipe.info["engines"]["unet"] == "ort"
        run = pipe.sample("red", seed=1, steps=1)
        assert said(run) == ["tensorrt does not run unet here: its beads are worn; ort does instead"]
    with pytest.raises(EngineUnavailable, match="its beads are worn"):
        ldm_runtime.load(tiny, engine="unet=tensorrt")


def test_auto_passes_over_what_it_shall_not_take(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = EngineKind("", (("onnx", "any"),), lambda *arguments: None, lambda: None, lambda: True)
    monkeypatch.setitem(ENGINES, "tensorrt", first)
    assert open_engine(choose(without=["tensorrt"]), open_package(tiny), "unet").name == "ort"


def test_the_artefact_that_shall_run_may_be_given(tiny: Path) -> None:
    package = open_package(tiny)
    (canonical,) = artefacts_for(choose("ort"), package, "unet")
    opened = open_engine(choose(), package, "unet", canonical)
    assert opened.artefact == canonical == artefact_for("ort", package, "unet")
    other = dataclasses.replace(canonical, engine="abacus")
    with pytest.raises(EngineUnavailable, match="no engine here runs unet of"):
        open_engine(choose(), package, "unet", other)


def test_no_engine_picks_what_a_variant_has_the_error_of(package_copy: Path) -> None:
    """The int8 graph for ONNX Runtime's CPU comes before the one that computes exactly."""
    package = open_package(add_variants(package_copy))
    assert [each.name for each in readable_by(ENGINES["ort"], package, "unet")] == ["canonical"]
    assert artefact_for("ort", package, "unet").name == "canonical"
    assert [each.name for each in artefacts_for(choose(), package, "unet")] == ["canonical"]
    for name in ("auto", "ort", "openvino"):
        assert open_engine(choose(name), package, "unet").artefact.name == "canonical"
    with ldm_runtime.load(package_copy) as pipe:
        assert pipe("red", seed=1, steps=1)[0].size == (64, 48)


@pytest.mark.parametrize("name", ["auto", "ort"])
def test_what_no_engine_picks_by_itself_may_be_given(package_copy: Path, name: str) -> None:
    package = open_package(add_variants(package_copy))
    int8 = package.manifest.components["unet"].artefacts[1]
    opened = open_engine(choose(name), package, "unet", int8)
    assert (opened.name, opened.artefact) == ("ort", int8) and int8.name == "int8"


def test_an_engine_without_anything_to_read_says_so(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    abacus = EngineKind("", (("beads", "abacus"),), lambda *arguments: None, lambda: None)
    monkeypatch.setitem(ENGINES, "openvino", abacus)
    with pytest.raises(EngineUnavailable, match="has nothing of unet that openvino reads"):
        open_engine(choose("openvino"), open_package(tiny), "unet")
