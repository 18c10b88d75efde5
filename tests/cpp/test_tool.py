"""The tool `ldm`: every option, every kind of bad value, and what stands in the way of an output."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ldm_runtime
from ldm_export.cli.main import verbs
from ldm_runtime.pipeline import BUILTIN, Pipeline
from tests.cpp.cpp_build import SOURCE, built, environment

pytestmark = pytest.mark.slow
PROMPT = "red apple, 3d style"
VERBS = ("run", "inspect", "plan", "verify")


@pytest.fixture(scope="module")
def tool() -> Path:
    return built("cpp") / "ldm"


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with ldm_runtime.load() as opened:
        yield opened


def ldm(tool: Path, *arguments: str | Path, **how: Any) -> "subprocess.CompletedProcess[str]":
    """Run the tool."""
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "env": environment(), **how}
    return subprocess.run([tool, *map(str, arguments)], stderr=subprocess.PIPE, text=True, timeout=300, **settings)


def draw(tool: Path, out: Path, *arguments: str | Path, **how: Any) -> "subprocess.CompletedProcess[str]":
    given = ("run", BUILTIN, "--prompt", PROMPT, "--seed", "3", "--steps", "2", "--check", "size", "--out", out)
    return ldm(tool, *given, *arguments, **how)


def sentence(done: "subprocess.CompletedProcess[str]", status: int) -> str:
    """Return the one sentence of a run that failed with this status, having printed nothing else."""
    assert (done.returncode, done.stdout or "") == (status, ""), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0].removeprefix("error: ")


# --- options ------------------------------------------------------------------------------------------------------

OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    (["--negative", "blue"], {"negative": "blue"}),
    (["--count", "2"], {"count": 2}),
    (["--steps", "1"], {"steps": 1}),
    (["--guidance", "7.5"], {"guidance": 7.5}),
    (["--guidance", "0"], {"guidance": 0.0}),
    (["--guidance-rescale", "0.5"], {"guidance_rescale": 0.5}),
    (["--guidance-interval", "0.2:0.8"], {"guidance_interval": (0.2, 0.8)}),
    (["--sampler", "unipc:order=3"], {"sampler": "unipc:order=3"}),
    (["--stop-after", "1"], {"stop_after": 1}),
    (["--size", "96X128"], {"size": (96, 128)}),
    (["--weighted"], {"syntax": "weighted"}),
    (["--noise", "torch"], {"noise": "torch"}),
    (["--variation", "18446744073709551615:0.25"], {"variation": (2**64 - 1, 0.25)}),
    (["--seed=18446744073709551615"], {"seed": 2**64 - 1}),
    (["--threads", "1", "--provider", "cpu", "--check", "cached"], {}),
]


@pytest.mark.parametrize(("arguments", "options"), OPTIONS, ids=[" ".join(each) for each, _ in OPTIONS])
def test_an_option_is_python_s(tool, pipe, tmp_path, arguments, options):
    done = draw(tool, tmp_path / "image.png", *arguments)
    assert done.returncode == 0, done.stderr
    expected = pipe(PROMPT, **{"seed": 3, "steps": 2, **options})
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(expected)
    for file, image in zip(files, expected, strict=True):
        with Image.open(file) as found:
            assert found.info == image.info and found.size == image.size
            assert np.abs(np.asarray(found, int) - np.asarray(image, int)).max() <= 1
    printed = [f"{file} (seed {image.info['seed']})" for file, image in zip(files, expected, strict=True)]
    assert done.stdout.splitlines() == printed


def test_images_to_start_from_are_python_s(tool, pipe, tmp_path):
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    pipe(PROMPT, seed=1, steps=2)[0].save(start)
    Image.fromarray(np.uint8(np.arange(128)[None, :] > 63) * np.full((128, 1), 255, np.uint8)).save(mask)
    done = draw(tool, tmp_path / "out.png", "--image", start, "--mask", mask, "--strength", "0.75", "--steps", "4")
    assert done.returncode == 0, done.stderr
    with Image.open(start) as image, Image.open(mask) as kept, Image.open(tmp_path / "out.png") as found:
        assert found.info == pipe(PROMPT, seed=3, steps=4, image=image, mask=kept, strength=0.75)[0].info


def test_several_prompts_are_images_of_their_own(tool, pipe, tmp_path):
    prompts = ["red apple, 3d style", ""]
    given = [word for prompt in prompts for word in ("--prompt", prompt)]
    done = ldm(tool, "run", BUILTIN, *given, "--seed", "3", "--steps", "1", "--out", "a.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, image in zip(("a-1.png", "a-2.png"), pipe(prompts, seed=3, steps=1), strict=True):
        with Image.open(tmp_path / name) as found:
            assert found.info == image.info
    negatives = ["--negative", "one", "--negative", "two"]
    done = ldm(tool, "run", BUILTIN, *given, *negatives, "--seed", "3", "--steps", "1", "--out", "b.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "b-2.png") as found:
        assert found.info == pipe(prompts, negative=["one", "two"], seed=3, steps=1)[1].info
    done = ldm(tool, "run", BUILTIN, *given, *negatives, "--negative", "three")
    assert "--negative got '3 texts', expected one for all prompts, or one for each of 2" in sentence(done, 2)


def test_a_seed_is_told_where_none_was_given(tool, tmp_path):
    given = ("run", BUILTIN, "--prompt", "x", "--steps", "1", "--out", tmp_path / "a.png")
    first, second = (ldm(tool, *given, "--force").stdout for _ in range(2))
    assert re.fullmatch(r".*a\.png \(seed \d+\)\n", first) and first != second


# --- bad values ---------------------------------------------------------------------------------------------------

NO_NUMBERS = ["", " 1", "1 ", "nan", "inf", "-inf", "0x10", "1e999", "+", "-", "one", "1,5", "0b1"]
BAD = {
    "--seed": [*NO_NUMBERS, "-1", "1.5", "18446744073709551616"],
    **{
        option: [*NO_NUMBERS, "0", "-1", "1.5", "2147483648"]
        for option in ("--count", "--steps", "--stop-after", "--threads")
    },
    **{option: NO_NUMBERS for option in ("--guidance", "--guidance-rescale", "--strength")},
    "--guidance-interval": ["", ":", "0", "0:", ":1", "0:nan", "0:inf", "0:1:2", "0-1"],
    **{
        option: ["", "x", "512", "512x", "0x0", "0x512", "-8x8", "8x8x8", "8*8", "0x10x8", "99999999999x8", "8 x8"]
        for option in ("--size", "--original-size", "--target-size")
    },
    "--crop-top-left": ["", ":", "1", "-1:0", "0:x", "0:0:0", "1.5:0"],
    "--variation": ["", "7", ":0.2", "7:", "-1:0.2", "7:nan", "7:0x1", "1.5:0.2"],
    "--check": ["", "fast", "Full"],
    "--provider-option": ["", "device_id", "=1"],
}


@pytest.mark.parametrize("option", BAD)
def test_a_bad_value_is_one_sentence(tool, tmp_path, option):
    for value in BAD[option]:
        said = sentence(ldm(tool, "run", BUILTIN, "--prompt", "x", option, value, cwd=tmp_path), 2)
        assert said.startswith(f"{option} got '{value}', expected "), said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--guidance", "-1e300"], "request.invalid"),
        (["--guidance-rescale", "1.5"], "request.invalid"),
        (["--guidance-interval", "0.8:0.2"], "request.invalid"),
        (["--variation", "7:1.5"], "request.invalid"),
        (["--steps", "100000"], "request.invalid"),
        (["--stop-after", "9"], "request.invalid"),
        (["--count", "2147483647"], "request.batch"),
        (["--size", "999999x8"], "request.size"),
        (["--sampler", "eular"], "request.sampler"),
        (["--noise", "brown"], "request.noise"),
        (["--provider", "none"], "request.engine"),
        (["--provider-option", "device_id=1"], "request.engine"),
        (["--threads", "100000"], "request.invalid"),
        (["--library", "/nowhere/libonnxruntime.so"], "engine.unavailable"),
        (["--library", "/dev/null"], "engine.unavailable"),
        (["--prompt", "\udcff"], "request.prompt"),
    ],
)
def test_what_the_library_refuses_is_one_sentence_with_its_code(tool, tmp_path, arguments, code):
    assert sentence(draw(tool, tmp_path / "a.png", *arguments), 1).endswith(f"[{code}]")
    assert not list(tmp_path.iterdir())


def test_images_that_cannot_be_read_are_one_sentence(tool, tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.zeros((128, 128, 3), np.uint8)).save(whole)
    data = whole.read_bytes()
    broken = {
        "cut": data[: len(data) // 2],
        "flipped": data[:50] + bytes([data[50] ^ 1]) + data[51:],
        "text": b"no image",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        assert sentence(draw(tool, tmp_path / "out.png", "--image", tmp_path / name), 1).endswith("[request.image]")
        done = draw(tool, tmp_path / "out.png", "--image", whole, "--mask", tmp_path / name)
        assert sentence(done, 1).endswith("[request.image]")
    for name in ("missing.png", ".", "/dev/zero"):
        assert sentence(draw(tool, tmp_path / "out.png", "--image", name), 1).endswith("[request.image]")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no verb was given; see `ldm --help`"),
        (["paint"], "there is no verb paint; see `ldm --help`"),
        (["verfy"], "there is no verb verfy (did you mean verify?); see `ldm --help`"),
        (["run", "--prompt", "x"], "no package was given; name its folder, as in: ldm run ./package --prompt"),
        (
            ["plan"],
            "no package was given; name its folder, as in: ldm plan ./package --sampler dpmpp_2m --steps 10 "
            "(runtime/ldm_runtime/builtin of the sources is one)",
        ),
        (["run", BUILTIN], 'no prompt was given; add --prompt "..."'),
        (["run", BUILTIN, "--prompt"], "--prompt needs a value: --prompt TEXT"),
        (["run", BUILTIN, "--stesp", "3"], "there is no option --stesp (did you mean --steps?); see `ldm run --help`"),
        (["run", BUILTIN, "--colour"], "there is no option --colour; see `ldm run --help`"),
        (["run", BUILTIN, "-p", "x"], "there is no option -p; see `ldm run --help`"),
        (["run", BUILTIN, "--prompt", "x", "--force=yes"], "--force takes no value"),
        (["run", BUILTIN, "again", "--prompt", "x"], "there is an argument too many: 'again', beside the package "),
        (
            ["run", BUILTIN, "--prompt", "x", "--out", "a.jpg"],
            "the output a.jpg should end in .png, the one format written",
        ),
        (["run", BUILTIN, "--prompt", "x", "--out", ".png"], "the output .png should end in .png"),
        *(
            (["run", BUILTIN, "--prompt", "x", option, ""], f"{option} is ''; expected a path")
            for option in ("--out", "--image", "--mask", "--library")
        ),
        (["run", BUILTIN, "--prompt", "x", "--engine", ""], "--engine got '', expected a name"),
        (["verify", BUILTIN, "--provider", ""], "--provider got '', expected a name"),
        (
            ["run", BUILTIN, "--prompt", "x", "--out", "a\n\x1b[2J.jpg"],
            "the output a\\x0a\\x1b[2J.jpg should end in .png",
        ),
        (["run", BUILTIN, "--prompt", "x", "--st\x9beps", "1"], "there is no option --st\\x9beps"),
        (["plan", BUILTIN, "--steps", "0"], "--steps got '0', expected an integer from 1 to 2147483647"),
        (["plan", BUILTIN, "--start", "-1"], "--start got '-1', expected an integer from 0 to 2147483647"),
        (["inspect", BUILTIN, "--check", "x"], "--check got 'x', expected one of cached, full, size"),
        (["verify", BUILTIN, "--threads", "0"], "--threads got '0', expected an integer from 1 to 2147483647"),
        (["verify"], "no package was given; name its folder, as in: ldm verify ./package"),
    ],
)
def test_a_command_line_that_will_not_do_is_one_sentence(tool, tmp_path, arguments, said):
    assert sentence(ldm(tool, *arguments, cwd=tmp_path), 2).startswith(said)


@pytest.mark.parametrize("verb", VERBS)
def test_a_package_that_is_none_is_one_sentence(tool, tmp_path, verb):
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty", "/dev/null"):
        given = ["--prompt", "x"] if verb == "run" else []
        assert sentence(ldm(tool, verb, tmp_path / name, *given), 1).endswith("[package.missing]")


# --- outputs ------------------------------------------------------------------------------------------------------


def test_a_path_never_commands_a_terminal(tool, tmp_path):
    """Neither in what is printed of an image, nor in an error; Python says the same."""
    name, shown = "a\x1b[2J\n\x7f.png", "a\\x1b[2J\\x0a\\x7f.png"
    given = ("run", BUILTIN, "--prompt", "x", "--seed", "1", "--steps", "1", "--out", tmp_path / name)
    done = ldm(tool, *given)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/{shown} (seed 1)\n")
    again = CliRunner().invoke(verbs.commands["run"], [*map(str, given[1:]), "--force"])
    assert again.stdout == done.stdout
    assert sentence(ldm(tool, *given), 1).startswith(f"{tmp_path}/{shown} exists already")
    assert shown in sentence(draw(tool, tmp_path / "b.png", "--library", tmp_path / name), 1)
    said = sentence(draw(tool, tmp_path / "b.png", "--image", f"b{name}", cwd=tmp_path), 1)
    assert said.startswith("'ba\\x1b[2J\\n\\x7f.png' cannot be read")  # in quotes it is spelt as Python's repr


WATCH = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
assert status == 0
print(used.ru_maxrss)
"""


def test_weights_are_mapped_where_the_start_takes_most_of_the_time(tool, tmp_path):
    def peak(*arguments: str) -> int:
        """Return the memory of a run in kB, from a process that has little itself: a child has at least as much."""
        given = (tool, "run", BUILTIN, "--prompt", PROMPT, "--steps", "2", "--out", tmp_path / "a.png", "--force")
        command = [sys.executable, "-c", WATCH, *map(str, given), *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout)

    two = ("--count", "2")
    assert peak() < 0.8 * peak("--no-map-weights") and peak(*two) > 1.1 * peak(*two, "--map-weights")
    assert peak("--steps", "21") > 1.1 * peak("--steps", "20")
    said = sentence(draw(tool, tmp_path / "b.png", "--map-weights", "--no-map-weights"), 2)
    assert said == "--map-weights and --no-map-weights were given; give one of them"


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


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb_runs(tool, tmp_path, verb):
    shown = ldm(tool, verb, "--help").stdout
    assert shown.startswith(f"usage: ldm {verb} PACKAGE [OPTIONS]\n")
    assert ldm(tool, verb, BUILTIN, "-h", "--colour").stdout == shown
    example = next(line for line in shown.splitlines() if line.startswith("    ldm ")).strip()
    (tmp_path / "package").symlink_to(BUILTIN)
    settings = {**environment(), "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    done = subprocess.run(example, shell=True, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_usage_names_every_verb(tool):
    shown = ldm(tool, "--help").stdout
    assert all(f"\n  {verb} " in shown for verb in VERBS)
    assert ldm(tool, "--version").stdout == f"{ldm_runtime.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_options_that_python_has_are_there_or_named_as_missing(tool, verb):
    shown, readme = ldm(tool, verb, "--help").stdout, (SOURCE / "README.md").read_text()
    missing = next(line for line in readme.splitlines() if line.startswith(f"| `{verb}` |"))
    for parameter in verbs.commands[verb].params:
        for option in (each for each in parameter.opts if each.startswith("--") and each != "--debug"):
            assert f"  {option}" in shown or f"`{option}`" in missing, option


def test_help_is_no_option_where_it_is_a_value(tool, tmp_path):
    done = ldm(tool, "run", BUILTIN, "--prompt", "--help", "--steps", "1", "--out", tmp_path / "a.png")
    assert done.returncode == 0 and (tmp_path / "a.png").exists()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_inspect_tells_what_python_s_tells(tool, options):
    done = ldm(tool, "inspect", BUILTIN, *options)
    expected = CliRunner().invoke(verbs.commands["inspect"], [str(BUILTIN), *options])
    assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr


def test_inspect_believes_no_proof_of_another_contract(tool, tmp_path):
    package = Path(shutil.copytree(BUILTIN, tmp_path / "package"))
    value = json.loads((package / "manifest.json").read_text())
    value["contract"]["defaults"]["guidance"] = 5.5
    (package / "manifest.json").write_text(json.dumps(value))
    proof = json.loads(ldm(tool, "inspect", package, "--json").stdout)["proof"]
    assert proof == {"passed": False, "problem": "changed since it was proven: contract.defaults.guidance"}
    (package / "verify" / "report.json").write_text("{")
    proof = json.loads(ldm(tool, "inspect", package, "--json").stdout)["proof"]
    assert proof["passed"] is False and "report.json is not valid JSON" in proof["problem"]
    (package / "unet" / "model.onnx").write_bytes(b"")
    assert sentence(ldm(tool, "inspect", package), 1).endswith("[file.size]")
