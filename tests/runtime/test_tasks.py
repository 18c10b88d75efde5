"""Image to image, inpainting, variations, guidance intervals, seeds, previews, interpolation: their rules."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldm_runtime.errors import Cancelled, InputError
from ldm_runtime.interpolate import OWN, interpolate, save_interpolation
from ldm_runtime.pipeline import Pipeline
from tests.runtime.notices import said


def final(pipe: Pipeline, prompt: Any = "red", **arguments: Any) -> np.ndarray:
    """The latents after the last step."""
    return list(pipe.sample(prompt, **{"steps": 4, "seed": 1, **arguments}))[-1].latents


def photo(width: int = 64, height: int = 48) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 4 % 256, y * 5 % 256, (x + y) * 2 % 256], axis=2).astype(np.uint8))


def half_mask(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.where(np.arange(width) < width // 2, 255, 0).astype(np.uint8)[None].repeat(height, 0))


# --- image to image ---


def test_strength_is_the_share_of_steps_that_is_taken(pipe: Pipeline, unet_batches: list[int]) -> None:
    for strength, taken in ((0.25, 2), (0.5, 5), (0.999, 9), (1.0, 10)):
        for steps in (10, np.int64(10)):
            unet_batches.clear()
            final(pipe, image=photo(), strength=strength, steps=steps)
            assert len(unet_batches) == taken


def test_the_less_strength_the_nearer_to_the_image(pipe: Pipeline) -> None:
    def away(strength: float) -> float:
        drawn = pipe("red", image=photo(), strength=strength, steps=20, seed=1)[0]
        return float(np.abs(np.asarray(drawn, float) - np.asarray(original, float)).mean())

    original = pipe.decode(pipe._codec.sample(_pixels(photo()), np.zeros((1, 4, 6, 8), np.float32)))[0]
    assert away(0.05) < away(0.5) < away(1.0)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None] / np.float32(127.5) - np.float32(1)


def test_the_result_has_the_images_size_less_what_does_not_fit(pipe: Pipeline) -> None:
    assert pipe("red", image=photo(67, 55), steps=2)[0].size == (64, 48)
    assert pipe("red", image=photo(67, 55), steps=2, size=(32, 16))[0].size == (32, 16)


def test_one_image_for_all_or_one_for_each(pipe: Pipeline) -> None:
    other = photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    both = final(pipe, ["red", "blue"], image=[photo(), other])
    np.testing.assert_array_equal(both[:1], final(pipe, "red", image=photo()))
    np.testing.assert_array_equal(both[1:], final(pipe, "blue", image=other, seed=2))
    repeated = final(pipe, ["red", "blue"], image=photo())
    np.testing.assert_array_equal(repeated[:1], both[:1])
    assert np.abs(repeated[1] - both[1]).max() > 1e-3


def test_the_image_prompt_and_seed_matter(pipe: Pipeline) -> None:
    base = final(pipe, image=photo())
    for changes in ({"seed": 2}, {"image": half_mask()}, {"strength": 0.5}):
        assert np.abs(final(pipe, **{"image": photo(), **changes}) - base).max() > 1e-3
    assert np.abs(final(pipe, "blue", image=photo()) - base).max() > 1e-6


# --- inpainting ---


def test_what_the_mask_keeps_is_the_images_own(pipe: Pipeline) -> None:
    painted = final(pipe, image=photo(), mask=half_mask(), steps=6)
    kept = final(pipe, "blue", image=photo(), mask=half_mask(), steps=6, guidance=3.0)
    np.testing.assert_array_equal(painted[..., 4:], kept[..., 4:])
    assert np.abs(painted[..., :4] - kept[..., :4]).max() > 1e-6
    assert np.abs(painted[..., :4] - final(pipe, image=photo(), mask=half_mask(), seed=2)[..., :4]).max() > 1e-3


def test_a_white_mask_at_full_strength_is_text_to_image(pipe: Pipeline) -> None:
    white = Image.new("L", (64, 48), 255)
    np.testing.assert_allclose(final(pipe, image=photo(), mask=white), final(pipe, size=(64, 48)), atol=1e-6)


# --- variations, guidance, seeds ---


def test_variations_go_from_one_seed_to_the_other(pipe: Pipeline) -> None:
    np.testing.assert_allclose(final(pipe, variation=(9, 0.0)), final(pipe), atol=1e-5)
    np.testing.assert_allclose(final(pipe, variation=(9, 1.0)), final(pipe, seed=9), atol=1e-5)

    def away(strength: float) -> float:
        return float(np.abs(final(pipe, variation=(9, strength)) - final(pipe)).mean())

    assert 0 < away(0.1) < away(0.4) < away(1.0)


def test_guidance_is_on_only_in_its_interval(pipe: Pipeline, unet_batches: list[int]) -> None:
    final(pipe, steps=10, guidance=3.0, guidance_interval=(0.2, 0.7))
    assert unet_batches == [1, 1, 2, 2, 2, 2, 2, 1, 1, 1]
    np.testing.assert_array_equal(final(pipe, guidance=3.0, guidance_interval=(0.99, 1.0)), final(pipe, guidance=1.0))


def test_a_seed_for_each_image(pipe: Pipeline) -> None:
    both = final(pipe, ["red", "blue"], seed=[7, 3])
    np.testing.assert_array_equal(both[0], final(pipe, "red", seed=7)[0])
    np.testing.assert_array_equal(both[1], final(pipe, "blue", seed=3)[0])
    images = pipe(["red", "blue"], seed=[7, 3], steps=2)
    assert [image.info["seed"] for image in images] == ["7", "3"]


def test_torch_noise_is_another_image_and_told(pipe: Pipeline) -> None:
    image = pipe("red", seed=1, noise="torch", steps=2)[0]
    assert image.info["noise"] == "torch"
    assert image.tobytes() != pipe("red", seed=1, steps=2)[0].tobytes()


# --- previews and cancelling ---


def test_a_preview_is_what_the_model_predicts(pipe: Pipeline) -> None:
    steps = list(pipe.sample("red", seed=1, steps=4, sampler="ddim"))
    for step in steps:
        assert step.preview()[0].size == (64, 48)
    # the last step of DDIM leaves almost the foretold picture itself
    last = np.asarray(steps[-1].images()[0], float) - np.asarray(steps[-1].preview()[0], float)
    first = np.asarray(steps[0].images()[0], float) - np.asarray(steps[0].preview()[0], float)
    assert np.abs(last).mean() < np.abs(first).mean()


def test_a_callback_sees_every_step_and_may_cancel(pipe: Pipeline, unet_batches: list[int]) -> None:
    seen: list[int] = []
    pipe("red", steps=3, callback=lambda step: seen.append(step.index))
    assert seen == [0, 1, 2]
    unet_batches.clear()
    with pytest.raises(Cancelled, match="cancelled after step 2 of 5"):
        pipe("red", steps=5, callback=lambda step: step.index < 1)
    assert len(unet_batches) == 2


# --- interpolation ---


def test_interpolation_has_both_ends_and_goes_evenly(pipe: Pipeline, tmp_path: Path) -> None:
    frames = list(interpolate(pipe, ("red", "blue"), (1, 2), 5, steps=3))
    assert frames[0].tobytes() == pipe("red", seed=1, steps=3)[0].tobytes()
    assert frames[-1].tobytes() == pipe("blue", seed=2, steps=3)[0].tobytes()
    assert len({frame.tobytes() for frame in frames}) == 5
    save_interpolation(frames, tmp_path / "way.png")
    with Image.open(tmp_path / "way.png") as strip:
        assert strip.size == (5 * 64, 48) and strip.info["seed"] == "1 to 2" and strip.info["prompt"] == "red to blue"
    save_interpolation(frames, tmp_path / "way.gif", seconds=0.2)
    with Image.open(tmp_path / "way.gif") as animation:
        assert animation.n_frames == 8 and animation.info["duration"] == 200  # type: ignore[attr-defined]


def test_frames_tell_the_noise_and_the_syntax_of_their_ends(pipe: Pipeline) -> None:
    plain, *_ = interpolate(pipe, ("red", "blue"), (1, 2), 2, steps=1, noise="torch")
    weighted, *_ = interpolate(pipe, ("red", "(blue:1.2)"), (1, 2), 2, steps=1, syntax="weighted")
    assert plain.info["noise"] == "torch" and "syntax" not in plain.info and "conditioning" not in plain.info
    assert weighted.info["noise"] == "philox" and weighted.info["syntax"] == "weighted"


def test_interpolation_says_each_thing_once_and_of_which_end(pipe: Pipeline) -> None:
    long = "red " * 12
    frames = interpolate(
        pipe, ("[a:b:2]", long), (1, 2), 3, steps=1, negative="blue", guidance=1.0, noise="torch", sampler="ddim"
    )
    notices = [
        "'[a:b:2]' in the prompt to start from is read as words: a prompt stays the same for all steps",
        "the prompt to end at is longer than 12 tokens; 2 words (7 characters) were left out: 'red red'",
        "negative has no effect with guidance 1; it needs more than 1",
    ]
    assert said(frames) == notices and len(list(frames)) == len(frames) == 3
    frames = interpolate(pipe, ("red", "blue"), (1, 2), 2, steps=1, negative=long, syntax="plain")
    assert [notice.partition(" is longer")[0] for notice in said(frames)] == ["the negative prompt"]
    assert said(interpolate(pipe, ("red", "blue"), (1, 2), 2, steps=1, syntax="weighted", negative="blue")) == []


def test_interpolation_between_equal_ends_is_said(pipe: Pipeline) -> None:
    frames = interpolate(pipe, ("red", "red"), (1, 1), 2, steps=1)
    assert said(frames) == ["prompts and seeds are the same at both ends, so all images are the same"]
    frames = interpolate(pipe, ("red " * 12, "red " * 12), (1, 2), 2, steps=1)
    assert [notice.partition(" is longer")[0] for notice in said(frames)] == ["the prompt"]


def test_interpolation_says_which_end_is_unusable(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="a weight in the prompt to end at is 11"):
        interpolate(pipe, ("red", "(red:11)"), (1, 2), 2, syntax="weighted")
    with pytest.raises(InputError, match="every word of the negative prompt has weight 0"):
        interpolate(pipe, ("red", "blue"), (1, 2), 2, negative="(red:0)", syntax="weighted")


@pytest.mark.parametrize(
    ("prompts", "negative"), [(("red", "red BREAK red"), "blue"), (("red", "blue"), "red BREAK blue")]
)
def test_interpolation_and_one_image_have_the_same_windows(
    pipe: Pipeline, prompts: tuple[str, str], negative: str
) -> None:
    *_, last = interpolate(pipe, prompts, (1, 2), 2, steps=2, negative=negative, syntax="weighted")
    alone = pipe(prompts[1], seed=2, steps=2, negative=negative, syntax="weighted")[0]
    assert last.tobytes() == alone.tobytes()


def test_an_interpolation_may_be_drawn_again(pipe: Pipeline) -> None:
    frames = interpolate(pipe, ("red", "blue"), (1, 2), 3, steps=2, sampler="euler_ancestral")
    assert [frame.tobytes() for frame in frames] == [frame.tobytes() for frame in frames]


@pytest.mark.parametrize(("noise", "problem"), [(3, "noise is 3"), ("pink", "noise")])
def test_a_noise_of_an_interpolation_that_is_none_is_refused_at_once(pipe, noise, problem):
    with pytest.raises(InputError, match=problem):
        interpolate(pipe, ("red", "blue"), (1, 2), 3, noise=noise)


@pytest.mark.parametrize("name", OWN)
def test_options_that_follow_from_the_ends_are_refused(pipe: Pipeline, name: str) -> None:
    with pytest.raises(InputError, match=f"interpolate takes no {name}: it follows from the two prompts and seeds"):
        interpolate(pipe, ("red", "blue"), (1, 2), 3, **{name: 1})  # type: ignore[misc]


@pytest.mark.parametrize("frames", (1, 0, -3, 1001, 2.0))
def test_unusable_frames_are_refused(pipe: Pipeline, frames: Any) -> None:
    with pytest.raises(InputError, match="frames is .* from 2 to 1000"):
        interpolate(pipe, ("red", "blue"), (1, 2), frames)


# --- bad input ---

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "mask without image": ({"mask": half_mask()}, "mask was given without an image"),
    "strength without image": ({"strength": 0.5}, "strength was given without an image"),
    "image is a path": ({"image": "photo.png"}, "image is 'photo.png'; expected a PIL image"),
    "image is a number": ({"image": 3}, "image is 3; expected a PIL image"),
    "no image": ({"image": []}, r"image is \[\]; expected a PIL image or a list of at least one"),
    "many images": ({"image": [photo()] * 10**6}, "image has 1000000 images for a batch of 1"),
    "images without end": ({"image": itertools.repeat(photo())}, "image is repeat.*; expected a PIL image or a list"),
    "image too small": ({"image": photo(9, 9)}, "the size that the image of 9x9 gives"),
    "two images for one": ({"image": [photo(), photo()]}, "image has 2 images for a batch of 1"),
    "mask is text": ({"image": photo(), "mask": "m.png"}, "got str; expected a PIL image"),
    "mask is black": ({"image": photo(), "mask": Image.new("L", (64, 48))}, "the mask is black everywhere"),
    "strength 0": ({"image": photo(), "strength": 0.0}, "strength 0 of 20 steps leaves none; .* at least 0.05"),
    "strength of no steps": ({"image": photo(), "steps": 0}, "steps is 0; expected"),
    "strength of half a step": ({"image": photo(), "steps": 1.5}, "steps is 1.5; expected"),
    "strength 2": ({"image": photo(), "strength": 2.0}, "strength is 2.0; expected a number from 0 to 1"),
    "strength text": ({"image": photo(), "strength": "half"}, "strength is 'half'"),
    "rescale 2": ({"guidance_rescale": 2}, "guidance_rescale is 2; expected a number from 0 to 1"),
    "interval backwards": ({"guidance_interval": (0.8, 0.2)}, "expected its start below its end"),
    "interval of one": ({"guidance_interval": (0.8,)}, "expected two numbers from 0 to 1"),
    "interval text": ({"guidance_interval": "all"}, "expected two numbers"),
    "a size it does not read": (
        {"original_size": (64, 64)},
        "original_size was given, but this model does not read it",
    ),
    "a crop it does not read": ({"crop_top_left": (0, 0)}, "crop_top_left was given, but this model"),
    "pooled text it does not read": (
        {"prompt": None, "prompt_embeds": np.zeros((1, 12, 6)), "pooled_prompt_embeds": np.zeros((1, 20))},
        "pooled_prompt_embeds was given, but this model does not read it",
    ),
    "variation alone": ({"variation": 3}, r"variation is 3; expected \(seed, strength\)"),
    "variation seed": ({"variation": (-1, 0.5)}, "the seed of variation is -1"),
    "variation strength": ({"variation": (1, 1.5)}, "the strength of variation is 1.5"),
    "seeds too few": ({"seed": [1, 2]}, "seed has 2 numbers for 1 images"),
    "seeds negative": ({"seed": [-1]}, "seed is -1"),
    "syntax": ({"syntax": "lisp"}, "syntax is 'lisp'; expected plain or weighted"),
    "weight": ({"prompt": "(red:99)", "syntax": "weighted"}, "a weight in the prompt is 99"),
    "sde with torch noise": ({"sampler": "dpmpp_sde", "noise": "torch"}, "only noise 'philox' can give; got 'torch'"),
    "prk with an image": ({"sampler": "pndm", "image": photo()}, "set skip_prk_steps=true"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_drawn_is_refused_before_the_first_step(pipe: Pipeline, case: str) -> None:
    arguments, message = BAD[case]
    with pytest.raises(InputError, match=message):
        pipe.sample(**{"prompt": "red", "steps": 20, **arguments})
