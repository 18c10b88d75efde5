"""The tool and the examples draw: the built-in model's image is the Python runtime's, in one thread and in several."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.pipeline import BUILTIN, Pipeline
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.solvers import read_sampler
from tests.cpp.cpp_build import built, environment, run

pytestmark = pytest.mark.slow
PROMPT = "red apple, 3d style"
KIT = Path(__file__).parents[1] / "golden" / "package"


@pytest.fixture(scope="module")
def release() -> Path:
    return built("cpp")


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with ldm_runtime.load() as opened:
        yield opened


def refused(*command: str | Path) -> tuple[int, str]:
    """Run a program that fails, and return its status and what it says."""
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment())
    assert result.returncode != 0
    return result.returncode, result.stderr


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--map-weights"], {}),
        (["--sampler", "euler_ancestral", "--noise", "torch"], {"sampler": "euler_ancestral", "noise": "torch"}),
        (["--weighted", "--guidance-rescale", "0.5"], {"syntax": "weighted", "guidance_rescale": 0.5}),
        (["--size", "96x128", "--variation", "7:0.2"], {"size": (96, 128), "variation": (7, 0.2)}),
    ],
)
def test_the_tool_draws_python_s_image(release: Path, pipe, tmp_path: Path, arguments: list[str], options) -> None:
    out = tmp_path / "image.png"
    given = [release / "ldm", "run", BUILTIN, "--prompt", f"({PROMPT})", "--seed", "3", "--steps", "4", "--out", out]
    run(*map(str, given), *arguments)
    expected = pipe(f"({PROMPT})", seed=3, steps=4, **options)[0]
    assert np.abs(levels(out) - np.asarray(expected, int)).max() <= 1
    with Image.open(out) as image:
        assert image.info == expected.info


def test_several_prompts_are_python_s_files_and_seeds(release: Path, tmp_path: Path) -> None:
    given = (
        "--prompt",
        PROMPT,
        "--prompt",
        "red heart",
        "--negative",
        "x",
        "--negative",
        "y",
        "--seed",
        "3",
        "--steps",
        "1",
    )
    run(str(release / "ldm"), "run", BUILTIN, *given, "--out", tmp_path / "a.png")
    run(sys.executable, "-m", "ldm_export", "run", str(BUILTIN), *given, "--out", tmp_path / "b.png")
    for number in (1, 2):
        with Image.open(tmp_path / f"a-{number}.png") as ours, Image.open(tmp_path / f"b-{number}.png") as theirs:
            assert ours.info == theirs.info


def test_an_image_that_python_drew_is_inpainted_alike(release: Path, pipe, tmp_path: Path) -> None:
    start = pipe(PROMPT, seed=1, steps=4)[0]
    mask = Image.fromarray(np.uint8(np.arange(128)[None, :] > 63) * np.full((128, 1), 255, np.uint8))
    start.save(tmp_path / "start.png")
    mask.save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    pictures = ["--image", tmp_path / "start.png", "--mask", tmp_path / "mask.png", "--strength", "0.7"]
    given = ["--prompt", "red heart, 3d style", "--seed", "5", "--steps", "6", "--out", out, *pictures]
    run(str(release / "ldm"), "run", BUILTIN, *given)
    with Image.open(tmp_path / "start.png") as image:
        expected = pipe("red heart, 3d style", seed=5, steps=6, image=image, mask=mask, strength=0.7)[0]
    assert np.abs(levels(out) - np.asarray(expected, int)).max() <= 1


def test_the_tool_prints_python_s_plan(release: Path, pipe) -> None:
    asked = (str(release / "ldm"), "plan", BUILTIN, "--sampler", "unipc:order=3", "--steps", "7")
    plan = json.loads(run(*asked))
    assert run(*asked, "--json") == run(*asked)
    expected = compile_plan(pipe.contract.schedule, read_sampler("unipc:order=3"), 7).to_dict()
    assert plan["identity"] == expected["identity"] and plan["sampler"] == expected["sampler"]
    for row, other in zip(plan["rows"], expected["rows"], strict=True):
        np.testing.assert_allclose(row["matrix"], other["matrix"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["run", BUILTIN], 2, "add --prompt"),
        (["run", "nowhere", "--prompt", "x"], 1, "package.missing"),
        (["run", BUILTIN, "--prompt", "x", "--steps", "many"], 2, "expected an integer"),
        (["run", BUILTIN, "--prompt", "x", "--sampler", "eular"], 1, "request.sampler"),
        (["run", BUILTIN, "--prompt", "x", "--image", "/dev/null"], 1, "request.image"),
        (["plan", BUILTIN, "--colour"], 2, "no option --colour"),
        (["paint"], 2, "no verb paint"),
    ],
)
def test_what_the_tool_cannot_do_is_one_sentence(release: Path, arguments, status: int, sentence: str) -> None:
    code, said = refused(release / "ldm", *arguments)
    assert code == status and sentence in said


def test_the_examples_draw(release: Path, pipe, tmp_path: Path) -> None:
    run(str(release / "example-txt2img"), BUILTIN, PROMPT, tmp_path / "one.png", "1", "4")
    run(str(release / "example-threads"), BUILTIN, PROMPT, tmp_path, "4")
    said = run(str(release / "example-preview"), BUILTIN, PROMPT, tmp_path, "7")
    assert "cancelled after step 7" in said and (tmp_path / "preview-05.ppm").exists()
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere}/preview-05.ppm: " in refused(release / "example-preview", BUILTIN, PROMPT, nowhere)[1]
    own = run(str(release / "example-own_engine"), KIT / "manifest.json", KIT / "tokenizer" / "tokenizer.json")
    assert "pixels of" in own and "step 2 of" in own
    for seed in range(4):
        expected = pipe(PROMPT, seed=seed)[0]
        assert np.abs(levels(tmp_path / f"seed-{seed}.png") - np.asarray(expected, int)).max() <= 1
    assert np.abs(levels(tmp_path / "one.png") - np.asarray(pipe(PROMPT, seed=1, steps=4)[0], int)).max() <= 1
