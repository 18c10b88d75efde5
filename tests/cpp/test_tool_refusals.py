"""What the tool `ldm` refuses: every kind of bad value is one sentence with its status."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ldm_export.cli.main import verbs
from ldm_runtime.pipeline import BUILTIN
from tests.cpp.tool_runs import VERBS, draw, ldm, sentence

pytestmark = pytest.mark.slow


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
