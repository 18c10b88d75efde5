"""OpenVINO as a plugin of the C++ library: what Python's engine of that name gives, from the same files and caches."""

import ctypes
import dataclasses
import os
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.errors import LdmError
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import BUILTIN
from tests import hub_cache
from tests.cpp.cpp_build import built, ctest, run
from tests.runtime import tiny_package
from tests.runtime.cpp.context import Refusal
from tests.runtime.cpp.library import Library
from tests.runtime.cpp.test_engine import outputs_of
from tests.runtime.engines.test_openvino import add_openvino_graph
from tests.runtime.engines.test_ort import feeds
from tests.runtime.lossy_package import BF16, variant, with_variants
from tests.runtime.notices import said
from tests.tiny_build import TinyBuild

pytestmark = pytest.mark.slow
LATENTS = {"latent_sample": np.ones((1, 4, 4, 4), np.float32)}


@pytest.fixture(scope="module")
def release() -> Path:
    """The release build of the other tests, and the plugin."""
    spec = find_spec("openvino")
    assert spec is not None and spec.origin is not None
    return built("cpp", LDM_BUILD_OPENVINO="ON", OpenVINO_DIR=str(Path(spec.origin).parent / "cmake"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, of Python and C++."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ldm_runtime"


def evaluated(release: Path, package: Path, component: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Evaluate a component in C++, where no ONNX Runtime can be found."""
    environment = {**os.environ, "LDM_OPENVINO": str(release / "libldm_openvino.so"), "LDM_ONNXRUNTIME": "/nowhere.so"}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.safetensors"
        safetensors.write(file, inputs)
        command = [str(release / "tests" / "evaluate"), str(package), component, "openvino", str(file)]
        done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    return outputs_of(done.stdout)


def opened(release: Path, **options: Any) -> Library:
    """The library with the built-in model."""
    files = (release / "libldm_runtime.so", release / "libldm_openvino.so", Path(BUILTIN))
    return Library(*files, engine=b"openvino", **options)


def evaluated_by_python(package: Path, component: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    engine = open_engine(choose("openvino"), open_package(package), component).engine
    try:
        return engine.run(inputs)
    finally:
        engine.close()


def test_the_installed_tool_draws_python_s_image(release: Path, tmp_path: Path) -> None:
    out, prompt = tmp_path / "image.png", "red apple, 3d style"
    run("cmake", "--install", release, "--prefix", tmp_path / "installed")
    given = ["--engine", "openvino", "--prompt", prompt, "--seed", "3", "--steps", "4", "--out", out]
    run(str(tmp_path / "installed" / "bin" / "ldm"), "run", BUILTIN, *given)
    with ldm_runtime.load(engine="openvino") as pipe:
        expected = pipe(prompt, seed=3, steps=4)[0]
    with Image.open(out) as image:
        assert image.info == expected.info
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_latents_are_python_s(release: Path) -> None:
    options = {"seed": 5, "steps": 6, "size": (96, 128), "sampler": "dpmpp_2m", "negative": "blue"}
    with ldm_runtime.load(engine="openvino") as pipe:
        *_, last = pipe.sample("red apple, 3d style", **options)
        expected = last.latents
    with opened(release) as library:
        latents = library.sample("red apple, 3d style", **options).draw().latents
    assert latents.shape == expected.shape
    assert np.sqrt(np.mean((latents - expected) ** 2) / np.mean(expected**2)) <= 1e-5


def test_a_first_text_of_one_token_spoils_none_of_those_that_come_later(
    release: Path, tiny_build: Callable[[str], TinyBuild]
) -> None:
    package = tiny_build("sd15").package
    files = (release / "libldm_runtime.so", release / "libldm_openvino.so", package)
    options = {"seed": 5, "steps": 2, "guidance": 1.0}
    with ldm_runtime.load(package) as pipe:
        token = pipe.embed("red")[:, :1]
    with Library(*files, engine=b"openvino") as fresh:
        expected = fresh.sample("red", **options).draw().latents
        expected_of_one = fresh.sample(None, prompt_embeds=token, **options).draw().latents
    with Library(*files, engine=b"openvino") as library:
        of_one = library.sample(None, prompt_embeds=token, **options).draw().latents
        found = library.sample("red", **options).draw().latents
    for got, wanted in ((found, expected), (of_one, expected_of_one)):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def drawn(package: Path, **lossy: str) -> tuple[np.ndarray | None, list[str]]:
    """Python's latents and notices; or none, and the sentence of its refusal."""
    try:
        with ldm_runtime.load(package, **lossy) as pipe:
            run = pipe.sample("red", seed=3)
            return list(run)[-1].latents, said(run)
    except LdmError as refusal:
        return None, [str(refusal)]


def drawn_by_library(release: Path, package: Path, **lossy: str) -> tuple[np.ndarray | None, list[str]]:
    files, given = (release / "libldm_runtime.so", onnxruntime()), {key: text.encode() for key, text in lossy.items()}
    try:
        with Library(*files, package, **given) as library:
            told = list(library.said)
            run = library.sample("red", seed=3, variant=lossy.get("variant")).draw()
            return run.latents, told + run.notices
    except Refusal as refusal:
        return None, [refusal.text]


def onnxruntime() -> Path:
    spec = find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    return next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_variant_beside_onnx_runtime_computes_in_its_precision(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    """Where the CPU has no unit for it, both runtimes refuse it in the same words."""
    monkeypatch.setenv("LDM_OPENVINO", str(release / "libldm_openvino.so"))
    package = tiny_package.make(tmp_path / "package")
    way = dataclasses.replace(BF16, precision=precision, units=())
    with_variants(package, variant("lossy", 30.0, 0.5, ways={"unet": way}, sampler="ddim"))
    (expected, told), (found, said_by_library) = (
        drawn(package, variant="lossy"),
        drawn_by_library(release, package, variant="lossy"),
    )
    assert said_by_library == told
    assert (found is None) == (expected is None)
    if expected is not None and found is not None:
        assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) <= 1e-6


def test_options_for_onnx_runtime_are_refused_where_a_variant_leaves_it_nothing(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDM_OPENVINO", str(release / "libldm_openvino.so"))
    package = tiny_package.make(tmp_path / "package")
    way = dataclasses.replace(BF16, precision="fp32", units=())
    ways = dict.fromkeys(open_package(package).manifest.components, way)
    with_variants(package, variant("lossy", 30.0, 0.5, ways=ways, sampler="ddim"))
    keys, values = (ctypes.c_char_p * 1)(b"device_id"), (ctypes.c_char_p * 1)(b"1")
    pairs = {"provider_keys": ctypes.addressof(keys), "provider_values": ctypes.addressof(values)}
    with pytest.raises(Refusal, match="there are options for the engine ort, which has none"):
        Library(
            release / "libldm_runtime.so", onnxruntime(), package, variant=b"lossy", provider_option_count=1, **pairs
        )


@pytest.mark.parametrize(("key", "value"), [(b"BEADS", b"10"), (b"INFERENCE_PRECISION_HINT", b"f8")])
def test_a_property_that_openvino_does_not_know_is_refused(release: Path, key: bytes, value: bytes) -> None:
    keys, values = (ctypes.c_char_p * 1)(key), (ctypes.c_char_p * 1)(value)
    pairs = {"provider_keys": ctypes.addressof(keys), "provider_values": ctypes.addressof(values)}
    with pytest.raises(Refusal, match="OpenVINO cannot load .*model.onnx: ") as caught:
        opened(release, **pairs, provider_option_count=1)
    assert caught.value.code == "engine.failed"


@pytest.mark.parametrize("component", ["text_encoder", "unet", "vae_decoder"])
def test_a_component_of_the_built_in_model_computes_the_same(release: Path, cache: Path, component: str) -> None:
    package = open_package(BUILTIN)
    sizes = {name: axis.proven[0] for name, axis in package.manifest.contract.axes.items()}
    generator, inputs = np.random.default_rng(1), {}
    for spec in package.manifest.contract.components[component].inputs:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims]
        inputs[spec.name] = np.asarray(generator.uniform(0, 9, shape), spec.dtype)
    expected = evaluated_by_python(package.path, component, inputs)
    made = evaluated(release, package.path, component, inputs)
    assert set(made) == set(expected)
    for name, values in expected.items():
        assert made[name].shape == values.shape
        assert np.sqrt(np.mean((made[name] - values) ** 2) / np.mean(values**2)) <= 1e-6


def test_what_was_compiled_is_kept_for_both_runtimes(release: Path, cache: Path, tmp_path: Path) -> None:
    package = tiny_package.make(tmp_path / "package")
    add_openvino_graph(package, scale=2.0)
    expected = evaluated_by_python(package, "vae_decoder", LATENTS)["sample"]
    kept = {file: file.stat().st_mtime_ns for file in (cache / "openvino").rglob("*") if file.is_file()}
    assert kept
    np.testing.assert_array_equal(evaluated(release, package, "vae_decoder", LATENTS)["sample"], expected)
    assert kept == {file: file.stat().st_mtime_ns for file in (cache / "openvino").rglob("*") if file.is_file()}
    canonical = evaluated(release, tiny_package.make(tmp_path / "canonical"), "vae_decoder", LATENTS)["sample"]
    assert np.abs(canonical - expected).max() > 0.1  # of other weights


def test_a_snapshot_of_a_hub_is_read_through_hard_links(release: Path, cache: Path, tmp_path: Path) -> None:
    package = tiny_package.make(tmp_path / "package")
    add_openvino_graph(package, scale=1.0)
    snapshot = hub_cache.make(package, tmp_path / "hub")
    for component, inputs in (("unet", feeds()), ("vae_decoder", LATENTS)):
        expected, made = (evaluated(release, folder, component, inputs) for folder in (package, snapshot))
        for name, values in expected.items():
            np.testing.assert_array_equal(made[name], values)
    assert not list(cache.glob(".ldm-*"))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--library", "/nowhere/libldm_openvino.so"], "engine.unavailable", "no plugin for OpenVINO at /nowhere"),
        (["--library", "{release}/libldm_runtime.so"], "engine.unavailable", "has no function ldm_engine_plugin"),
        (["--library", "{release}/tests/libfuture_plugin.so"], "engine.unavailable", "this library takes version 2"),
        (["--provider", "ABACUS"], "engine.unavailable", "OpenVINO has no device 'ABACUS' here; it has CPU"),
    ],
)
def test_what_is_not_there_is_one_sentence(release: Path, arguments: list[str], code: str, sentence: str) -> None:
    given = [argument.format(release=release) for argument in arguments]
    command = [release / "ldm", "run", BUILTIN, "--engine", "openvino", "--prompt", "x", *given]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 1 and sentence in done.stderr and f"[{code}]" in done.stderr


def test_the_plugin_exports_one_function(release: Path) -> None:
    lines = run("nm", "-D", "--defined-only", release / "libldm_openvino.so").splitlines()
    assert [line.split()[-1] for line in lines] == ["ldm_engine_plugin"]


def test_of_the_plugin_s_build(release: Path) -> None:
    ctest(release, "openvino_test")
