"""The OpenVINO engine: equal to ONNX Runtime, and what OpenVINO lets pass is refused before it sees it."""

import dataclasses
import errno
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.engine import Settings
from ldm_runtime.engines.openvino import library, row
from ldm_runtime.engines.openvino.engine import OpenVinoEngine
from ldm_runtime.engines.openvino.forms import Compiled, Primed
from ldm_runtime.engines.openvino.library import import_openvino, read_graph
from ldm_runtime.engines.openvino.properties import properties_of
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineError, EngineUnavailable, InputError, PackageError
from ldm_runtime.files.hash_cache import cache_folder
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import open_package
from ldm_runtime.package.tensor_spec import TensorSpec
from tests import hub_cache
from tests.runtime import tiny_package
from tests.runtime.engines.test_ort import feeds


@pytest.fixture(scope="module")
def contract(tiny: Path) -> Contract:
    return open_package(tiny).manifest.contract


@pytest.fixture(scope="module")
def engine(tiny: Path, contract: Contract) -> OpenVinoEngine:
    return OpenVinoEngine(tiny / "unet/model.onnx", contract, "unet", threads=1)


def test_outputs_are_those_of_onnx_runtime(tiny: Path, engine: OpenVinoEngine) -> None:
    other = OrtEngine(tiny / "unet/model.onnx")
    assert {spec.name for spec in engine.inputs} == {spec.name for spec in other.inputs}
    for batch, tokens in ((1, 1), (3, 12), (2, 5)):
        inputs = feeds(batch, tokens)
        got, expected = engine.run(inputs), other.run(inputs)
        assert list(got) == list(expected)
        np.testing.assert_allclose(got["out_sample"], expected["out_sample"], rtol=1e-4, atol=1e-6)


def test_outputs_of_an_earlier_run_stay(engine: OpenVinoEngine) -> None:
    first = engine.run(feeds())["out_sample"]
    kept = first.copy()
    engine.run({**feeds(), "timestep": np.array(3.0, np.float32)})
    np.testing.assert_array_equal(first, kept)


def test_a_whole_package_draws_the_same_image(tiny: Path) -> None:
    pictures = []
    for name in ("ort", "openvino"):
        with ldm_runtime.load(tiny, engine=name, threads=1) as pipe:
            assert set(pipe.info["engines"].values()) == {name}
            pictures.append(np.asarray(pipe("red", seed=1, steps=3)[0]).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": None}, "was given encoder_hidden_states, timestep; it takes sample, timestep, encoder"),
        ({"extra": np.zeros(1, np.float32)}, "was given encoder_hidden_states, extra, sample, timestep; it takes"),
        ({"timestep": np.zeros(1, np.float32)}, r"timestep as float32 of shape \(1,\); it takes float32 of shape \(\)"),
        ({"timestep": np.array(1.0)}, "timestep as float64"),
        ({"sample": np.zeros((2, 3, 4, 6), np.float32)}, r"sample of shape \(2, 3, 4, 6\): 3 where it takes 4$"),
        (
            {"sample": np.zeros((1, 4, 4, 6), np.float32)},
            r"encoder_hidden_states of shape .*: 2 where it takes 1 for batch",
        ),
        ({"sample": np.zeros((2, 4, 4, 1), np.float32)}, "1 where it takes 2 to 32 for width"),
    ],
)
def test_wrong_feeds_are_refused_with_one_thread_too(engine: OpenVinoEngine, changes, message: str) -> None:
    """OpenVINO itself returns the outputs of the run before."""
    good = feeds()
    expected = engine.run(good)["out_sample"]
    wrong = {name: array for name, array in {**good, **changes}.items() if array is not None}
    with pytest.raises(EngineError, match=message):
        engine.run(wrong)
    np.testing.assert_array_equal(engine.run(good)["out_sample"], expected)


def test_a_failed_run_does_not_spoil_the_next(tiny: Path, contract: Contract) -> None:
    engine = OpenVinoEngine(tiny / "unet/model.onnx", contract, "unet")
    expected = engine.run(feeds())["out_sample"]
    engine.inputs = (TensorSpec("sample", "float32", (2, 4, 4, 6)), *engine.inputs[1:])

    class Broken:
        def infer(self, *arguments: object, **options: object) -> None:
            raise RuntimeError("Exception from src/cpp/x.cpp:1:\n[CPU] Add node has wrong shapes\n\n")

    compiled(engine)._idle.append(Broken())
    with pytest.raises(EngineError, match=r"OpenVINO failed in .*model.onnx: \[CPU\] Add node has wrong shapes$"):
        engine.run(feeds())
    np.testing.assert_array_equal(engine.run(feeds())["out_sample"], expected)


def test_threads_and_options_reach_openvino(tiny: Path) -> None:
    choice = choose("openvino", threads=1, options={"openvino": {"INFERENCE_PRECISION_HINT": "bf16"}})
    opened = open_engine(choice, open_package(tiny), "unet").engine
    assert isinstance(opened, OpenVinoEngine)
    assert opened._graph.opened.get_property("INFERENCE_NUM_THREADS") == 1
    assert opened._graph.opened.get_property("INFERENCE_PRECISION_HINT").get_type_name() in (
        "bf16",
        "f32",
    )  # by the CPU
    plain = open_engine(choose("openvino"), open_package(tiny), "unet").engine
    assert isinstance(plain, OpenVinoEngine)
    assert plain._graph.opened.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tiny: Path, contract: Contract) -> None:
    with pytest.raises(EngineUnavailable, match="has no device 'ABACUS' here; it has CPU"):
        OpenVinoEngine(tiny / "unet/model.onnx", contract, "unet", options={"device": "ABACUS"})


@pytest.mark.parametrize(
    ("options", "message"), [({"BEADS": "10"}, "BEADS"), ({"INFERENCE_PRECISION_HINT": "f8"}, "f8")]
)
def test_an_option_that_openvino_does_not_know_is_refused(tiny, contract, options, message) -> None:
    with pytest.raises(EngineError, match=f"cannot load .*model.onnx: .*{message}"):
        OpenVinoEngine(tiny / "unet/model.onnx", contract, "unet", options=options)


def test_a_damaged_graph_is_one_sentence(package_copy: Path, contract: Contract) -> None:
    graph = package_copy / "unet/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-40])
    with pytest.raises(EngineError, match=r"OpenVINO cannot load .*model.onnx: [^\n]+$"):
        OpenVinoEngine(graph, contract, "unet")
    (package_copy / "vae_decoder/model.safetensors").unlink()
    with pytest.raises(EngineError, match=r"OpenVINO cannot load .*model.onnx: [^\n]+$"):
        OpenVinoEngine(package_copy / "vae_decoder/model.onnx", contract, "vae_decoder")


def test_a_graph_that_breaks_the_contract_is_refused(tiny: Path, contract: Contract) -> None:
    with pytest.raises(PackageError, match="has as input nothing of that name, but the manifest promises .*sample"):
        OpenVinoEngine(tiny / "vae_decoder/model.onnx", contract, "unet")


def test_a_closed_engine_says_so(tiny: Path, contract: Contract) -> None:
    engine = OpenVinoEngine(tiny / "unet/model.onnx", contract, "unet")
    engine.close()
    with pytest.raises(EngineError, match="is closed; load the package again"):
        engine.run(feeds())


def test_a_run_that_ends_after_the_engine_was_closed_keeps_nothing(tiny: Path, contract: Contract) -> None:
    engine = OpenVinoEngine(tiny / "unet/model.onnx", contract, "unet")
    engine.run(feeds())
    kept = weakref.ref(compiled(engine))
    (request,) = compiled(engine)._idle

    class Closing:
        def infer(self, *arguments: object, **options: object) -> object:
            engine.close()
            return request.infer(*arguments, **options)

    compiled(engine)._idle[:] = [Closing()]
    assert engine.run(feeds())["out_sample"].size
    assert kept() is None


def test_without_openvino_the_extra_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(library, "_core", library._core.__wrapped__)  # as in a process that has not made it yet
    assert "pip install 'ldm-runtime[openvino]'" in str(ENGINES["openvino"].missing())
    with pytest.raises(EngineUnavailable, match="OpenVINO cannot be imported"):
        ldm_runtime.load(tiny, engine="openvino")


def test_importing_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """Its telemetry writes into the home folder and asks the network, on import."""
    program = (
        "import sys; from ldm_runtime.engines.openvino.library import import_openvino; import_openvino();"
        "assert sys.modules['openvino_telemetry'] is None; assert 'urllib.request' not in sys.modules"
    )
    runtime = str(Path(ldm_runtime.__file__).parents[1])
    environment = {"HOME": str(tmp_path), "PYTHONPATH": runtime}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_after_engines_have_ended_is_only_that(tiny: Path) -> None:
    """Plugins that ended out of order left a stack for signal handlers that was gone."""
    program = (
        "import os, signal, sys; from pathlib import Path; from ldm_runtime.package.open import open_package;"
        "from ldm_runtime.engines.openvino.engine import OpenVinoEngine;"
        f"path = Path({str(tiny)!r}); contract = open_package(path).manifest.contract;"
        "names = ('unet', 'vae_decoder', 'text_encoder');"
        "kept = [OpenVinoEngine(path / name / 'model.onnx', contract, name) for name in names];"
        "[engine.close() for engine in kept]; kept.clear();"
        "signal.signal(signal.SIGINT, lambda *arguments: print('noted'));"
        "os.kill(os.getpid(), signal.SIGINT); print('alive')"
    )
    runtime = str(Path(ldm_runtime.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": runtime}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()) == (0, ["noted", "alive"]), done.stderr


def test_compiled_models_are_kept_for_these_weights_alone(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    """OpenVINO's own cache answers with what it folded out of other weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tiny_package.make(tmp_path / "package")
    add_openvino_graph(package, scale=1.0)
    outputs, hits = [], []
    for scale in (1.0, 1.0, 2.0):
        if scale != 1.0:
            add_openvino_graph(package, scale=scale)
        engine = open_engine(choose("openvino"), open_package(package), "vae_decoder").engine
        assert isinstance(engine, OpenVinoEngine) and engine._path.suffix == ".xml"
        hits.append(engine._graph.opened.get_property("LOADED_FROM_CACHE"))
        outputs.append(engine.run({"latent_sample": np.ones((1, 4, 4, 4), np.float32)})["sample"])
    assert hits == [False, True, False]
    np.testing.assert_array_equal(outputs[1], outputs[0])
    assert np.abs(outputs[2] - outputs[0]).max() > 0.1


def test_compiled_models_are_kept_for_these_settings_alone(tmp_path: Path, monkeypatch) -> None:
    """Else one precision could be answered with what was compiled for another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tiny_package.make(tmp_path / "package")
    add_openvino_graph(folder, scale=1.0)
    package = open_package(folder)
    artefact = package.manifest.components["vae_decoder"].artefacts[-1]
    plain = Settings(2, {"device": "CPU"})
    others = [Settings(1, plain.options), Settings(2), Settings(2, plain.options, "bf16")]
    kept = [row._cache(package, artefact, settings) for settings in (plain, *others, Settings(2, {"device": "CPU"}))]
    assert kept[0] == kept[-1] is not None and len(set(kept)) == 4


@pytest.mark.skipif(ENGINES["openvino"].missing_for("bf16") is not None, reason="needs a CPU with bfloat16")
def test_bfloat16_is_compiled_beside_float32(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tiny_package.make(tmp_path / "package")
    add_openvino_graph(folder, scale=1.0)
    package, hits = open_package(folder), []
    for precision, name in ((None, "f32"), ("bf16", "bf16"), (None, "f32"), ("bf16", "bf16")):
        opened = open_engine(choose("openvino", threads=1), package, "vae_decoder", None, precision).engine
        assert isinstance(opened, OpenVinoEngine) and opened.computes_in == name
        hits.append(opened._graph.opened.get_property("LOADED_FROM_CACHE"))
    assert hits == [False, False, True, True]


def test_what_openvino_is_told_follows_from_precision_and_artefact(tiny: Path) -> None:
    canonical = open_package(tiny).manifest.components["unet"].canonical
    int8 = dataclasses.replace(canonical, precision="int8")
    assert properties_of(canonical, Settings(None, {"device": "CPU"})) == {"device": "CPU"}
    assert properties_of(canonical, Settings(precision="bf16")) == {"INFERENCE_PRECISION_HINT": "bf16"}
    assert properties_of(int8, Settings()) == {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "savings": "none"}
    assert properties_of(int8, Settings(None, {"device": "NPU"})) == {"device": "NPU", "savings": "none"}
    with pytest.raises(EngineUnavailable, match="bf16 is for OpenVINO on the CPU, but its option device is GPU"):
        properties_of(canonical, Settings(None, {"device": "GPU"}, "bf16"))
    with pytest.raises(
        InputError, match="INFERENCE_PRECISION_HINT is f32, but what was chosen computes in bf16; leave"
    ):
        properties_of(canonical, Settings(None, {"INFERENCE_PRECISION_HINT": "f32"}, "bf16"))


def test_what_openvino_computes_in_another_precision_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoEngine, "computes_in", "f32")
    kind = ENGINES["openvino"]
    canonical = open_package(tiny).manifest.components["unet"].canonical
    with pytest.raises(EngineUnavailable, match="OpenVINO computes unet in f32 here, not in bf16"):
        kind.open(open_package(tiny), "unet", canonical, Settings(precision="bf16"))


def test_a_package_in_a_hubs_cache_runs_from_onnx_and_from_openvinos_own_format(tiny: Path, tmp_path: Path) -> None:
    package = tiny_package.make(tmp_path / "package")
    add_openvino_graph(package, scale=1.0)
    snapshot = hub_cache.make(package, tmp_path / "hub")
    for component, inputs in (("vae_decoder", {"latent_sample": np.ones((1, 4, 4, 4), np.float32)}), ("unet", feeds())):
        made = []
        for folder in (package, snapshot):
            engine = open_engine(choose("openvino"), open_package(folder), component).engine
            made.append(engine.run(inputs))
        for name, value in made[0].items():
            np.testing.assert_array_equal(made[1][name], value)
    assert not list(cache_folder().glob(".ldm-*"))


def test_a_hubs_cache_on_another_disk_is_one_sentence(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    snapshot = hub_cache.make(tiny, tmp_path / "hub")
    with pytest.raises(EngineUnavailable, match="does not read weights through links.*cross-device.*engine ort"):
        open_engine(choose("openvino"), open_package(snapshot), "unet")
    assert not list(cache_folder().glob(".ldm-*"))


def compiled(engine: OpenVinoEngine) -> Compiled:
    held = engine._forms._held
    assert held is not None
    primed = getattr(held.run, "__self__", None)
    assert isinstance(primed, Primed)
    owner = getattr(primed.inner, "__self__", None)
    assert isinstance(owner, Compiled)
    return owner


def add_openvino_graph(package: Path, scale: float) -> None:
    """The decoder's graph in OpenVINO's format, its weights times `scale`, listed in the manifest."""
    library = import_openvino()
    model = read_graph(package / "vae_decoder/model.onnx")
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == library.Type.f32 and node.data.ndim > 1:
            scaled = library.opset12.constant((node.data * scale).astype(np.float32))
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(scaled.output(0))
    folder = package / "openvino"
    folder.mkdir(exist_ok=True)
    library.save_model(model, str(folder / "decoder.xml"), compress_to_fp16=False)
    tiny_package.add_openvino(package, "vae_decoder", "openvino/decoder.xml")
