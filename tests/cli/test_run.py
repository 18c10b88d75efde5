"""The verbs `run` and `interpolate`: what they write and say, and one sentence for what they refuse."""

import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from tests.cli.calling import call, notes, refused, snapshot, start, wait_for


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
