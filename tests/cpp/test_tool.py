"""The tool `ldm`: every option does what Python's does, and every verb tells what Python's tells."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ldm_runtime
from ldm_export.cli.main import verbs
from ldm_runtime.pipeline import BUILTIN, Pipeline
from tests.cpp.cpp_build import SOURCE, environment
from tests.cpp.tool_runs import PROMPT, VERBS, draw, ldm, sentence
from tests.runtime.package.varied_package import add_variants
from tests.runtime.tiny_package import rehash
from tests.test_golden import GOLDEN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with ldm_runtime.load() as opened:
        yield opened


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


@pytest.fixture
def varied(tmp_path):
    return add_variants(Path(shutil.copytree(GOLDEN / "package", tmp_path / "package")))


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_inspect_tells_of_variants_what_python_s_tells(tool, varied, options):
    done = ldm(tool, "inspect", varied, *options)
    expected = CliRunner().invoke(verbs.commands["inspect"], [str(varied), *options])
    assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr
    for said in ("int8-bf16", "avx512_bf16", "shallow", "rescaled", "merged", "keys"):
        assert said in done.stdout


def test_a_package_with_variants_is_drawn_with_exactly(tool, varied, tmp_path):
    """The int8 graph for ONNX Runtime, which comes first, is none: whoever opened it would say so."""
    (varied / "unet" / "int8.onnx").write_bytes(b"")
    rehash(varied)
    images = []
    for package in (GOLDEN / "package", varied):
        out = tmp_path / f"{len(images)}.png"
        done = ldm(tool, "run", package, "--prompt", "red", "--steps", "2", "--seed", "1", "--out", out)
        assert done.returncode == 0, done.stderr
        images.append(np.asarray(Image.open(out)))
    assert np.array_equal(*images)


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
