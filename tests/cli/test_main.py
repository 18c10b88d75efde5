"""The command line on bad input: one clear sentence, exit code 1, no traceback, nothing on disk is lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ldm_export.cli.main import verbs
from ldm_export.cli.options import PATH
from ldm_runtime.errors import FormatError
from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.solvers import read_sampler
from tests.runtime.package.varied_package import add_variants
from tests.wall import run_behind_wall

GOLDEN = Path(__file__).parents[1] / "golden"

ROOT = Path(__file__).parents[2]


def notes(result: Result) -> list[str]:
    """The notes but the one that a package without proof, as here, always has."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    return [line for line in lines if "has not passed verification" not in line]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(verbs, [str(argument) for argument in arguments])


def refused(result: Result, pattern: str) -> None:
    """Exit code 1 and exactly one line on stderr, which says what the pattern wants."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert re.search(pattern, lines[0]), lines[0]
    assert "Traceback" not in result.output


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def start(*arguments: object, cwd: Path, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ldm_export", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read the process's progress until it says `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the process ended without saying {text!r}")


def test_a_plain_fact_without_advice_is_a_fault_of_the_program(monkeypatch, tmp_path):
    def read(path, *options, **more):
        raise FormatError(str(path), "is cut off", "weights.layout")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ldm_export.package.describe.describe", read)
    result = call("inspect", tmp_path)
    assert result.exit_code == 70 and "unexpected fault (FormatError: " in result.stderr


# --- run ---


@pytest.fixture(scope="module")
def package(tiny_build) -> Path:
    return tiny_build("sd15").package


def run(package: Path, *more: object) -> Result:
    return call("run", package, "--prompt", "a cat", "--steps", 1, "--size", "32x32", *more)


def test_run_writes_an_image_that_knows_where_it_comes_from(package, tmp_path):
    result = run(package, "--seed", 0, "--out", tmp_path / "cat.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "cat.png") as image:
        assert image.size == (32, 32)
        assert image.info["prompt"] == "a cat" and image.info["seed"] == "0"
    assert str(tmp_path / "cat.png") in result.stdout


def test_a_run_in_windows_draws_the_usual_image_and_says_so(package, tmp_path):
    for name, options in {"a.png": (), "b.png": ("--picard", "4:0")}.items():
        result = run(package, "--steps", 5, "--seed", 3, *options, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    a, b = (Image.open(tmp_path / name) for name in ("a.png", "b.png"))
    assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    assert "picard" not in a.info and b.info["picard"] == "window 4, tolerance 0"


def test_a_stopped_run_counts_steps_and_is_drawn_again(package, tmp_path):
    options = ("--sampler", "heun", "--steps", 5, "--seed", 3)
    for name in ("a.png", "b.png"):
        result = run(package, *options, "--stop-after", 3, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    run(package, *options, "--out", tmp_path / "c.png")
    a, b, c = (Image.open(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert a.info["steps"] == "5" == c.info["steps"]
    assert a.info["stopped after"] == "3" and "stopped after" not in c.info
    assert a.tobytes() == b.tobytes() != c.tobytes()
    assert "expected an integer from 1 to 5" in run(package, *options, "--stop-after", 6).stderr


def test_run_says_a_seed_that_draws_the_same_image_again(package, tmp_path):
    first = run(package, "--out", tmp_path / "a.png")
    seed = re.search(r"seed (\d+)", first.stdout)[1]
    run(package, "--seed", seed, "--out", tmp_path / "b.png")
    other = run(package, "--seed", int(seed) + 1, "--out", tmp_path / "c.png")
    assert other.exit_code == 0, other.output
    a, b, c = (Image.open(tmp_path / name).tobytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_a_batch_writes_one_file_per_seed(package, tmp_path):
    result = run(package, "--seed", 5, "--count", 2, "--out", tmp_path / "cat.png")
    assert result.exit_code == 0, result.output
    seeds = sorted(Image.open(file).info["seed"] for file in tmp_path.glob("*.png"))
    assert seeds == ["5", "6"]


def test_each_prompt_is_drawn_and_numbered_from_one_seed_on(package, tmp_path):
    options = ("--prompt", "a dog", "--negative", "red", "--negative", "blue", "--seed", 5, "--count", 2)
    result = run(package, *options, "--out", tmp_path / "pet.png")
    assert result.exit_code == 0, result.output
    told = [Image.open(tmp_path / f"pet-{number}.png").info for number in (1, 2, 3, 4)]
    drawn = [(info["prompt"], info["negative"], info["seed"]) for info in told]
    assert drawn == [("a cat", "red", "5"), ("a cat", "red", "6"), ("a dog", "blue", "7"), ("a dog", "blue", "8")]
    two = ("--negative", "red", "--negative", "blue")
    refused(run(package, *two, "--out", tmp_path / "a.png"), "2 texts for 1 prompts")


def test_an_existing_image_is_kept_without_force(package, tmp_path):
    out = tmp_path / "cat.png"
    out.write_bytes(b"precious")
    refused(run(package, "--out", out), "exists already")
    assert out.read_bytes() == b"precious"
    assert run(package, "--out", out, "--force").exit_code == 0
    assert Image.open(out).size == (32, 32)


def test_an_empty_prompt_is_legal(package, tmp_path):
    result = call("run", package, "--prompt", "", "--steps", 1, "--size", "32x32", "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output


def test_a_prompt_past_the_window_is_said(package, tmp_path):
    prompt = "cat " * 400
    result = call("run", package, "--prompt", prompt, "--steps", 1, "--size", "32x32", "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    (note,) = notes(result)
    assert "words" in note and "left out: 'cat cat" in note and len(note) < 200


def test_interpolate_prints_what_it_has_to_say_once(package, tmp_path):
    ends = ("--prompt", "red [a|b]", "--to-prompt", "blue", "--frames", 3, "--seconds", 1)
    rest = ("--negative", "cat", "--guidance", 1, "--steps", 1, "--size", "32x32", "--out", tmp_path / "way.png")
    result = call("interpolate", package, *ends, *rest)
    assert result.exit_code == 0, result.output
    assert notes(result) == [
        "note: '[a|b]' in the prompt to start from is read as words: words do not take turns",
        "note: negative has no effect with guidance 1; it needs more than 1",
        f"note: --seconds has no effect on {tmp_path / 'way.png'}; it is for a .gif",
    ]


def test_interpolate_takes_one_negative_prompt_and_says_so(package, tmp_path):
    told = " ".join(call("interpolate", "--help").output.split())
    assert "Negative prompt, the same for all images." in told and "once for each prompt" not in told
    ends = ("--prompt", "red", "--to-prompt", "blue", "--frames", 2, "--negative", "no", "--negative", "ugly")
    result = call("interpolate", package, *ends, "--steps", 1, "--size", "32x32", "--out", tmp_path / "way.png")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "way.png").size == (64, 32)


BAD_RUNS = {
    "zero steps": (("--steps", "0"), "steps"),
    "negative steps": (("--steps", "-3"), "steps"),
    "guidance NaN": (("--guidance", "nan"), "guidance"),
    "negative guidance": (("--guidance", "-1"), "guidance"),
    "infinite guidance": (("--guidance", "inf"), "guidance"),
    "unknown sampler": (("--sampler", "magic"), "magic.*dpmpp_2m"),
    "unknown engine": (("--engine", "magic"), "magic"),
    "size without x": (("--size", "512"), "512.*WIDTHxHEIGHT"),
    "size not divisible": (("--size", "33x32"), "33"),
    "size zero": (("--size", "0x32"), "0"),
    "size absurd": (("--size", "10000000x10000000"), "10000000"),
    "count zero": (("--count", "0"), "count"),
    "count absurd": (("--count", "100000"), "100000"),
    "negative seed": (("--seed", "-1"), "seed"),
    "seed past 64 bits": (("--seed", str(2**64)), "seed"),
    "unknown ending": (("--out", "picture.xyz"), r"\.xyz.*\.png"),
    "no ending": (("--out", "picture"), r"\.png"),
    "missing folder": (("--out", "no/such/folder/a.png"), "does not exist"),
    "unknown option of a sampler": (("--sampler", "euler:order=3"), "order=3.*sigmas=…"),
    "option of the wrong kind": (("--sampler", "dpmsolver:order=x"), "order is 'x'"),
    "unknown noise": (("--noise", "white"), "white.*philox"),
    "noise that the sampler cannot use": (("--sampler", "dpmpp_sde", "--noise", "torch"), "philox"),
    "image that is not there": (("--image", "no.png"), r"no\.png does not exist"),
    "image that is a folder": (("--image", "."), "is not a regular file; expected an image in PNG"),
    "image that never ends": (("--image", "/dev/zero"), "/dev/zero is not a regular file"),
    "mask without image": (("--mask", "no.png"), "no.png does not exist"),
    "strength without image": (("--strength", "0.5"), "without an image"),
    "an original without x": (("--original-size", "1024"), "--original-size got '1024', expected WIDTHxHEIGHT"),
    "a corner of one": (("--crop-top-left", "8"), "--crop-top-left got '8', expected TOP:LEFT"),
    "a target that is not read": (("--target-size", "64x64"), "target_size was given, but this model does not read"),
    "interval of one": (("--guidance-interval", "0.5"), "0.5.*0.2:0.8"),
    "interval backwards": (("--guidance-interval", "0.8:0.2"), "start below its end"),
    "variation without strength": (("--variation", "7"), "SEED:STRENGTH"),
    "variation past 1": (("--variation", "7:2"), "strength of variation is 2"),
    "picard without tolerance": (("--picard", "8"), "--picard got '8', expected WINDOW:TOLERANCE"),
    "picard of one row": (("--picard", "1:0.1"), "the window of picard is 1"),
    "rescale past 1": (("--guidance-rescale", "3"), "guidance_rescale is 3"),
    "weight past 10": (("--weighted", "--prompt", "(a:99)"), "a weight in prompt 2 is 99"),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_run_refuses(case, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, pattern = BAD_RUNS[case]
    refused(run(package, *arguments), pattern)
    assert snapshot(tmp_path) == {}


def test_an_image_is_drawn_from_an_image_in_part_and_anew(package, tmp_path):
    photo, mask, out = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "out.png"
    Image.new("RGB", (35, 33), "green").save(photo)
    Image.new("L", (32, 32), 255).save(mask)
    result = run(package, "--image", photo, "--strength", "0.5", "--out", out, "--steps", 4)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        assert image.size == (32, 32) and image.info["task"] == "image to image" and image.info["strength"] == "0.5"
    result = run(package, "--image", photo, "--mask", mask, "--out", out, "--force", "--steps", 2)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        assert image.info["task"] == "inpainting"


def test_what_becomes_of_transparency_is_noted(package, tmp_path):
    clear, mask, out = tmp_path / "clear.png", tmp_path / "mask.png", tmp_path / "out.png"
    Image.new("RGBA", (32, 32), (0, 255, 0, 99)).save(clear)
    painted = Image.new("LA", (32, 32))
    painted.paste((255, 255), (0, 0, 16, 32))
    painted.save(mask)
    result = run(package, "--image", clear, "--mask", mask, "--out", out, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "note: the image is transparent in parts; they were laid on white\n" in result.stderr
    assert "note: the mask is transparent in parts; they count as black" in result.stderr
    Image.new("RGBA", (32, 32), (0, 255, 0, 255)).save(clear)
    assert "transparent" not in run(package, "--image", clear, "--out", out, "--force", "--steps", 2).stderr


def test_interpolate_writes_a_strip_or_an_animation(package, tmp_path):
    base = ("interpolate", package, "--prompt", "red", "--to-prompt", "blue", "--steps", 1, "--size", "32x32")
    for name, size in (("way.png", (96, 32)), ("way.gif", (32, 32))):
        result = call(*base, "--frames", 3, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / name) as image:
            assert image.size == size
    refused(call(*base, "--out", tmp_path / "way.png"), "exists already")
    refused(call(*base, "--out", tmp_path / "way.mp4"), r"way\.mp4 should end in \.png .* or in \.gif")
    refused(call(*base, "--frames", 1, "--out", tmp_path / "other.png"), "frames is 1")
    refused(call(*base, "--seconds", 0, "--out", tmp_path / "other.gif"), "--seconds got 0")


def test_plan_prints_every_step_and_draws_it(package, tmp_path):
    plot = tmp_path / "plan.png"
    result = call("plan", package, "--sampler", "heun", "--steps", 4, "--plot", plot)
    assert result.exit_code == 0, result.output
    assert "heun, 4 steps" in result.output and len(result.output.splitlines()) == 2 + 7
    with Image.open(plot) as image:
        assert image.info["sampler"] == "heun"
    refused(call("plan", package, "--plot", plot), "exists already")
    refused(call("plan", package, "--sampler", "magic"), "magic")
    refused(call("plan", package, "--steps", 0), "steps is 0")
    refused(call("plan", package, "--strength", 3), "strength is 3")
    late = call("plan", package, "--sampler", "ddim", "--steps", 10, "--strength", 0.3)
    assert "from step 8" in late.output and len(late.output.splitlines()) == 2 + 3
    listed = call("plan", "--list")
    for text in ("dpmsolver ", "order=2 (1 to 3)", "dpmpp_2m_karras", "predict=x0 (x0, eps)"):
        assert text in listed.output


def test_a_plan_as_json_is_the_compiled_plan():
    result = call("plan", "--sampler", "unipc:order=3", "--steps", 5, "--strength", 0.6, "--json")
    assert result.exit_code == 0, result.output
    schedule = read_manifest(builtin_package()).contract.schedule
    plan = json.loads(result.stdout)
    assert plan == compile_plan(schedule, read_sampler("unipc:order=3"), 5, 2).to_dict()
    assert (plan["sampler"], plan["steps"], plan["start"], len(plan["rows"])) == ("unipc:order=3", 5, 2, 3)
    clipped = json.loads(call("plan", "--sampler", "ddim:clip=1", "--steps", 2, "--json").stdout)
    assert clipped["hook"] == {"kind": "clip", "limit": 1.0, "ratio": 0.0}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--json"], "--json"),
        (["--steps", 0], "--steps"),
        (["--sampler", "ddim"], "--sampler"),
        (["--strength", 0], "--strength"),
        (["--plot", "plan.png", "--force"], "--plot, --force"),
        (["./package"], "PACKAGE"),
    ],
)
def test_a_list_of_samplers_takes_no_other_argument(arguments, named):
    refused(call("plan", "--list", *arguments), f"--list and {named} exclude each other")


def test_engines_lists_what_runs_here_and_what_is_missing_for_the_rest():
    result = call("engines")
    assert result.exit_code == 0, result.output
    facts = json.loads(call("engines", "--json").stdout)
    assert facts["ort"] == {"summary": "ONNX Runtime on the CPU", "runs_here": True, "missing": None}
    for name, fact in facts.items():
        assert re.search(rf"^{re.escape(name)} +(runs here|not here) ", result.stdout, re.MULTILINE)
        assert fact["runs_here"] or fact["missing"] in result.stdout


def test_the_engine_of_each_part_is_chosen(package, tmp_path):
    result = run(package, "--engine", "unet=ort,vae=ort", "--threads", 1, "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    for arguments, message in (
        (("--engine", "abacus"), "engine is 'abacus'; expected one of auto, "),
        (("--engine", "brain=ort"), "engine has 'brain=ort'; expected PART=NAME"),
        (("--engine", "ort:coreml" if sys.platform != "darwin" else "ort:directml"), "it exists for .* only"),
        (("--threads", 0), "threads is 0; expected an integer from 1"),
        (("--engine-option", "device_id=1"), "got 'device_id=1', expected ENGINE.NAME=VALUE"),
        (("--engine-option", "abacus.beads=1"), "engine is 'abacus'"),
    ):
        refused(run(package, *arguments, "--out", tmp_path / "b.png"), message)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_is_no_package_is_refused(tmp_path):
    for verb in (("run", tmp_path, "--prompt", "x"), ("verify", tmp_path)):
        refused(call(*verb), "manifest.json")
    refused(call("run", tmp_path / "nowhere", "--prompt", "x"), "does not exist")


def test_an_unwritable_folder_is_refused(package):
    refused(run(package, "--out", "/proc/a.png"), "/proc/a.png")


def test_a_reader_that_goes_away_is_no_traceback(package, tmp_path):
    process = start("run", package, "--prompt", "x", "--steps", 1, "--size", "32x32", "--help", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_nothing(number, package, tmp_path):
    command = ("run", package, "--prompt", "x", "--steps", 900, "--size", "128x128", "--out", "a.png")
    process = start(*command, cwd=tmp_path)
    wait_for(process, "of 900, ")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


# --- inspect ---


def test_inspect_tells_what_a_package_is(package):
    facts = json.loads(call("inspect", package, "--json").stdout)
    assert facts["kind"] == "package" and set(facts["components"]) >= {"unet", "vae_decoder"}
    assert "unet" in call("inspect", package).stdout


def test_inspect_tells_of_variants_and_of_their_artefacts(tmp_path):
    package = add_variants(Path(shutil.copytree(GOLDEN / "package", tmp_path / "package")))
    facts = json.loads(call("inspect", package, "--json").stdout)
    variants, artefacts = facts["variants"], facts["components"]["unet"]["artefacts"]
    assert list(variants) == ["int8-bf16", "cached", "hoisted", "merged"]
    assert variants["int8-bf16"]["ways"]["unet"]["precision"] == "bf16"
    assert variants["int8-bf16"]["error"]["psnr"] == 34.1 and variants["cached"]["run"]["caching"]["interval"] == 2
    assert artefacts["shallow"]["inputs"][1] == "deep float32 [batch, 4, height, width]"
    assert artefacts["step"]["hoists"] == [{"inputs": ["encoder_hidden_states"], "artefact": "keys"}]
    assert artefacts["int8"]["kept"] == ["conv_in", "conv_out"] and artefacts["fp16"]["rescaled"] == 64.0
    assert artefacts["merged"]["merged"] == 0.5
    assert "units: avx512_bf16; avx512_vnni" in call("inspect", package).stdout
    assert "variants" not in json.loads(call("inspect", GOLDEN / "package", "--json").stdout)


@pytest.mark.slow
def test_inspect_tells_the_precision_of_the_weights(tiny_build):
    for kind, dtype in (("sd15", "F32"), ("sd15-fp16", "F16")):
        built = tiny_build(kind)
        for folder in (built.source, built.package):
            components = json.loads(call("inspect", folder, "--json").stdout)["components"]
            assert all(list(component["weights"]) == [dtype] for component in components.values())
            assert components["unet"]["weights"] == {dtype: built.checkpoint.parameter_count("unet")}
            assert re.search(rf"weights: {dtype} [\d,]+\n", call("inspect", folder).stdout)


def test_inspect_tells_what_a_checkpoint_is(tiny_build):
    facts = json.loads(call("inspect", tiny_build("sd15").source, "--json").stdout)
    assert facts["kind"] == "checkpoint" and facts["components"]["unet"]["parameters"] > 1000


def test_inspect_refuses_a_path_that_is_not_there_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = call("inspect", str(tmp_path / "nosuch"))
    assert result.exit_code == 1
    assert "nosuch does not exist; expected a package, a diffusers folder or a single-file" in result.stderr


def test_inspect_refuses_options_of_a_checkpoint_for_a_package():
    refused(call("inspect", "--variant", "fp16", "--zero-snr"), "is a package, which has no --variant or --zero-snr")


def test_inspect_refuses_a_folder_that_is_neither(tmp_path):
    refused(call("inspect", tmp_path), "neither")


# --- build ---


@pytest.mark.parametrize("verb", [("build", "--out", "out"), ("inspect",)])
def test_a_source_that_is_no_model_is_refused(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    name, *options = verb
    refused(call(name, "empty", *options), "model_index.json")
    refused(call(name, "nowhere", *options), "does not exist")
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def test_build_keeps_an_existing_package_without_force(tiny_build, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("kept")
    refused(call("build", tiny_build("sd15").source, "--out", tmp_path / "out"), "exists already")
    assert snapshot(tmp_path) == {"out/precious": b"kept"}


def test_build_refuses_before_it_starts_what_would_not_fit(tiny_build, tmp_path):
    result = call("build", tiny_build("sd15").source, "--out", tmp_path / "out", "--max-memory", "0.1")
    refused(result, r"needs about \d+\.\d GB, but --max-memory allows 0\.1 GB")
    assert snapshot(tmp_path) == {}
    refused(call("build", tiny_build("sd15").source, "--out", tmp_path / "out", "--max-memory", "nan"), "nan")


def test_build_refuses_a_recipe_with_an_unknown_key(tiny_build, tmp_path):
    (tmp_path / "recipe.toml").write_text('sampler = "ddim"\nmagic = 1\n')
    options = ("--out", tmp_path / "out", "--config", tmp_path / "recipe.toml")
    refused(call("build", tiny_build("sd15").source, *options), "magic")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_what_was_there(number, tiny_build, tmp_path):
    shutil.copytree(builtin_package(), tmp_path / "out")
    before = snapshot(tmp_path)
    process = start("build", tiny_build("sd15").source, "--out", "out", "--force", cwd=tmp_path)
    wait_for(process, "tracing")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_a_full_disk_in_the_middle_of_a_build_is_one_sentence(tiny_build, tmp_path):
    """A limit on the size of files stands for the full disk: the same calls fail the same way."""

    def limit_files() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start("build", tiny_build("sd15").source, "--out", "out", cwd=tmp_path, preexec_fn=limit_files)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert re.search(r"^error: .*File too large", errors, flags=re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


# --- train ---


def test_train_refuses_a_recipe_that_is_not_there_or_not_toml(tmp_path):
    refused(call("train", tmp_path / "no.toml", "--runs", tmp_path), "no.toml")
    (tmp_path / "bad.toml").write_text("= nothing")
    refused(call("train", tmp_path / "bad.toml", "--runs", tmp_path), "TOML")


# --- options of every verb ---


def parameters(kind: type) -> list[tuple[str, str]]:
    """(verb, option or argument) of all whose type is `kind`."""
    return [
        (verb, parameter.opts[0])
        for verb, command in verbs.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, kind)
    ]


def with_value(verb: str, option: str, value: str) -> Result:
    """The verb with what it asks for, and one value."""
    chosen = []
    for parameter in verbs.commands[verb].params:
        if parameter.opts[0] == option or parameter.required:
            given = value if parameter.opts[0] == option else "x"
            chosen += [given] if parameter.param_type_name == "argument" else [parameter.opts[0], given]
    return call(verb, *chosen)


@pytest.mark.parametrize(("verb", "option"), parameters(type(PATH)))
def test_a_path_that_cannot_be_is_one_sentence_in_every_verb(verb, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value, reason in (("a" * 300, "File name too long"), ("a\0b", "not a path"), ("b/" * 3000, "too long")):
        refused(with_value(verb, option, value), f"^error: {option} is .*{reason}")
    assert snapshot(tmp_path) == {}


def test_every_path_is_checked():
    """A plain click.Path lets through what no file system can look up, and traces back at NUL."""
    kinds = {type(each.type) for verb in verbs.commands.values() for each in verb.params}
    assert type(PATH) in kinds and click.Path not in kinds


ABSURD = ("1e9", "1000000000", "-1", "nan", "inf", "9" * 5000)


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        ("run", "--count"),
        ("run", "--threads"),
        ("interpolate", "--threads"),
        ("interpolate", "--seconds"),
        ("plan", "--steps"),
        ("plan", "--strength"),
        ("bench", "--rounds"),
        ("bench", "--steps"),
        ("bench", "--threads"),
        ("bench", "--size"),
        ("tune", "--minutes"),
        ("tune", "--size"),
        ("data", "--size"),
    ],
)
@pytest.mark.parametrize("value", ABSURD)
def test_an_absurd_number_is_refused_at_once(verb, option, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {"run": ("--prompt", "x"), "interpolate": ("--prompt", "x", "--out", "a.gif"), "data": ("--out", "d")}
    result = call(verb, *arguments.get(verb, ()), f"{option}={value}")
    assert result.exit_code in (1, 2), result.output  # 2: of another form
    assert "rror: " in result.stderr and "Traceback" not in result.output
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e300"])
def test_an_absurd_limit_of_memory_is_refused(value, tmp_path):
    refused(
        call("build", "--out", tmp_path / "out", f"--max-memory={value}"), "--max-memory got .*, expected a positive"
    )


# --- what is not installed ---


@pytest.mark.parametrize(
    ("command", "extra"),
    [(("build", "x", "--out", "y"), "export"), (("train", "x.toml"), "train"), (("inspect", "x"), "export")],
)
def test_a_missing_extra_is_named(command, extra, tmp_path):
    """In a process of its own: modules that were imported anew would be other ones for the tests that follow."""
    (tmp_path / "x").mkdir()
    words = [str(tmp_path / word) if word in ("x", "y", "x.toml") else word for word in command]
    body = f"sys.modules['torch'] = None\nsys.argv[1:] = {words!r}\nfrom ldm_export.cli.main import main\nmain()"
    done = run_behind_wall(body, blocked=[], paths=[ROOT, ROOT / "runtime"])
    assert done.returncode == 1 and f"pip install 'ldm-export[{extra}]'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [("verify",), ("build", "--out", "y")])
def test_a_proof_without_an_engine_is_refused_at_once(command, tmp_path):
    words = [str(tmp_path / word) if word == "y" else word for word in command]
    body = f"sys.modules['onnxruntime'] = None\nsys.argv[1:] = {words!r}\nfrom ldm_export.cli.main import main\nmain()"
    done = run_behind_wall(body, blocked=[], paths=[ROOT, ROOT / "runtime"])
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no engine runs here: ONNX Runtime cannot be imported") and "[cpu]" in last
    assert "exporting" not in done.stderr and list(tmp_path.iterdir()) == []


def test_the_command_line_starts_without_numpy():
    """Help and completion stay quick: what a verb needs is imported when it runs."""
    heavy = ["numpy", "PIL", "onnx", "torch"]
    body = f"import sys, ldm_export.cli.main\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = run_behind_wall(body, blocked=[], paths=[ROOT, ROOT / "runtime"])
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("began", [True, False])
def test_an_interrupted_analysis_says_what_goes_on_if_anything_was_kept(
    began: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldm_export.analyze import run

    def stopped(*arguments: object, out: Path, **options: object) -> None:
        if began:
            (out / "kept").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "analyze", stopped)
    result = CliRunner().invoke(verbs, ["analyze", "--data", str(tmp_path), "--out", str(tmp_path / "a")])
    assert result.exit_code == 130
    lines = result.stderr.splitlines()
    assert lines[-1] == "interrupted"
    assert lines[:-1] == (
        [f"what is done is kept in {tmp_path / 'a' / 'kept'}: the same command goes on there"] if began else []
    )
