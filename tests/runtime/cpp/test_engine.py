"""ONNX Runtime driven by the C++ library: what Python's gives, to the bit, with the oldest and the installed one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldm_runtime.engines.choice import artefact_for
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package
from tests.test_golden import GOLDEN, change, load, tensors

pytestmark = pytest.mark.slow

API = Path(__file__).parents[3] / "runtime" / "cpp" / "src" / "engines" / "onnxruntime" / "api.h"


def evaluate(
    programs: Path, library: Path, *arguments: object, cache: Path, home: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LDM_ONNXRUNTIME": str(library), "XDG_CACHE_HOME": str(cache)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    return subprocess.run(
        [str(programs / "evaluate"), *map(str, arguments)], capture_output=True, env=environment, cwd=home
    )


def outputs_of(content: bytes) -> dict[str, np.ndarray]:
    outputs = {}
    while content:
        line, _, content = content.partition(b"\n")
        name, dtype, *shape = line.decode().split()
        sizes = [int(size) for size in shape]
        used = int(np.prod(sizes)) * np.dtype(dtype).itemsize
        outputs[name], content = np.frombuffer(content[:used], dtype).reshape(sizes), content[used:]
    return outputs


@pytest.mark.parametrize("weights", ["reordered", "mapped"])
def test_text_encoder_of_the_built_in_model(
    programs: Path, onnxruntime_library: Path, tmp_path: Path, weights: str
) -> None:
    """Equal to the bit: the same library, with the same options."""
    package = open_package(builtin_package())
    contract = package.manifest.contract
    text = contract.text[0]
    ids = np.random.default_rng(1).integers(0, text.tokenizer.vocab_size, (2, contract.window))
    ids = ids.astype(contract.tensor(text.component, text.input).dtype)
    safetensors.write(tmp_path / "inputs.safetensors", {text.input: ids})
    arguments = (package.path, text.component, weights, tmp_path / "inputs.safetensors")
    done = evaluate(programs, onnxruntime_library, *arguments, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    outputs = outputs_of(done.stdout)
    graph = package.file(artefact_for("ort", package, text.component).file)
    expected = OrtEngine(graph, reorder=weights == "reordered").run({text.input: ids})
    assert set(outputs) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(outputs[name], values)


def test_signature_of_a_graph(programs: Path, onnxruntime_library: Path, tmp_path: Path) -> None:
    cases = [case for case in load("packages") if case["code"] == "graph.signature"]
    assert cases
    for index, case in enumerate(cases):
        folder = Path(shutil.copytree(GOLDEN / "package", tmp_path / str(index)))
        change(folder, case["edits"])
        done = evaluate(programs, onnxruntime_library, folder, cache=tmp_path / "cache")
        assert (done.returncode, done.stdout) == (1, b"graph.signature\n"), done.stderr


def test_no_telemetry(programs: Path, onnxruntime_library: Path, tmp_path: Path) -> None:
    """It writes an identity of the machine where it is on; nothing but our hashes is in the cache."""
    for each in ("cache", "home"):
        (tmp_path / each).mkdir()
    done = evaluate(programs, onnxruntime_library, GOLDEN / "package", cache=tmp_path / "cache", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"ldm_runtime"}
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_LIBRARY_PATH is Linux's")
def test_no_telemetry_where_the_system_finds_it(programs: Path, onnxruntime_library: Path, tmp_path: Path) -> None:
    for each in ("cache", "home", "libraries"):
        (tmp_path / each).mkdir()
    (tmp_path / "libraries" / "libonnxruntime.so").symlink_to(onnxruntime_library)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "libraries"), "HOME": str(tmp_path / "home")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    for name in ("LDM_ONNXRUNTIME", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    done = subprocess.run([programs / "evaluate", GOLDEN / "package"], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"ldm_runtime"}
    assert not list((tmp_path / "home").iterdir())


def test_another_onnxruntime(programs: Path, tmp_path: Path) -> None:
    """The variable LDM_ONNXRUNTIME_OLD names the library of 1.20, where there is one."""
    library = os.environ.get("LDM_ONNXRUNTIME_OLD")
    if library is None:
        pytest.skip("LDM_ONNXRUNTIME_OLD does not name an older ONNX Runtime")
    values, case = tensors("graphs"), load("graphs")[1]
    inputs = {name: values[key] for name, key in case["inputs"].items()}
    safetensors.write(tmp_path / "inputs.safetensors", inputs)
    arguments = (GOLDEN / "package", case["component"], "reordered", tmp_path / "inputs.safetensors")
    done = evaluate(programs, Path(library), *arguments, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    expected = values[case["outputs"]["out_sample"]]
    np.testing.assert_allclose(outputs_of(done.stdout)["out_sample"], expected, rtol=0, atol=1e-6)


def declared() -> dict[str, int]:
    """The functions that api.h declares, and their places."""
    found = re.findall(r"FUNCTION\(\d+, (\d+), (\w+),", API.read_text())
    return {name: int(place) for place, name in found}


def test_places_of_functions() -> None:
    """The variable LDM_ONNXRUNTIME_HEADER names an onnxruntime_c_api.h, where there is one."""
    places = declared()
    assert len(places) > 50 and sorted(places.values()) == list(places.values())
    header = os.environ.get("LDM_ONNXRUNTIME_HEADER")
    if header is None:
        pytest.skip("LDM_ONNXRUNTIME_HEADER does not name a header of ONNX Runtime")
    table = table_of(Path(header).read_text())
    there = {name: place for name, place in places.items() if place < len(table)}
    assert len(there) > 40
    assert there == {name: table.index(name) for name in there}


def table_of(header: str) -> list[str]:
    """Return the names of OrtApi's functions in their order."""
    header = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
    body = header[re.search(r"struct OrtApi \{", header).end() :]  # type: ignore[union-attr]
    names = []
    for declaration in body[: body.index("\n};")].split(";"):
        found = re.search(
            r"ORT_CLASS_RELEASE\(\s*(\w+)|ORT_API2_STATUS\(\s*(\w+)|\(ORT_API_CALL\*\s*(\w+)\)", declaration
        )
        if found is not None:
            released, *others = found.groups()
            names.append(f"Release{released}" if released else next(filter(None, others)))
    return names
