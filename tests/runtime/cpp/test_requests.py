"""Bad and odd requests: both runtimes refuse them with the same code and sentence, or say the same beside the image."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldm_runtime.errors import InputError
from ldm_runtime.interpolate import interpolate
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import Pipeline
from tests.runtime.cpp.context import Refusal
from tests.runtime.cpp.library import Library
from tests.runtime.notices import said
from tests.runtime.tiny_package import CHANNELS, WIDTH, WINDOW

pytestmark = pytest.mark.slow
NAN, INF = float("nan"), float("inf")
PHOTO = Image.new("RGB", (64, 48), (200, 30, 90))
MASK = Image.new("L", (64, 48), 255)
LONG = "the smile of a blue cat! " * 9  # longer than a window, and its beginning ends within a word
GLASS = Image.new("RGBA", (64, 48), (200, 30, 90, 128))


@pytest.fixture(scope="module")
def library(library_file: Path, onnxruntime_library: Path, tiny: Path) -> Iterator[Library]:
    with Library(library_file, onnxruntime_library, tiny) as opened:
        yield opened


def embeds(count: int = 1, tokens: int = WINDOW, value: float = 0.25) -> np.ndarray:
    return np.full((count, tokens, WIDTH), value, np.float32)


def noise(value: float = 0.5, count: int = 1) -> np.ndarray:
    return np.full((count, CHANNELS, 6, 8), value, np.float32)


def a_list(count: int) -> list[str]:
    return ["red", "blue", *["cat"] * count][:count]


REFUSED: dict[str, dict[str, Any]] = {
    "guidance negative": {"guidance": -1.0},
    "guidance infinite": {"guidance": INF},
    "steps negative": {"steps": -5},
    "steps beyond the training": {"steps": 1001},
    "sampler unknown": {"sampler": "magic"},
    "sampler empty": {"sampler": ""},
    "sampler with an apostrophe": {"sampler": "it's"},
    "sampler with quotes and a line": {"sampler": 'a "b" c\'s\n\\x'},
    "sampler of hidden characters": {"sampler": "e\u200bul\u202eer\u00a0\ue000"},
    "sampler of another alphabet": {"sampler": "эйлер"},
    "sampler of another model": {"sampler": "flow_euler"},
    "option unknown": {"sampler": "euler:order=2"},
    "option of a sampler without any": {"sampler": "euler_ancestral:order=2"},
    "option out of range": {"sampler": "unipc:order=9"},
    "option no number": {"sampler": "ddim:eta=much"},
    "option no choice": {"sampler": "euler:sigmas=linear"},
    "option no boolean": {"sampler": "plms:skip_prk_steps=2"},
    "option twice": {"sampler": "euler:sigmas=karras,sigmas=karras"},
    "noise unknown": {"noise": "white"},
    "noise of few threads": {"noise": "cuda:5"},
    "noise not correlated": {"noise": "torch", "sampler": "dpmpp_sde"},
    "size not divisible": {"size": (63, 48)},
    "size too small": {"size": (64, 8)},
    "size too large": {"size": (264, 64)},
    "size absurd": {"size": (10**9, 10**9)},
    "size negative": {"size": (-64, 64)},
    "count negative": {"count": -1},
    "count beyond the batch": {"count": 17},
    "count with guidance": {"count": 9},
    "count absurd": {"count": 10**9},
    "prompts with count": {"prompt": a_list(2), "count": 5},
    "prompts beyond the batch": {"prompt": a_list(50), "guidance": 1.0},
    "prompt absent": {"prompt": None},
    "prompts of none": {"prompt": []},
    "prompt too long": {"prompt": "red " * 30000},
    "prompt 2 too long": {"prompt": ["red", "red " * 30000]},
    "negative 2 too long": {"prompt": a_list(2), "negative": ["red", "blue " * 30000]},
    "a weight too large": {"prompt": "(red:11)", "syntax": "weighted"},
    "a weight of many digits": {"prompt": "(red:" + "1" * 30 + ")", "syntax": "weighted"},
    "a weight too small": {"prompt": ["a", "(red:0.0000001)"], "syntax": "weighted"},
    "brackets that multiply": {"prompt": "((it's:10):10.5)", "syntax": "weighted"},
    "no weight left": {"prompt": "blue", "negative": "(red:0)", "syntax": "weighted"},
    "too many windows": {"prompt": "a BREAK " * 9, "syntax": "weighted"},
    "too many windows after a weight": {"prompt": ["(red:11)", "a BREAK " * 9], "syntax": "weighted"},
    "syntax unknown": {"syntax": "other"},
    "stop below": {"stop_after": -1},
    "stop beyond": {"steps": 3, "stop_after": 4},
    "stop beyond the strength": {"steps": 4, "image": PHOTO, "strength": 0.5, "stop_after": 3},
    "rescale beyond": {"guidance_rescale": 1.5},
    "rescale no number": {"guidance_rescale": NAN},
    "interval beyond": {"guidance_interval": (0.5, 1.25)},
    "interval negative": {"guidance_interval": (-0.1, 1.0)},
    "interval backwards": {"guidance_interval": (0.75, 0.25)},
    "interval empty": {"guidance_interval": (0.1, 0.1)},
    "seeds too few": {"prompt": a_list(2), "seed": [1]},
    "seeds too many": {"seed": [1, 2]},
    "seeds of none": {"seed": []},
    "variation beyond": {"variation": (3, 1.01)},
    "variation no number": {"variation": (3, NAN)},
    "original size not read": {"original_size": (64, 64)},
    "crop not read": {"crop_top_left": (1, 0)},
    "target size not read": {"target_size": (64, 64)},
    "mask alone": {"mask": MASK},
    "strength alone": {"strength": 0.5},
    "mask and strength alone": {"mask": MASK, "strength": 0.5},
    "images too few": {"prompt": a_list(3), "image": [PHOTO, PHOTO]},
    "strength beyond": {"image": PHOTO, "strength": 1.5},
    "strength without a step": {"image": PHOTO, "strength": 0.05, "steps": 4},
    "strength without a step of LCM": {"image": PHOTO, "strength": 0.01, "sampler": "lcm", "steps": 2},
    "strength 0": {"image": PHOTO, "strength": 0.0},
    "mask of black": {"image": PHOTO, "mask": Image.new("L", (64, 48))},
    "image too small": {"image": Image.new("RGB", (64, 5))},
    "image too wide": {"image": Image.new("RGB", (300, 21))},
    "latents NaN": {"latents": noise(NAN), "size": (64, 48)},
    "embeds and prompt": {"prompt_embeds": embeds()},
    "embeds of no prompt": {"prompt": None, "prompt_embeds": embeds(0)},
    "embeds too long": {"prompt": None, "prompt_embeds": embeds(1, 49)},
    "embeds beyond the batch": {"prompt": None, "prompt_embeds": embeds(17)},
    "embeds against the window": {"prompt": None, "prompt_embeds": embeds(1, WINDOW + 1)},
    "embeds infinite": {"prompt": None, "prompt_embeds": embeds(value=INF)},
    "pooled embeds not read": {
        "prompt": None, "prompt_embeds": embeds(), "pooled_prompt_embeds": np.zeros((1, 3), np.float32),
    },
    "pooled embeds without embeds": {"pooled_prompt_embeds": np.zeros((1, 3), np.float32)},
    # Of two things that will not do, both name the same one.
    "guidance before texts": {"guidance": -1.0, "prompt": None},
    "count before prompts": {"count": 0 - 1, "prompt": None},
    "batch before images": {"count": 9, "mask": MASK},
    "images before the plan": {"mask": MASK, "sampler": "magic"},
    "strength before the sampler": {"image": PHOTO, "strength": 2.0, "sampler": "magic"},
    "sampler before noise": {"sampler": "magic", "noise": "white"},
    "noise before steps": {"noise": "white", "steps": 5000},
    "strength before steps": {"image": PHOTO, "strength": 0.001, "steps": 999, "sampler": "flow_euler"},
    "steps before size": {"steps": 5000, "size": (63, 48)},
    "size before syntax": {"size": (63, 48), "syntax": "other"},
    "pooled before syntax": {"pooled_prompt_embeds": np.zeros((1, 3), np.float32), "syntax": "other"},
    "syntax before stop": {"syntax": "other", "stop_after": 99},
    "stop before rescale": {"stop_after": 99, "guidance_rescale": 2.0},
    "interval before seeds": {"guidance_interval": (0.5, 0.5), "seed": [1, 2]},
    "seeds before variation": {"seed": [1, 2], "variation": (1, 2.0)},
    "variation before sizes": {"variation": (1, 2.0), "target_size": (8, 8)},
    "sizes before the mask": {"image": PHOTO, "mask": Image.new("L", (64, 48)), "target_size": (8, 8)},
    "the mask before prompts": {"image": PHOTO, "mask": Image.new("L", (64, 48)), "prompt": "red " * 30000},
    "a length before a weight": {"prompt": ["(red:11)", "red " * 30000], "syntax": "weighted"},
}  # fmt: skip

ODD: dict[str, dict[str, Any]] = {
    "nothing given": {},
    "an empty prompt": {"prompt": ""},
    "several prompts, one negative": {"prompt": a_list(2), "negative": "ugly"},
    "several of both": {"prompt": a_list(3), "negative": ["ugly", "", "ugly"], "count": 2},
    "equal prompts": {"prompt": ["(a:1.2)", "(a:1.2)", "[b|c]"]},
    "a prompt as negative": {"prompt": ["red", "(a:1.2)"], "negative": "(a:1.2)"},
    "a negative for embeds": {"prompt": None, "prompt_embeds": embeds(2), "negative": ["(a:1.2)", "{b|c}"]},
    "one negative for embeds": {"prompt": None, "prompt_embeds": embeds(2), "negative": "__c__"},
    "no negative for embeds": {"prompt": None, "prompt_embeds": embeds(2), "syntax": "weighted"},
    "syntax without text": {"prompt": None, "prompt_embeds": embeds(), "syntax": "weighted", "guidance": 1.0},
    "syntax of an unread negative": {
        "prompt": None, "prompt_embeds": embeds(), "syntax": "weighted", "guidance": 1.0, "negative": "x",
    },
    "a long prompt": {"prompt": LONG},
    "a long prompt of one word": {"prompt": "é" * 90},
    "a long prompt of several lines": {"prompt": "red, it's \"blue\"\n\t" * 9},
    "a long prompt of hidden characters": {"prompt": "red\u200d \u3000x\u00a0\ue000" * 12},
    "a long prompt with a space at its cut": {"prompt": "abcde " * 40},
    "a long prompt with white space before": {"prompt": "red " * 10 + " " * 70 + "x" * 70},
    "two long prompts": {"prompt": [LONG, "blue " * 99], "negative": LONG[1:]},
    "several windows": {"prompt": "red " * 25, "syntax": "weighted"},
    "weights in the plain syntax": {"prompt": "(red:1.3) [blue:0.5] BREAK a AND b <lora:x:1> {a|b} [a|b] __c__ (x:-1)"},
    "weights in the weighted syntax": {"prompt": "(red:1.3) a,BREAK [a|b] (x:-1)", "syntax": "weighted"},
    "foreign syntax before what is left out": {"prompt": [LONG + "(a:1.2)", "(b:1.5) " + LONG]},
    "digits of other alphabets": {"prompt": "(a:١.٥) [b:०] (c:२.)"},
    "white space of other alphabets": {"prompt": "(a:\u30001.5) a\u3000BREAK\u2003b (c :\u20032.5\u00a0)"},
    "words of other alphabets": {"prompt": "éAND ANDé ½AND x\u0301__a__ __é½__ __a\u0301__"},
    "capitals around a word": {"prompt": "SALT AND PEPPER, A\u3000AND\u2003BC, a AND b"},
    "no guidance": {"guidance": 1.0, "negative": "x", "guidance_rescale": 0.5, "guidance_interval": (0.25, 1.0)},
    "no guidance of many digits": {"guidance": 0.123456789, "negative": "x"},
    "an interval without an evaluation": {
        "steps": 2, "guidance_interval": (0.123456789, 0.2), "guidance_rescale": 0.5, "negative": "x",
    },
    "given noise": {"latents": noise(), "size": (64, 48), "seed": 3, "noise": "torch", "sampler": "ddim"},
    "given noise and a sampler that draws": {"latents": noise(), "size": (64, 48), "seed": 3, "sampler": "ddpm"},
    "given noise without a seed": {"latents": noise(), "size": (64, 48), "sampler": "euler:sigmas=karras"},
    "given noise and a variation": {
        "latents": noise(), "size": (64, 48), "seed": 3, "noise": "torch", "variation": (4, 0.5), "sampler": "ddim",
    },
    "no variation": {"variation": (4, 0.0), "latents": noise(), "size": (64, 48), "noise": "torch", "seed": 1},
    "another seed": {"variation": (4, 1.0), "seed": 3, "sampler": "ddim"},
    "another seed and given noise": {
        "variation": (4, 1.0), "latents": noise(), "size": (64, 48), "seed": 3, "noise": "torch", "sampler": "ddim",
    },
    "an image": {"image": PHOTO, "seed": 3, "latents": noise(), "size": (64, 48)},
    "transparent pictures": {"image": GLASS, "mask": Image.new("LA", (64, 48), (255, 200)), "strength": 1.0},
    "all of an image": {"image": PHOTO, "mask": MASK},
    "all of an image in part": {"image": PHOTO, "mask": MASK, "strength": 0.9},
    "an image of another size": {"image": PHOTO.resize((67, 55))},
    "an image for each": {"prompt": a_list(2), "image": [PHOTO, GLASS]},
    "options of all kinds": {
        "steps": 6, "guidance": 4.125, "guidance_rescale": 0.3, "guidance_interval": (0.1, 0.95),
        "sampler": "unipc:order=3",
        "seed": 2**64 - 1, "count": 3, "variation": (2**64 - 1, 0.1), "stop_after": 2, "size": (32, 40),
    },
    "seeds for each": {"prompt": a_list(2), "seed": [7, 2**63]},
}  # fmt: skip


def of_python(pipe: Pipeline, options: dict[str, Any]) -> Any:
    """What Python says: the code and the sentence of its refusal, or notices, seeds and metadata."""
    try:
        run = pipe.sample(**{"prompt": "red", "seed": 1, **options})
    except InputError as error:
        return error.code, str(error)
    return said(run), run.request.seeds, [list(run.metadata(image).items()) for image in range(run.request.batch)]


def of_library(library: Library, options: dict[str, Any]) -> Any:
    try:
        run = library.sample(**{"prompt": "red", "seed": 1, **options})
    except Refusal as refusal:
        return refusal.code, refusal.text
    return run.notices, run.seeds, [list(run.metadata(image).items()) for image in range(run.count)]


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_what_will_not_do_is_refused_alike(pipe: Pipeline, library: Library, options: dict[str, Any]) -> None:
    expected = of_python(pipe, options)
    assert isinstance(expected[0], str), "Python takes it"
    assert of_library(library, options) == expected


@pytest.mark.parametrize("options", ODD.values(), ids=ODD.keys())
def test_notices_and_descriptions_are_alike(pipe: Pipeline, library: Library, options: dict[str, Any]) -> None:
    expected = of_python(pipe, options)
    assert not isinstance(expected[0], str), expected
    if "seed" not in options:
        expected = expected[:1] + of_library(library, options)[1:]
    assert of_library(library, options) == expected


# --- interpolation: a frame of the library's is one of Python's ---

BETWEEN: dict[str, dict[str, Any]] = {
    "plain": {},
    "the same ends": {"to_prompt": "red", "to_seed": 1},
    "the same prompts": {"to_prompt": "red (a:1.2)", "prompt": "red (a:1.2)"},
    "long prompts": {"prompt": LONG, "to_prompt": "(b:2)" + LONG, "negative": LONG},
    "the negative prompt at an end": {"prompt": "(a:1.2)", "negative": "(a:1.2)"},
    "weights": {"prompt": "a BREAK (b:1.5)", "syntax": "weighted", "negative": "x"},
    "syntax without negative": {"syntax": "weighted", "guidance": 1.0},
    "an image": {"image": GLASS.resize((128, 96)), "strength": 0.5, "noise": "torch"},
    "options": {"size": (32, 40), "sampler": "euler_ancestral", "steps": 3, "guidance_rescale": 0.25, "stop_after": 2},
    "a variation": {"variation": (9, 0.5), "noise": "torch"},
    "no variation": {"variation": (9, 0.0), "sampler": "ddim"},
    "another seed": {"variation": (9, 1.0), "sampler": "ddim", "noise": "torch"},
    "without effect": {"guidance": 0.5, "negative": "x"},
}
SHARES = (0.0, 0.25, 1 / 3, 1.0)
REFUSED_BETWEEN: dict[str, dict[str, Any]] = {
    "steps": {"steps": -1},
    "a size": {"size": (63, 48)},
    "noise": {"noise": "white"},
    "the first prompt": {"prompt": "red " * 30000},
    "the last prompt": {"to_prompt": "red " * 30000},
    "a negative prompt": {"negative": "red " * 30000},
    "equal prompts": {"prompt": "(a:11)", "to_prompt": "(a:11)", "syntax": "weighted"},
    "a weight": {"to_prompt": "(a:11)", "syntax": "weighted"},
    "a strength": {"image": PHOTO, "strength": 2.0},
    "a stop": {"stop_after": 99},
}


def frame_of(pipe: Pipeline, share: float, options: dict[str, Any]) -> Any:
    """What the library says and draws, by Python's own parts."""
    given = dict(options)
    prompts, seeds = (given.pop("prompt"), given.pop("to_prompt")), (given.pop("seed"), given.pop("to_seed"))
    frames = interpolate(pipe, prompts, seeds, 2, **given)
    *_, last = frames._ends.run(share)
    facts = {name: fact for name, fact in last.metadata().items() if name != "conditioning"}
    return said(frames), {**facts, **frames._ends.metadata(share)}, last.latents, np.asarray(last.images()[0], int)


@pytest.mark.parametrize("options", BETWEEN.values(), ids=BETWEEN.keys())
def test_a_frame_of_an_interpolation_is_python_s(pipe: Pipeline, library: Library, options: dict[str, Any]) -> None:
    ends = {"prompt": "red", "to_prompt": "blue", "seed": 1, "to_seed": 5, "steps": 4, **options}
    for share in SHARES:
        notices, facts, latents, levels = frame_of(pipe, share, ends)
        run = library.sample(**ends, share=share).draw()
        assert run.notices == notices
        assert list(run.metadata().items()) == list(facts.items())
        assert np.abs(run.latents - latents).max() <= 1e-5 * np.abs(latents).max()
        assert np.abs(run.images[0] - levels).max() <= 1


@pytest.mark.parametrize("options", REFUSED_BETWEEN.values(), ids=REFUSED_BETWEEN.keys())
def test_ends_that_will_not_do_are_refused_alike(pipe: Pipeline, library: Library, options: dict[str, Any]) -> None:
    ends = {"prompt": "red", "to_prompt": "blue", "seed": 1, "to_seed": 5, **options}
    with pytest.raises(Refusal) as refusal:
        library.sample(**ends, share=0.5)
    with pytest.raises(InputError) as error:
        frame_of(pipe, 0.5, ends)
    assert (refusal.value.code, refusal.value.text) == (error.value.code, str(error.value))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"share": 1.5}, "share is 1.5; expected a number from 0 to 1"),
        ({"to_prompt": None}, "share and to_seed are given without to_prompt; give the prompt at the other end"),
        ({"count": 2}, "an interpolation takes one prompt"),
        ({"prompt": a_list(2)}, "an interpolation takes one prompt"),
        ({"prompt": None, "prompt_embeds": embeds()}, "an interpolation takes one prompt"),
        ({"latents": noise(), "size": (64, 48)}, "no latents or embeddings"),
    ],
)
def test_what_only_the_library_is_asked(library: Library, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refusal) as refusal:
        library.sample(**{"prompt": "red", "to_prompt": "blue", "seed": 1, "to_seed": 5, "share": 0.5, **options})
    assert refusal.value.code == "request.invalid" and sentence in refusal.value.text


# --- what the C interface can say and Python cannot ---

ONE_TEXT, ONE_NUMBER = (ctypes.c_char_p * 1)(b"ugly"), (ctypes.c_uint64 * 1)(5)
NEGATIVES, SEEDS = ctypes.cast(ONE_TEXT, ctypes.c_void_p), ctypes.cast(ONE_NUMBER, ctypes.c_void_p)


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        ({"negative": "x", "negatives": NEGATIVES}, "request.invalid", "both negative and negatives were given"),
        ({"prompts": NEGATIVES, "prompt_count": 1}, "request.invalid", "both prompt and prompts were given"),
        ({"prompt_count": 2}, "request.invalid", "prompt_count is 2, but prompts is NULL"),
        ({"seeds": SEEDS, "seed_count": 1}, "request.invalid", "both seed and seeds were given"),
        ({"image_count": 1}, "request.image", "image_count is 1, but images is NULL"),
        ({"image": []}, "request.image", "image_count is 0"),
        ({"size": (64, 0)}, "request.size", "give both sides, or neither"),
    ],
)
def test_what_contradicts_itself_is_refused(library: Library, fields: dict[str, Any], code: str, sentence: str) -> None:
    with pytest.raises(Refusal) as refusal:
        library.sample(**{"prompt": "red", "seed": 1, **fields})
    assert refusal.value.code == code and sentence in refusal.value.text


def test_an_empty_path_is_refused_alike(library: Library) -> None:
    with pytest.raises(InputError) as error:
        open_package("")
    with pytest.raises(Refusal) as refusal:
        library.call("ldm_package_open", b"", None, ctypes.byref(ctypes.c_void_p()))
    assert (refusal.value.code, refusal.value.text) == (error.value.code, str(error.value))


@pytest.mark.parametrize("prompt", [{"prompt": "red"}, {"prompt_embeds": embeds()}])
def test_negatives_are_one_for_each_prompt_however_that_is_given(library: Library, prompt: dict[str, Any]) -> None:
    several = library.sample(**prompt, negatives=NEGATIVES, seed=1, steps=2).draw()
    single = library.sample(**prompt, negative="ugly", seed=1, steps=2).draw()
    without = library.sample(**prompt, seed=1, steps=2).draw()
    np.testing.assert_array_equal(several.latents, single.latents)
    assert several.metadata() == single.metadata() and several.metadata()["negative"] == "ugly"
    assert np.abs(several.latents - without.latents).max() > 1e-5
