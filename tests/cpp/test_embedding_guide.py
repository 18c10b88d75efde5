"""The programs of the page on embedding are compiled and run, all from the page, and draw what the runtime draws."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.noise.philox import philox_normal
from ldm_runtime.package.open import open_package
from ldm_runtime.text.tokenizer import Tokenizer
from tests.cpp.cpp_build import ROOT, built, environment, program, run

PAGE = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "runtime" / "ldm_runtime" / "builtin"
PROMPT = "red apple, 3d style"  # of all programs, with seed 1
FILES = {
    name: block
    for block in re.findall(r"^```(?:c|cpp|cmake|python)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"\A(?:/\*|//|#) ([\w.]+)", block)
}


def test_every_program_of_the_page_has_a_name():
    fenced = re.findall(r"^```(\w+)$", PAGE, flags=re.MULTILINE)
    assert len([kind for kind in fenced if kind != "sh"]) == len(FILES)
    named = {
        "draw.c",
        "steps.cpp",
        "CMakeLists.txt",
        "embedded.cmake",
        "draw.py",
        "own_engine.py",
        "bare.py",
        "memory.c",
    }
    assert set(FILES) == named


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """What all of the page's programs draw."""
    with ldm_runtime.load(PACKAGE, engine="ort") as pipe:
        return np.asarray(pipe(PROMPT, seed=1)[0])


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    run("cmake", "--install", built("cpp"), "--prefix", folder)
    return folder


@pytest.fixture(scope="module")
def programs(native: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page's programs, built as the page says."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    make = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}")
    run("cmake", "-S", folder, "-B", folder / "out", *make, f"-DCMAKE_PREFIX_PATH={native}")
    run("cmake", "--build", folder / "out")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["draw", "steps"])
def test_the_programs_in_c_and_cpp_draw(programs, expected, tmp_path, name):
    run(str(programs / "out" / name), PACKAGE, tmp_path / "apple.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "apple.png")), expected)


@pytest.mark.slow
def test_a_failure_is_reported_by_its_code(programs, tmp_path):
    asked = [str(programs / "out" / "draw"), str(tmp_path / "nothing"), "apple.png"]
    result = subprocess.run(asked, capture_output=True, text=True, env=environment())
    assert result.returncode == 1 and result.stderr.startswith("package.missing: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["draw.py", "own_engine.py"])
def test_the_programs_with_ctypes_draw(programs, native, expected, tmp_path, name):
    library = next(native.rglob("libldm_runtime.*so*"))
    run(sys.executable, programs / name, library, PACKAGE, tmp_path / "apple.png")
    levels = np.abs(np.asarray(Image.open(tmp_path / "apple.png"), int) - expected).max()
    assert levels <= (1 if name == "own_engine.py" else 0)  # which runs other graphs of the same functions


@pytest.mark.slow
def test_the_allocator_in_c_compiles_without_a_warning(programs, native):
    warnings = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
    run("cc", *warnings, "-c", programs / "memory.c", f"-I{native / 'include'}", "-o", programs / "memory.o")


@pytest.mark.slow
def test_a_host_with_bare_onnxruntime_draws_the_same_image(programs, expected, native):
    """The plan is the tool's, as the page says; one level for sums in float64."""
    plan = json.loads(run(str(native / "bin" / "ldm"), "plan", PACKAGE))
    package = open_package(PACKAGE)
    contract = package.manifest.contract
    ids = Tokenizer(package, contract.text[0].tokenizer).encode(["", PROMPT]).ids
    noise = philox_normal(1, 0, (contract.latent.channels, 16, 16))[np.newaxis]
    page: dict = {}
    exec(FILES["bare.py"], page)
    image = page["draw"](PACKAGE, plan, ids, noise)
    assert np.abs(image.astype(int) - expected).max() <= 1
