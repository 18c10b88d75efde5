"""The ONNX Runtime engine: external weights from safetensors files, the contract, one error for each failure."""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import ldm_runtime
from ldm_runtime.components import Components
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.engine import Settings
from ldm_runtime.engines.ort import rows
from ldm_runtime.engines.ort import session as ort
from ldm_runtime.engines.ort.session import OrtEngine, import_onnxruntime
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineError
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import open_package
from ldm_runtime.package.tensor_spec import TensorSpec
from tests.runtime import tiny_package
from tests.runtime.package.varied_package import add_variants
from tests.runtime.tiny_package import CHANNELS, WIDTH

WIDE = {"session.qdq_matmulnbits_accuracy_level": "1"}  # of graphs of integers: products with narrow weights in float32


def feeds(batch: int = 2, tokens: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "sample": random.standard_normal((batch, CHANNELS, 4, 6)).astype(np.float32),
        "timestep": np.array(500.5, dtype=np.float32),
        "encoder_hidden_states": random.standard_normal((batch, tokens, WIDTH)).astype(np.float32),
    }


def expected_noise(weights: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The tiny UNet in numpy."""
    padded = np.pad(inputs["sample"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    mixed = np.einsum("bchwij,ocij->bohw", windows, weights["conv.weight"])
    mixed += weights["conv.bias"][:, None, None]
    text = inputs["encoder_hidden_states"].mean(axis=1) @ weights["to_k.weight"]
    return 0.5 * np.tanh(mixed + text[:, :, None, None] + 0.001 * inputs["timestep"])


def test_weights_are_read_out_of_the_safetensors_file(tiny: Path) -> None:
    weights = safetensors.read(tiny / "unet/model.safetensors")
    engine = OrtEngine(tiny / "unet/model.onnx")
    for batch, tokens in ((1, 1), (3, 12)):
        inputs = feeds(batch, tokens)
        got = engine.run(inputs)
        assert list(got) == ["out_sample"]
        np.testing.assert_allclose(got["out_sample"], expected_noise(weights, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 1, 2, 3, 4, 17])
def test_weights_may_lie_at_any_offset(package_copy: Path, padding: int) -> None:
    """Files written by others are not aligned: the header may have any length."""
    folder = package_copy / "unet"
    before = OrtEngine(folder / "model.onnx").run(feeds())["out_sample"]
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    longer = (length + padding).to_bytes(8, "little") + content[8 : 8 + length] + b" " * padding
    (folder / "model.safetensors").write_bytes(longer + content[8 + length :])
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + padding)
    onnx.save(model, folder / "model.onnx")
    np.testing.assert_array_equal(OrtEngine(folder / "model.onnx").run(feeds())["out_sample"], before)


@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae_encoder", "vae_decoder"])
@pytest.mark.parametrize("reorder", [True, False])
def test_session_options_do_not_change_the_result(tiny: Path, component: str, reorder: bool) -> None:
    inputs: dict[str, Any] = {
        "text_encoder": {"input_ids": np.arange(24).reshape(2, 12)},
        "unet": feeds(),
        "vae_encoder": {"sample": np.linspace(-1, 1, 3 * 16 * 24, dtype=np.float32).reshape(1, 3, 16, 24)},
        "vae_decoder": {"latent_sample": feeds()["sample"]},
    }
    plain = OrtEngine(tiny / component / "model.onnx").run(inputs[component])
    engine = OrtEngine(tiny / component / "model.onnx", threads=1, reorder=reorder)
    for _ in range(3):
        got = engine.run(inputs[component])
        for name, value in plain.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)


def test_inputs_and_outputs_are_told(tiny: Path) -> None:
    engine = OrtEngine(tiny / "unet/model.onnx")
    assert engine.inputs[0] == TensorSpec("sample", "float32", ("batch", CHANNELS, "height", "width"))
    assert engine.inputs[1] == TensorSpec("timestep", "float32", ())
    assert engine.outputs[0].name == "out_sample"


BAD_FEEDS: dict[str, dict[str, Any]] = {
    "missing": {"sample": feeds()["sample"]},
    "unknown": {**feeds(), "more": np.zeros(1, np.float32)},
    "type": {**feeds(), "sample": feeds()["sample"].astype(np.float64)},
    "rank": {**feeds(), "sample": feeds()["sample"][0]},
    "shape": {**feeds(), "encoder_hidden_states": np.zeros((2, 5, WIDTH + 1), np.float32)},
}


@pytest.mark.parametrize("bad", BAD_FEEDS.values(), ids=BAD_FEEDS.keys())
def test_feed_that_does_not_fit_is_one_engine_error(
    tiny: Path, bad: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    engine = OrtEngine(tiny / "unet/model.onnx")
    with pytest.raises(EngineError, match=r"ONNX Runtime failed in .*unet/model\.onnx") as caught:
        engine.run(bad)
    assert "\n" not in str(caught.value)
    engine.run(feeds())  # the engine has survived
    assert capfd.readouterr() == ("", "")


def test_closed_engine_is_one_engine_error(tiny: Path) -> None:
    engine = OrtEngine(tiny / "unet/model.onnx")
    engine.close()
    with pytest.raises(EngineError, match="is closed; load the package again"):
        engine.run(feeds())
    engine.close()


def test_absent_graph_is_one_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime cannot load"):
        OrtEngine(tmp_path / "absent.onnx")


def test_the_artefact_for_this_engine_is_preferred(package_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(ort, "OrtEngine", lambda path, **options: opened.append(path.name) or Silent())
    open_engine(choose(), open_package(package_copy), "unet")
    (package_copy / "unet/model.ort_cpu.onnx").write_bytes((package_copy / "unet/model.onnx").read_bytes())
    tiny_package.edit_manifest(package_copy, "files", "unet/model.ort_cpu.onnx", value={"sha256": "0" * 64, "size": 0})
    tiny_package.rehash(package_copy)
    (canonical,) = json.loads((package_copy / "manifest.json").read_text())["components"]["unet"]["artefacts"]
    files = ["unet/model.ort_cpu.onnx", "unet/model.safetensors"]
    fused = {**canonical, "name": "ort_cpu", "files": files, "engine": "ort_cpu"}
    tiny_package.edit_manifest(package_copy, "components", "unet", "artefacts", value=[canonical, fused])
    open_engine(choose("ort"), open_package(package_copy), "unet")
    assert opened == ["model.onnx", "model.ort_cpu.onnx"]


class Silent:
    """Stands for an engine that keeps every contract."""

    notices = ()

    def check_contract(self, *arguments: object) -> None:
        pass


@pytest.fixture
def fresh_search() -> Iterator[None]:
    """What is installed is looked up anew, now and after the test."""
    ort._installed.cache_clear()
    yield
    ort._installed.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    """Let these distributions of ONNX Runtime be there and no other."""

    def version(name: str) -> str:
        if name not in present:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    ort._installed.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.usefixtures("fresh_search")
@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"])
def test_two_distributions_are_one_clear_error(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    install(monkeypatch, "onnxruntime", other)
    with pytest.raises(EngineError, match=f"onnxruntime and {other} are installed together and overwrite each other"):
        import_onnxruntime()


@pytest.mark.usefixtures("fresh_search")
def test_each_distribution_alone_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    for present in ("onnxruntime", "onnxruntime-gpu"):
        install(monkeypatch, present)
        assert import_onnxruntime().__name__ == "onnxruntime"


def test_no_distribution_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"cannot be imported .*install it with `pip install 'ldm-runtime\[cpu\]'`"):
        import_onnxruntime()


@pytest.mark.parametrize("imported_before", [False, True])
def test_events_are_refused_but_where_the_caller_has_imported_onnxruntime(
    monkeypatch: pytest.MonkeyPatch, imported_before: bool, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text("refused = []\ndef disable_telemetry_events(): refused.append(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    if imported_before:
        importlib.import_module("onnxruntime")
    assert import_onnxruntime().refused == ([] if imported_before else [1])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_that_are_not_reordered_stay_in_the_file(tmp_path: Path, dtype: type) -> None:
    """64 MB of weights in float32: mapped, they take no private memory; reordered, they do."""
    write_large_graph(tmp_path, 4096, dtype)
    private = {reorder: private_megabytes(tmp_path / "model.onnx", reorder) for reorder in (True, False)}
    assert private[True] - private[False] > 50


@pytest.mark.parametrize("reorder", [True, False])
def test_weights_in_half_precision_are_computed_with_in_float32(tmp_path: Path, reorder: bool) -> None:
    weight = write_large_graph(tmp_path, 64, np.float16)
    x = np.random.default_rng(1).standard_normal((3, 64), dtype=np.float32)
    (got,) = OrtEngine(tmp_path / "model.onnx", reorder=reorder).run({"x": x}).values()
    np.testing.assert_allclose(got, x @ weight.astype(np.float32), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("more", [0, 1])
def test_large_is_a_number_of_weights_not_of_bytes(
    package_copy: Path, monkeypatch: pytest.MonkeyPatch, dtype: type, more: int
) -> None:
    file = package_copy / "unet/model.safetensors"
    weights = {name: value.astype(dtype) for name, value in safetensors.read(file).items()}
    safetensors.write(file, weights)
    tiny_package.rehash(package_copy)
    reordered: list[bool] = []
    monkeypatch.setattr(ort, "OrtEngine", lambda path, reorder, **options: reordered.append(reorder) or Silent())
    monkeypatch.setattr(rows, "_LARGE_WEIGHTS", sum(value.size for value in weights.values()) - more)
    open_engine(choose("ort"), open_package(package_copy), "unet")
    assert reordered == [more == 0]


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_what_computes_in_few_bits_is_opened_for_its_kernels(package_copy: Path, monkeypatch, precision) -> None:
    """Without prepacking and folding of constants a quantised graph is as slow as the exact one."""
    opened: list[dict[str, object]] = []
    monkeypatch.setattr(ort, "OrtEngine", lambda path, **options: opened.append(options) or Silent())
    monkeypatch.setattr(rows, "_LARGE_WEIGHTS", 1)
    monkeypatch.setattr(rows, "cpu_units", lambda: frozenset({"avx512_vnni"}))
    package = open_package(add_variants(package_copy))
    canonical, int8 = package.manifest.components["unet"].artefacts[:2]
    for artefact in (canonical, int8):
        ENGINES["ort"].open(package, "unet", artefact, Settings(precision=precision))
    entries = {} if precision is None else {"mlas.enable_gemm_fastmath_arm64_bfloat16": "1"}
    assert [each["reorder"] for each in opened] == [precision == "bf16", True]
    assert [each["entries"] for each in opened] == [entries, {**entries, **WIDE}]


def test_integers_are_multiplied_exactly_on_cpus_without_vnni(package_copy: Path, monkeypatch) -> None:
    """AVX2's own product of bytes cuts sums at 16 bits."""
    canonical, int8 = open_package(add_variants(package_copy)).manifest.components["unet"].artefacts[:2]
    for units, expected in (({"avx2"}, {"session.x64quantprecision": "1"}), ({"avx_vnni"}, {}), ({"avx512_vnni"}, {})):
        monkeypatch.setattr(rows, "cpu_units", lambda units=units: frozenset(units))
        assert rows._entries(int8, Settings()) == {**WIDE, **expected}
        assert rows._entries(canonical, Settings()) == {}


def test_weights_that_others_take_the_place_of_are_not_counted(package_copy: Path) -> None:
    add_variants(package_copy)
    weights, own = (package_copy / "unet" / name for name in ("model.safetensors", "model.int8.safetensors"))
    sizes = {name: info.length for name, info in safetensors.read_header(weights).tensors.items()}
    values = np.zeros((4, 4, 3, 3), np.int8)
    safetensors.write(own, {"conv.weight/int8": values, "conv.weight/scale": np.ones(4, np.float32)})
    tiny_package.rehash(package_copy)
    package = open_package(package_copy)
    stored = rows._stored(package, "unet", package.manifest.components["unet"].artefacts[1])
    assert sum(size for _, size in stored) == sum(sizes.values()) - sizes["conv.weight"] + 144 + 16
    assert sum(count for count, _ in stored) * 4 == sum(size for _, size in stored)


def test_entries_reach_the_session(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No CPU of ours has the kernels for bfloat16: it is tested only that ONNX Runtime is told, and takes the entry."""
    told: list[tuple[str, str]] = []
    made = ort._session_options

    def watched(*arguments: object) -> object:
        options = made(*arguments)
        entry = options.add_session_config_entry
        return SimpleNamespace(add_session_config_entry=lambda *pair: told.append(pair) or entry(*pair), real=options)

    onnxruntime = import_onnxruntime()
    create = onnxruntime.InferenceSession
    monkeypatch.setattr(ort, "_session_options", watched)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, **more: create(path, options.real, **more)
    )
    entries = {"mlas.enable_gemm_fastmath_arm64_bfloat16": "1", "session.x64quantprecision": "1"}
    OrtEngine(tiny / "unet/model.onnx", entries=entries)
    assert dict(told) == entries


def write_large_graph(folder: Path, width: int, dtype: type) -> np.ndarray:
    """y = x·weight in float32; the weight is stored as `dtype`."""
    weight = np.random.default_rng(0).standard_normal((width, width), dtype=np.float32).astype(dtype)
    header = safetensors.write(folder / "model.safetensors", {"weight": weight})
    kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
    tensor = onnx.TensorProto(name="weight", data_type=kind, dims=weight.shape, data_location=1)
    info = header.tensors["weight"]
    for key, value in (("location", "model.safetensors"), ("offset", info.offset), ("length", info.length)):
        tensor.external_data.add(key=key, value=str(value))
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["n", width]) for name in "xy")
    cast = onnx.helper.make_node("Cast", ["weight"], ["wide"], to=onnx.TensorProto.FLOAT)
    node = onnx.helper.make_node("MatMul", ["x", "wide"], ["y"])
    graph = onnx.helper.make_graph([cast, node], "large", [x], [y], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return weight


def private_megabytes(graph: Path, reorder: bool) -> float:
    program = (
        "import sys; from pathlib import Path; from ldm_runtime.engines.ort.session import OrtEngine\n"
        f"engine = OrtEngine(Path({str(graph)!r}), reorder={reorder})\n"
        "fields = [line.split() for line in open('/proc/self/status')]\n"
        "print(next(int(field[1]) for field in fields if field[0] == 'RssAnon:'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(ldm_runtime.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1000


TELEMETRY = {"XDG_CACHE_HOME": "cache", "HOME": "home", "TMPDIR": "tmp"}


def files_after(program: str, folder: Path) -> list[str]:
    """What a process leaves in the user's folders."""
    folder /= "of-the-user"  # beside, not where this process keeps its own cache
    for name in TELEMETRY.values():
        (folder / name).mkdir(parents=True)
    places = {variable: str(folder / name) for variable, name in TELEMETRY.items()}
    environment = {**os.environ, **places, "PYTHONPATH": str(Path(ldm_runtime.__file__).parents[1])}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "ort"])
def test_onnxruntime_writes_and_reports_nothing(engine: str, tiny: Path, tmp_path: Path) -> None:
    program = f"import ldm_runtime; ldm_runtime.load({str(tiny)!r}, engine={engine!r})('x', steps=1, seed=1)"
    written = files_after(program, tmp_path)
    assert len(written) == 1 and written[0].startswith("cache/ldm_runtime/hashes/"), written


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_it_was_after_the_import(before: str | None, tmp_path: Path) -> None:
    start = "" if before is None else f"os.environ['ORT_DISABLE_TELEMETRY'] = {before!r}; "
    program = (
        f"import os; {start}from ldm_runtime.engines.ort.session import import_onnxruntime; import_onnxruntime(); "
        f"assert os.environ.get('ORT_DISABLE_TELEMETRY') == {before!r}"
    )
    assert files_after(program, tmp_path) == []


def test_weights_that_do_not_fit_into_memory_are_refused_with_both_figures(tiny: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "available_memory", lambda: 100)
    with pytest.raises(
        EngineError, match="unet needs about 0.0 GB of memory in ONNX Runtime, but 0.0 GB are available"
    ):
        open_engine(choose("ort"), open_package(tiny), "unet")


def test_mapped_weights_that_do_not_fit_are_said(tiny: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "_LARGE_WEIGHTS", 0)
    monkeypatch.setattr(rows, "available_memory", lambda: 100)
    (notice,) = open_engine(choose("ort"), open_package(tiny), "unet").notices
    assert "of weights, but 0.0 GB of memory are available, so that every evaluation reads them" in notice
    for free in (2**40, None):
        monkeypatch.setattr(rows, "available_memory", lambda free=free: free)
        assert open_engine(choose("ort"), open_package(tiny), "unet").notices == ()


def test_memory_of_weights_is_their_own_where_they_are_reordered_and_mapped_where_there_are_many(monkeypatch) -> None:
    stored = [(1000, 4000), (500, 1000)]  # one in float32, one in half precision
    assert rows.weight_memory(stored) == rows.WeightMemory(own=1500 * 10, mapped=0)
    monkeypatch.setattr(rows, "_LARGE_WEIGHTS", 1499)
    assert rows.weight_memory(stored) == rows.WeightMemory(own=500 * 4 * 4, mapped=5000)


def test_what_is_said_of_an_engine_is_what_held_when_it_was_opened_last(tiny: Path, monkeypatch) -> None:
    """An engine that rests is opened again, with other memory free each time."""
    monkeypatch.setattr(rows, "_LARGE_WEIGHTS", 0)
    components = Components(open_package(tiny), choose("ort"))
    for free, said in ((100, 1), (200, 1), (2**40, 0)):
        monkeypatch.setattr(rows, "available_memory", lambda free=free: free)
        components.open("unet")
        assert len(components.notices) == said
        components.rest("unet")
    components.close()
