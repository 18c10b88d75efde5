"""Code in the current folder, such as a downloaded checkpoint's, is never run, and nothing is written for others.

Every verb is started as its installed script is: Python puts the script's folder on the path, not the current one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ldm_export.cli.main import verbs
from ldm_export.process.isolate import run_isolated
from tests.runtime import tiny_package
from tests.train.conftest import smoke_recipe, write_images

ROOT = Path(__file__).parents[2]
PLANTED = ("pickle", "struct", "json", "socket", "subprocess", "multiprocessing", "sitecustomize", "usercustomize")
PLANTED += ("numpy", "torch", "onnx", "onnxruntime", "openvino", "tokenizers", "PIL", "click", "pip")
PLANTED += ("ldm_export", "ldm_runtime")


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return tiny_package.make(tmp_path_factory.mktemp("package") / "tiny")


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A folder with modules that leave a file when they run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'PWNED')!r}, 'w').close(); raise ImportError('planted')\n"
        )
    return folder


def script(folder: Path) -> list[str]:
    """The command that an installation makes."""
    file = folder / "bin" / "ldm-export"
    file.parent.mkdir(exist_ok=True)
    file.write_text("import sys\nfrom ldm_export.cli.main import main\nsys.exit(main())\n")
    return [sys.executable, str(file)]


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}",
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PATH": "",  # no npm
    }


def run_in(hostile: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [*script(hostile.parent), *map(str, arguments)]
    settings = environment(hostile.parent)
    return subprocess.run(command, cwd=hostile, env=settings, capture_output=True, text=True, timeout=300)


def assert_clean(hostile: Path) -> None:
    """Nothing planted ran, and the user's folders hold our own caches and matplotlib's list of fonts alone."""
    assert not (hostile / "PWNED").exists()
    written = [
        file.relative_to(hostile.parent) for name in ("home", "cache") for file in (hostile.parent / name).rglob("*")
    ]
    allowed = re.compile(r"cache/(ldm_runtime|matplotlib)(/.*)?|home/\.config(/matplotlib)?")
    assert all(allowed.fullmatch(file.as_posix()) for file in written), written


DRAWING = ("--prompt", "red", "--steps", "1")
# Verb -> its arguments with the package's place, and the exit code.
QUICK = {
    "run": (("{package}", *DRAWING, "--out", "a.png"), 0),
    "interpolate": (("{package}", *DRAWING, "--frames", "2", "--out", "a.gif"), 0),
    "plan": (("{package}", "--plot", "p.png"), 0),
    "inspect": (("{package}",), 0),
    "analyze": (("{package}", "--data", "no-images"), 1),
    "engines": ((), 0),
    "train": (("no.toml",), 1),
    "data": (("--out", "pictures"), 1),
}
SLOW = {
    "bench": (("{package}", "--engine", "ort", "--rounds", "1", "--steps", "1"), 0),
    "verify": ((), 0),
    "tune": (("{package}", "--budget", "exact", "--minutes", "0.01"), 0),
}


def test_every_verb_is_tried():
    assert {*QUICK, *SLOW, "build"} == set(verbs.commands)


@pytest.mark.slow
@pytest.mark.parametrize("verb", QUICK)
def test_a_verb_runs_nothing_from_the_current_folder(verb, hostile, package):
    arguments, code = QUICK[verb]
    done = run_in(hostile, verb, *(each.format(package=package) for each in arguments))
    assert done.returncode == code, done.stderr
    assert_clean(hostile)


@pytest.mark.slow
@pytest.mark.parametrize("verb", SLOW)
def test_a_verb_that_measures_runs_nothing_from_the_current_folder(verb, hostile, package):
    arguments, code = SLOW[verb]
    done = run_in(hostile, verb, *(each.format(package=package) for each in arguments))
    assert done.returncode == code, done.stderr
    assert_clean(hostile)


@pytest.mark.slow
def test_the_stages_of_a_build_run_nothing_from_the_current_folder(hostile):
    command = [*script(hostile.parent), "build", "--out", "built"]
    process = subprocess.Popen(command, cwd=hostile, env=environment(hostile.parent), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("tracing" in line for line in process.stderr)  # said by a stage's process
    process.terminate()
    process.communicate(timeout=60)
    assert_clean(hostile)


@pytest.mark.slow
def test_a_training_runs_nothing_from_the_current_folder(hostile):
    """To its end, a step or two of everything: it imports, traces and compiles more than the verb's first check."""
    write_images(hostile / "data-cache" / "smoke")
    smoke_recipe(
        hostile, ("steps = 12", "steps = 2"), ("warmup_steps = 2", "warmup_steps = 1"), ("steps = 4", "steps = 1")
    )
    done = run_in(hostile, "train", "recipe.toml")
    assert done.returncode == 0, done.stderr
    assert (hostile / "runs" / "smoke" / "checkpoint" / "model_index.json").is_file()
    assert_clean(hostile)


def test_what_is_planted_would_run_in_a_python_without_the_safe_path(hostile):
    subprocess.run([sys.executable, "-c", "import pickle"], cwd=hostile, capture_output=True)
    assert (hostile / "PWNED").exists()


def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["", "."])
def test_a_stage_is_safe_where_the_caller_s_path_has_the_current_folder(entry, hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(sys, "path", [entry, *sys.path])
    assert run_isolated(add, 1, 2).value == 3
    assert_clean(hostile)
