"""Where the tool `ldm` writes: what stands in the way of an output, and what ends a run."""

import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ldm_runtime.pipeline import BUILTIN
from tests.cpp.cpp_build import environment
from tests.cpp.tool_runs import draw, ldm, sentence

pytestmark = pytest.mark.slow


def test_a_dot_in_a_folder_is_no_ending(tool, tmp_path):
    folder = tmp_path / "v1.5"
    folder.mkdir()
    assert draw(tool, folder / "a.png", "--count", "2").returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.png", "a-2.png"]
    assert sentence(draw(tool, folder / "a"), 2).startswith(f"the output {folder}/a should end in .png")


def test_outputs_are_checked_before_anything_is_drawn(tool, tmp_path):
    """And before the engine is opened: its library would be missing."""
    (tmp_path / "a-2.png").write_text("kept")
    (tmp_path / "link.png").symlink_to("a-2.png")
    (tmp_path / "folder.png").mkdir()
    missing = ("--library", "/nowhere.so")
    cases = {"missing/a.png": "does not exist", "link.png": "is a link", "folder.png": "a folder has that name"}
    for name, why in cases.items():
        said = sentence(draw(tool, tmp_path / name, *missing), 1)
        assert why in said and str(tmp_path / name) in said and said.endswith("[output.refused]")
    said = sentence(draw(tool, tmp_path / "a.png", "--count", "2", *missing), 1)
    assert said.startswith(f"{tmp_path}/a-2.png exists already") and (tmp_path / "a-2.png").read_text() == "kept"
    assert sentence(draw(tool, Path("/proc/a.png"), *missing), 1).endswith("[output.refused]")
    assert not (tmp_path / "a-1.png").exists()


def test_what_is_there_is_replaced_if_it_may_be(tool, tmp_path):
    (tmp_path / "a.png").write_text("old")
    assert draw(tool, tmp_path / "a.png", "--force").returncode == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (128, 128)


def limit_files() -> None:
    """As on a full disk: no file may have more than 1,000 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_disk_that_is_full_leaves_nothing(tool, tmp_path):
    done = draw(tool, tmp_path / "a.png", preexec_fn=limit_files)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith("[output.refused]")
    assert "cannot write" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["inspect", BUILTIN], ["plan", BUILTIN], ["run", "--help"]]
)
def test_a_result_that_cannot_be_printed_is_an_error(tool, arguments):
    with open("/dev/full", "w") as full:
        done = ldm(tool, *arguments, stdout=full)
    assert sentence(done, 1) == "the work is done, but its result could not be printed: No space left on device"


def interrupted(tool: Path, folder: Path, number: int, **how: Any) -> "tuple[int, str]":
    """Send a signal while an image is drawn."""
    command = [tool, "run", BUILTIN, "--prompt", "x", "--steps", "999", "--out", folder / "a.png"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment(), **how)
    assert process.stderr is not None
    process.stderr.readline()  # a step, after two seconds
    process.send_signal(number)
    return process.wait(timeout=60), process.stderr.read()


def test_ctrl_c_ends_a_run_with_130_and_leaves_nothing(tool, tmp_path):
    started = time.monotonic()
    status, said = interrupted(tool, tmp_path, signal.SIGINT)
    assert status == 130 and said.endswith("\ninterrupted\n") and not list(tmp_path.iterdir())
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_terminate_does_too(tool, tmp_path, number):
    heard: Callable[[], object] = lambda: signal.signal(number, signal.SIG_DFL)  # noqa: E731
    status, _ = interrupted(tool, tmp_path, number, preexec_fn=heard)
    assert status == 128 + number and not list(tmp_path.iterdir())


def test_a_file_that_may_not_grow_is_an_error_of_the_write(tool, tmp_path):
    command = [tool, "run", BUILTIN, "--prompt", "x", "--steps", "1", "--out", tmp_path / "a.png"]
    limit: Callable[[], object] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment(), preexec_fn=limit)
    assert done.returncode == 1 and "cannot write" in done.stderr and not list(tmp_path.iterdir())


def test_who_starts_it_may_have_ctrl_c_ignored(tool, tmp_path):
    command = [tool, "run", BUILTIN, "--prompt", "x", "--steps", "2", "--out", tmp_path / "a.png"]
    ignoring: Callable[[], object] = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    process = subprocess.Popen(list(map(str, command)), env=environment(), preexec_fn=ignoring)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0 and (tmp_path / "a.png").exists()


# --- help and descriptions ----------------------------------------------------------------------------------------
