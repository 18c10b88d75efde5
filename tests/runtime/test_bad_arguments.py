"""Every argument that a package cannot follow is one InputError of one sentence, before any work."""

import errno
import itertools
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.checks import check_path
from ldm_runtime.errors import Cancelled, InputError, printable
from ldm_runtime.image import output_paths
from ldm_runtime.interpolate import interpolate
from ldm_runtime.pipeline import Pipeline
from tests.runtime.tiny_package import CHANNELS, WIDTH, WINDOW

NAN, INF = float("nan"), float("inf")
PHOTO = Image.new("RGB", (64, 48))


def latents(*shape: int, value: float = 0.5) -> np.ndarray:
    return np.full(shape, value, dtype=np.float32)


def with_one(value: float) -> np.ndarray:
    array = latents(1, CHANNELS, 6, 8)
    array[0, 0, 0, 0] = value
    return array


def view(*shape: int) -> np.ndarray:
    """An array of any size in the memory of one number."""
    return np.broadcast_to(np.float32(0.5), shape)


class Stubborn:
    """What cannot be made an array, as a tensor on a GPU."""

    def __array__(self, *arguments: Any, **named: Any) -> np.ndarray:
        raise RuntimeError("not for you")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "steps zero": ({"steps": 0}, "steps is 0; expected an integer from 1 to 1000"),
    "steps negative": ({"steps": -5}, "steps is -5"),
    "steps beyond training": ({"steps": 1001}, "steps is 1001"),
    "steps fractional": ({"steps": 2.5}, "steps is 2.5"),
    "steps text": ({"steps": "20"}, "steps is '20'"),
    "steps boolean": ({"steps": True}, "steps is True"),
    "guidance NaN": ({"guidance": NAN}, "guidance is nan; expected a finite number of 0 or more"),
    "guidance infinite": ({"guidance": INF}, "guidance is inf"),
    "guidance negative": ({"guidance": -1.0}, "guidance is -1.0"),
    "guidance immense": ({"guidance": 10**400}, "guidance is 1000"),
    "guidance text": ({"guidance": "7"}, "guidance is '7'"),
    "guidance boolean": ({"guidance": True}, "guidance is True"),
    "seed negative": ({"seed": -1}, "seed is -1; expected an integer from 0 to 18446744073709551615"),
    "seed beyond 64 bits": ({"seed": 2**64}, "seed is 18446744073709551616"),
    "seed fractional": ({"seed": 1.0}, "seed is 1.0"),
    "seed immense": ({"seed": 10**5000}, "seed is an immense number"),
    "sampler unknown": ({"sampler": "magic"}, "sampler 'magic' is not known; expected one of ddpm, ddim,"),
    "sampler empty": ({"sampler": ""}, "sampler '' is not known"),
    "sampler no name": ({"sampler": 3}, "sampler is 3; expected a name"),
    "noise unknown": ({"noise": "white"}, "noise is 'white'; expected philox"),
    "noise no name": ({"noise": None}, "noise is None; expected a name"),
    "size not divisible": ({"size": (63, 48)}, "size is 63x48; expected a width that is a multiple of 8"),
    "size too small": ({"size": (64, 8)}, "a height that is a multiple of 8, from 16 to 256"),
    "size too large": ({"size": (264, 64)}, "from 16 to 256"),
    "size absurd": ({"size": (10**9, 10**9)}, "size is 1000000000x1000000000"),
    "size beyond words": ({"size": (10**30, 8)}, "width is 1000000000000000000000000000000; expected"),
    "size zero": ({"size": (0, 64)}, "width is 0"),
    "size negative": ({"size": (-64, 64)}, "width is -64"),
    "size one number": ({"size": 64}, r"size is 64; expected \(width, height\)"),
    "size of three": ({"size": (64, 64, 3)}, r"expected \(width, height\)"),
    "size text": ({"size": "64x64"}, r"size is '64x64'; expected \(width, height\)"),
    "size fractional": ({"size": (64.0, 64)}, "width is 64.0"),
    "count zero": ({"count": 0}, "count is 0; expected an integer from 1 to 16"),
    "count negative": ({"count": -1}, "count is -1"),
    "count beyond the batch": ({"count": 17}, "count is 17; expected an integer from 1 to 16"),
    "count with guidance": ({"count": 9}, "need a batch of 18 with guidance, .* ask for at most 8"),
    "count absurd": ({"count": 10**9}, "count is 1000000000"),
    "prompts with count": ({"prompt": ["a", "b"], "count": 5}, "10 images at once need a batch of 20"),
    "prompt absent": ({"prompt": None}, "no prompt was given"),
    "prompt a number": ({"prompt": 3}, "prompt is 3; expected a text or a list of texts"),
    "prompt bytes": ({"prompt": b"red"}, "prompt is b'red'"),
    "prompt list of numbers": ({"prompt": [1]}, r"prompt is \[1\]"),
    "prompt empty list": ({"prompt": []}, "prompt is an empty list"),
    "prompt not Unicode": ({"prompt": "\udcff"}, "not valid Unicode text at character 0"),
    "negative a number": ({"negative": 3}, "negative is 3"),
    "negative of other length": ({"prompt": ["a", "b"], "negative": ["c"]}, "has 1 texts for 2 prompts"),
    "negative empty list": ({"negative": []}, "has 0 texts for 1 prompts"),
    "latents of rank 3": ({"latents": latents(CHANNELS, 6, 8)}, r"latents has shape \(4, 6, 8\)"),
    "latents of other channels": ({"latents": latents(1, 3, 6, 8)}, r"expected \(1, 4, any, any\)"),
    "latents of other batch": ({"latents": latents(2, CHANNELS, 6, 8)}, r"expected \(1, 4, any, any\)"),
    "latents against size": (
        {"latents": latents(1, CHANNELS, 6, 8), "size": (64, 64)},
        r"latents has shape \(1, 4, 6, 8\); expected \(1, 4, 8, 8\)",
    ),
    "latents too large": ({"latents": latents(1, CHANNELS, 6, 33)}, "the size of latents is 264x48"),
    "latents empty": ({"latents": latents(1, CHANNELS, 0, 8)}, "the size of latents is 64x0"),
    "latents NaN": ({"latents": with_one(NAN)}, "latents holds NaN or infinity"),
    "latents infinite": ({"latents": with_one(-INF)}, "latents holds NaN or infinity"),
    "latents beyond float32": ({"latents": np.full((1, CHANNELS, 6, 8), 1e39)}, "latents holds NaN or inf"),
    "latents text": ({"latents": "noise"}, "latents has dtype <U5; expected numbers"),
    "latents ragged": ({"latents": [[1.0], [1.0, 2.0]]}, "latents is not an array|latents has dtype object"),
    "latents of objects": ({"latents": np.full((1, CHANNELS, 6, 8), None)}, "latents has dtype object"),
    "latents of fields": ({"latents": np.zeros((1, CHANNELS, 6, 8), "f4,f4")}, "latents has dtype .*expected numbers"),
    "latents of time": ({"latents": np.zeros((1, CHANNELS, 6, 8), "m8[s]")}, "latents has dtype timedelta64"),
    "latents boolean": ({"latents": np.zeros((1, CHANNELS, 6, 8), bool)}, "latents has dtype bool"),
    "latents masked": ({"latents": np.ma.zeros((1, CHANNELS, 6, 8))}, "latents is a masked array; fill what is masked"),
    "latents one number": ({"latents": 0.5}, r"latents has shape \(\)"),
    "latents generated": ({"latents": iter([1.0])}, "latents has dtype object"),
    "latents immense": ({"latents": view(1, CHANNELS, 2**20, 2**20)}, "the size of latents is 8388608x8388608"),
    "latents without an array": ({"latents": Stubborn()}, "latents is not an array: not for you"),
    "embeds immense": ({"prompt": None, "prompt_embeds": view(2**40, 12, WIDTH)}, "a batch of at most 16"),
    "embeds of immense length": ({"prompt": None, "prompt_embeds": view(1, 2**40, WIDTH)}, "of 1 to 48 tokens"),
    "latents complex": ({"latents": np.zeros((1, CHANNELS, 6, 8), complex)}, "dtype complex128"),
    "embeds and prompt": ({"prompt_embeds": latents(1, WINDOW, WIDTH)}, "both prompt and prompt_embeds"),
    "embeds of other width": (
        {"prompt": None, "prompt_embeds": latents(1, WINDOW, WIDTH + 1)},
        r"prompt_embeds has shape \(1, 12, 7\); expected \(any, any, 6\)",
    ),
    "embeds of rank 2": (
        {"prompt": None, "prompt_embeds": latents(WINDOW, WIDTH)},
        "prompt_embeds has shape",
    ),
    "embeds of no prompt": (
        {"prompt": None, "prompt_embeds": latents(0, WINDOW, WIDTH)},
        "expected at least one prompt of 1 to 48 tokens",
    ),
    "embeds of no token": ({"prompt": None, "prompt_embeds": latents(1, 0, WIDTH)}, "of 1 to 48 tokens"),
    "embeds too long": ({"prompt": None, "prompt_embeds": latents(1, 49, WIDTH)}, "of 1 to 48 tokens"),
    "embeds against the window": (
        {"prompt": None, "prompt_embeds": latents(1, WINDOW + 1, WIDTH)},
        "has 13 tokens; with guidance, expected a multiple of 12",
    ),
    "embeds NaN": (
        {"prompt": None, "prompt_embeds": latents(1, WINDOW, WIDTH, value=NAN)},
        "NaN or infinity",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_argument_is_refused_before_the_first_step(pipe: Pipeline, arguments: dict[str, Any], message: str) -> None:
    prompt = arguments.get("prompt", "red")
    rest = {name: value for name, value in arguments.items() if name != "prompt"}
    with pytest.raises(InputError, match=message) as caught:
        pipe.sample(prompt, **rest)  # not iterated: the check does not wait for the first step
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        pipe(prompt, **rest)


# What a code tells apart, by the beginning of the names in BAD; of none of them are steps, guidance, seeds and texts.
CODES = {
    "request.size": ("size not", "size too", "size zero", "latents too", "latents empty", "latents immense"),
    "request.batch": ("count", "prompts with count"),
    "request.array": (
        "latents of",
        "latents NaN",
        "latents text",
        "latents ragged",
        "embeds of",
        "embeds too",
        "embeds NaN",
    ),
    "request.sampler": ("sampler unknown", "sampler empty"),
    "request.noise": ("noise unknown",),
    "request.prompt": ("prompt not Unicode",),
    "request.invalid": ("steps", "guidance ", "seed", "prompt absent", "negative", "size text", "embeds and prompt"),
}


@pytest.mark.parametrize("code", CODES)
def test_a_bad_argument_has_the_code_of_its_kind(pipe: Pipeline, code: str) -> None:
    for start in CODES[code]:
        found = [arguments for name, (arguments, _) in BAD.items() if name.startswith(start)]
        assert found, start
        for arguments in found:
            with pytest.raises(InputError) as caught:
                pipe.sample(**{"prompt": "red", **arguments})
            assert caught.value.code == code, (start, str(caught.value))


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda pipe: pipe.sample("red", steps=4, sampler="dpmsolver:algorithm=dpmsolver"), "request.sampler"),
        (lambda pipe: pipe.sample("red", steps=1000), "request.sampler"),
        (lambda pipe: pipe.sample("red", image="photo.png"), "request.image"),
        (lambda pipe: pipe.sample("red", mask=PHOTO), "request.image"),
        (lambda pipe: pipe.sample("red", image=[PHOTO, PHOTO, PHOTO]), "request.image"),
        (lambda pipe: pipe.sample("red", sampler="dpmpp_sde", noise="torch"), "request.noise"),
        (lambda pipe: ldm_runtime.load(pipe.package.path, engine="magic"), "request.engine"),
        (lambda pipe: ldm_runtime.load(pipe.package.path, engine_options={"ort": 3}), "request.engine"),
        (lambda pipe: pipe.decode_array(latents(1, 3, 6, 8)), "request.array"),
    ],
)
def test_other_refusals_have_the_code_of_their_kind(pipe: Pipeline, call: Any, code: str) -> None:
    with pytest.raises(InputError) as caught:
        call(pipe)
    assert caught.value.code == code, str(caught.value)


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), Fraction(10**400), 10**6000], ids=["positive", "negative", "ratio", "unprintable"]
)
@pytest.mark.parametrize("name", ["steps", "strength", "guidance", "guidance_rescale", "seed", "count", "stop_after"])
def test_an_immense_number_is_refused(pipe: Pipeline, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} is .*; expected"):
        pipe.sample("red", **{"image": PHOTO, name: value})
    for pair in ({"guidance_interval": (0, value)}, {"variation": (1, value)}, {"size": (64, value)}):
        with pytest.raises(InputError, match="expected"):
            pipe.sample("red", **pair)


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [
        (None, (1, 2), "prompts is None; expected two texts"),
        ("ab", (1, 2), "prompts is 'ab'; expected two texts"),
        (["a"], (1, 2), "prompts is .*; expected two texts"),
        (("a", 3), (1, 2), "prompts is .*; expected a text or a list of texts"),
        (("a", "b"), None, "seeds is None; expected two integers"),
        (("a", "b"), [1, 2, 3], "seeds is .*; expected two integers"),
    ],
)
def test_ends_of_an_interpolation_are_two(pipe: Pipeline, prompts: Any, seeds: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        interpolate(pipe, prompts, seeds, 2)


def test_notices_go_into_a_list_alone(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="notices is 3; expected a list"):
        pipe.embed("red", notices=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"notices is \(\); expected a list"):
        pipe.encode(PHOTO, notices=())  # type: ignore[arg-type]


@pytest.mark.parametrize("check", [[], np.array([1, 2]), 10**6000, "none"], ids=["list", "array", "number", "name"])
def test_an_unknown_check_is_refused(tiny: Path, check: Any) -> None:
    with pytest.raises(InputError, match="check is .*; expected one of cached, full, size"):
        ldm_runtime.load(tiny, check=check)


@pytest.mark.parametrize("stop", [False, np.False_])
def test_a_callback_ends_the_run_with_any_false(pipe: Pipeline, stop: Any) -> None:
    with pytest.raises(Cancelled):
        pipe("red", steps=2, callback=lambda step: stop)


def test_unknown_argument_is_python_s_own_error(pipe: Pipeline) -> None:
    with pytest.raises(TypeError, match="num_inference_steps"):
        pipe("red", num_inference_steps=3)


LEGAL: dict[str, dict[str, Any]] = {
    "empty prompt": {"prompt": ""},
    "empty negative": {"negative": ""},
    "seed 0": {"seed": 0},
    "largest seed": {"seed": 2**64 - 1, "count": 2},
    "numpy integers": {"seed": np.int64(3), "steps": np.int32(2), "size": (np.int64(32), np.uint8(16))},
    "guidance 0": {"guidance": 0},
    "guidance 1": {"guidance": 1.0},
    "numpy guidance": {"guidance": np.float32(2.5)},
    "one step": {"steps": 1},
    "smallest size": {"size": (16, 16)},
    "largest size": {"size": (256, 256), "steps": 1},
    "size as list": {"size": [32, 16]},
    "largest batch": {"count": 8, "steps": 1},
    "largest batch alone": {"count": 16, "steps": 1, "guidance": 1},
    "float64 latents": {"latents": np.zeros((1, CHANNELS, 6, 8))},
    "big-endian latents": {"latents": np.zeros((1, CHANNELS, 6, 8), ">f4")},
    "read-only latents": {"latents": view(1, CHANNELS, 6, 8)},
    "latents of other strides": {"latents": np.zeros((8, 6, CHANNELS, 1), np.float32).T},
    "integer latents": {"latents": np.ones((1, CHANNELS, 6, 8), dtype=np.int64)},
    "embeds of three tokens": {"prompt": None, "prompt_embeds": latents(1, 3, WIDTH), "guidance": 1},
    "embeds of two windows": {"prompt": None, "prompt_embeds": latents(1, 2 * WINDOW, WIDTH)},
}


@pytest.mark.parametrize("arguments", LEGAL.values(), ids=LEGAL.keys())
def test_legal_edge_is_drawn(pipe: Pipeline, arguments: dict[str, Any]) -> None:
    rest = {"seed": 1, "steps": 2, **arguments}
    prompt = rest.pop("prompt", "red")
    images = pipe(prompt, **rest)
    assert len(images) == rest.get("count", 1)
    assert all(image.mode == "RGB" for image in images)


def test_engine_unknown_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="engine is 'abacus'; expected one of auto, tensorrt, "):
        ldm_runtime.load(tiny, engine="abacus")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a" * 5000, "path is 'aaaa.*, which cannot be looked up: File name too long"),
        ("a/" * 3000, "path is 'a/a/.*, which cannot be looked up: File name too long"),
        ("a\0b", r"path is 'a\\x00b', which is not a path: embedded null byte"),
        ("\ud800", r"path is '\\ud800', which is not a path"),
        ("", "path is ''; expected a path"),
        (3, "path is 3; expected a path as text or a pathlib.Path"),
        (b"x", "path is b'x'; expected a path"),
        (["x"], r"path is \['x'\]; expected a path"),
        (True, "path is True; expected a path"),
    ],
)
def test_what_is_no_path_is_one_short_sentence(path: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ldm_runtime.load(path)
    assert len(str(caught.value)) < 200 and printable(str(caught.value)) == str(caught.value)


def test_a_loop_of_links_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match="cannot be looked up: Too many levels of symbolic links"):
        ldm_runtime.load(tmp_path / "a" / "c")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_may_not_be_looked_into_is_one_sentence(
    number: int, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, **options: Any) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        with pytest.raises(InputError, match=f"cannot be looked up: {os.strerror(number)}"):
            check_path("path", tiny)
    assert check_path("path", str(tiny)) == tiny
    assert check_path("path", tiny / "nothing" / "there") == tiny / "nothing" / "there"
    assert check_path("path", tiny / "manifest.json" / "below a file") is not None


@pytest.mark.parametrize("count", [0, -1, 10**9, 10_001, 1.0, True])
def test_the_number_of_outputs_is_checked_before_they_are_listed(count: Any, tmp_path: Path) -> None:
    for out in (None, tmp_path / "a.png"):
        with pytest.raises(InputError, match="count is .*; expected an integer from 1 to 10000"):
            output_paths(out, prompt="x", count=count, force=False)


DECODE: dict[str, tuple[Any, str]] = {
    "rank": (latents(CHANNELS, 6, 8), "latents has shape"),
    "channels": (latents(1, 3, 6, 8), "latents has shape"),
    "no image": (latents(0, CHANNELS, 6, 8), "latents holds no image"),
    "size": (latents(1, CHANNELS, 1, 8), "the size of latents is 64x8"),
    "NaN": (with_one(NAN), "latents holds NaN"),
    "immense": (view(2**40, CHANNELS, 6, 8), "latents are 1099511627776 with 3377699720527872 pixels together"),
}


@pytest.mark.parametrize(("value", "message"), DECODE.values(), ids=DECODE.keys())
def test_bad_latents_are_not_decoded(pipe: Pipeline, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.decode(value)


ENCODE: dict[str, tuple[Any, str]] = {
    "size": (Image.new("RGB", (65, 64)), "the size of the image is 65x64; expected a width"),
    "too large": (Image.new("RGB", (512, 64)), "from 16 to 256"),
    "no image": ([], "expected a PIL image or a list of at least one"),
    "an array": ([np.zeros((64, 64, 3))], "got ndarray; expected a PIL image"),
    "an array alone": (np.zeros((64, 64, 3)), "image is array.*; expected a PIL image or a list"),
    "a number": (3, "image is 3; expected a PIL image or a list"),
    "images without end": (itertools.repeat(Image.new("RGB", (64, 64))), "image is repeat.*; expected a PIL image"),
    "many after a small one": (
        [Image.new("RGB", (64, 64)), *[Image.new("1", (4096, 4096))] * 1000],
        "the images are 1001 with 16777220096 pixels together",
    ),
    "a million images": (
        [Image.new("RGB", (64, 64))] * 10**6,
        "the images are 1000000 with 4096000000 pixels together",
    ),
    "two sizes": ([Image.new("RGB", (64, 64)), Image.new("RGB", (32, 64))], "different sizes .32x64, 64x64."),
}


@pytest.mark.parametrize(("value", "message"), ENCODE.values(), ids=ENCODE.keys())
def test_bad_image_is_not_encoded(pipe: Pipeline, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.encode(value)


@pytest.mark.parametrize("value", [[], [3], None, 5])
def test_bad_text_is_not_embedded(pipe: Pipeline, value: Any) -> None:
    with pytest.raises(InputError, match="text"):
        pipe.embed(value)
