"""The pipeline draws what its parts define: noise, plan, guidance and latent scale, whatever the batch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import ldm_runtime
from ldm_export.checkpoint.scheduler import write_scheduler_config
from ldm_runtime.errors import EngineError, NonFiniteError
from ldm_runtime.noise import philox as rng
from ldm_runtime.notice import Notice
from ldm_runtime.package import safetensors
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.sampling.solvers import read_sampler
from tests.runtime import tiny_package
from tests.runtime.noise.philox import initial_noise
from tests.runtime.notices import said
from tests.runtime.tiny_package import CHANNELS, WINDOW


def final(pipe: Pipeline, *prompt: Any, **arguments: Any) -> np.ndarray:
    """The latents after the last step."""
    return list(pipe.sample(*prompt, **arguments))[-1].latents


def relative_rms(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2)))


def test_latents_equal_a_plain_loop_over_the_diffusers_scheduler(pipe: Pipeline) -> None:
    seed, steps, guidance, shape = 5, 7, 4.0, (CHANNELS, 6, 8)
    scheduler = diffusers.DDIMScheduler.from_config(
        write_scheduler_config(pipe.contract.schedule, read_sampler("ddim"))
    )
    scheduler.set_timesteps(steps)
    negative, positive = pipe.embed(["blue", "red apple"])
    unet = pipe.engines["unet"]
    x = torch.from_numpy(rng.philox_normal(seed, 0, shape)[None])
    for t in scheduler.timesteps:
        outputs = [
            unet.run(
                {
                    "sample": x.numpy(),
                    "timestep": np.array(float(t), np.float32),
                    "encoder_hidden_states": context[None],
                }
            )["out_sample"]
            for context in (negative, positive)
        ]
        guided = outputs[0] + guidance * (outputs[1] - outputs[0])
        x = scheduler.step(torch.from_numpy(guided), t, x).prev_sample
    got = final(pipe, "red apple", negative="blue", seed=seed, steps=steps, guidance=guidance, sampler="ddim")
    assert relative_rms(got, x.numpy()) < 1e-5


def test_decoder_is_given_unscaled_latents(pipe: Pipeline) -> None:
    latents = initial_noise(3, 2, (CHANNELS, 6, 8))
    decoder = pipe.engines["vae_decoder"]
    expected = [decoder.run({"latent_sample": z[None] / 0.5 + np.float32(0.1)})["sample"] for z in latents]
    got = pipe.decode_array(latents)
    assert got.dtype == np.float32 and got.shape == (2, 3, 48, 64)
    np.testing.assert_allclose(got, np.concatenate(expected), rtol=1e-6, atol=1e-7)


def test_same_seed_same_image_other_seed_another(pipe: Pipeline) -> None:
    one, again, other = (pipe("red", seed=seed)[0] for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral"])
def test_a_batch_equals_its_singles(pipe: Pipeline, sampler: str) -> None:
    arguments: dict[str, Any] = {"sampler": sampler, "steps": 5, "negative": "blue"}
    batch = final(pipe, "red", seed=2**64 - 1, count=3, **arguments)
    for image, seed in enumerate((2**64 - 1, 0, 1)):
        single = final(pipe, "red", seed=seed, **arguments)
        np.testing.assert_allclose(batch[image], single[0], rtol=1e-5, atol=1e-6)


def test_a_list_of_prompts_is_drawn_in_order(pipe: Pipeline) -> None:
    batch = final(pipe, ["red", "blue"], negative=["a", "b"], seed=7, count=2)
    assert len(batch) == 4
    singles = [("red", "a", 7), ("red", "a", 8), ("blue", "b", 9), ("blue", "b", 10)]
    for got, (prompt, negative, seed) in zip(batch, singles, strict=True):
        wanted = final(pipe, prompt, negative=negative, seed=seed)[0]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_prompt_negative_guidance_steps_and_sampler_all_matter(pipe: Pipeline) -> None:
    base = final(pipe, "red", seed=1)
    for changed in (
        final(pipe, "blue", seed=1),
        final(pipe, "red", negative="blue", seed=1),
        final(pipe, "red", guidance=2.0, seed=1),
        final(pipe, "red", steps=5, seed=1),
        final(pipe, "red", sampler="euler", seed=1),
    ):
        assert relative_rms(changed, base) > 1e-3


def test_guidance_doubles_the_batch_and_off_does_not(pipe: Pipeline, unet_batches: list[int]) -> None:
    final(pipe, "red", guidance=3.0, steps=2, count=2)
    assert unet_batches == [4, 4]
    unet_batches.clear()
    for guidance in (1.0, 0.5, 0.0):
        final(pipe, "red", guidance=guidance, steps=1, count=2)
    assert unet_batches == [2, 2, 2]


def test_guidance_just_above_1_is_almost_none(pipe: Pipeline) -> None:
    off, on = (final(pipe, "red", negative="blue", seed=1, guidance=g) for g in (1.0, 1.0 + 1e-6))
    assert 0 < relative_rms(on, off) < 1e-4


def test_an_absent_negative_is_the_empty_prompt(pipe: Pipeline) -> None:
    np.testing.assert_array_equal(final(pipe, "red", seed=1), final(pipe, "red", negative="", seed=1))


def test_embeddings_in_place_of_the_prompt_give_the_same(pipe: Pipeline) -> None:
    embeds = pipe.embed(["red"])
    assert embeds.shape == (1, WINDOW, tiny_package.WIDTH) and embeds.dtype == np.float32
    for guidance in (1.0, 3.0):
        got = final(pipe, prompt_embeds=embeds, seed=4, guidance=guidance, count=2)
        np.testing.assert_array_equal(got, final(pipe, "red", seed=4, guidance=guidance, count=2))


def test_given_noise_in_place_of_the_seed_gives_the_same(pipe: Pipeline) -> None:
    noise = initial_noise(4, 2, (CHANNELS, 4, 8))
    before = noise.copy()
    got = final(pipe, "red", latents=noise, count=2)
    np.testing.assert_array_equal(got, final(pipe, "red", seed=4, size=(64, 32), count=2))
    np.testing.assert_array_equal(noise, before)


def test_an_absent_seed_is_drawn_and_told(pipe: Pipeline) -> None:
    first, second = pipe("red")[0], pipe("red")[0]
    assert first.info["seed"] != second.info["seed"]
    again = pipe("red", seed=int(first.info["seed"]))[0]
    assert again.tobytes() == first.tobytes()


def test_steps_are_yielded_one_by_one(pipe: Pipeline, unet_batches: list[int]) -> None:
    seen = []
    for step in pipe.sample("red", seed=1, steps=4):
        assert len(unet_batches) == step.index + 1  # nothing is computed ahead
        seen.append(step)
    assert [step.index for step in seen] == [0, 1, 2, 3] and {step.total for step in seen} == {4}
    assert [step.timestep for step in seen] == sorted((step.timestep for step in seen), reverse=True)
    np.testing.assert_array_equal(seen[-1].latents, final(pipe, "red", seed=1, steps=4))
    assert len({step.latents.tobytes() for step in seen}) == 4  # earlier steps are not overwritten


def test_the_caller_may_stop(pipe: Pipeline, unet_batches: list[int]) -> None:
    run = pipe.sample("red", steps=10)
    preview = next(run)
    run.cancel()
    assert len(unet_batches) == 1
    assert preview.decode().shape == (1, 3, 48, 64)
    image = preview.images()[0]
    assert image.size == (64, 48) and image.info["stopped after"] == "1"


def test_images_tell_how_they_were_made(pipe: Pipeline) -> None:
    images = pipe("red", negative="blue", seed=9, steps=3, guidance=2.5, sampler="euler", count=2, size=(32, 16))
    assert [image.info["seed"] for image in images] == ["9", "10"]
    assert images[1].info == {
        "prompt": "red",
        "negative": "blue",
        "seed": "10",
        "sampler": "euler",
        "steps": "3",
        "guidance": "2.5",
        "size": "32x16",
        "noise": "philox",
        "model": "tiny",
        "package": pipe.package.identity,
    }


def test_what_an_image_tells_makes_it_again(pipe: Pipeline) -> None:
    image = pipe("red", negative="blue", guidance=7.3, sampler="dpmpp_2m_karras", count=2)[1]
    told = image.info
    width, height = map(int, told["size"].split("x"))
    again = pipe(
        told["prompt"],
        negative=told["negative"],
        seed=int(told["seed"]),
        steps=int(told["steps"]),
        guidance=float(told["guidance"]),
        sampler=told["sampler"],
        size=(width, height),
    )[0]
    difference = np.asarray(again, dtype=int) - np.asarray(image, dtype=int)
    assert np.abs(difference).max() <= 1


def test_inputs_that_are_not_text_or_seed_are_told_so(pipe: Pipeline) -> None:
    noise = np.zeros((1, CHANNELS, 6, 8), np.float32)
    image = pipe(prompt_embeds=pipe.embed("red"), latents=noise)[0]
    assert image.info["conditioning"] == "given embeddings" and image.info["noise"] == "given latents"


def test_text_past_the_window_is_a_notice(pipe: Pipeline) -> None:
    run = pipe.sample("red " * 12 + "tail", negative="blue", steps=1)
    assert said(run) == ["the prompt is longer than 12 tokens; 3 words (12 characters) were left out: 'red red tail'"]
    assert said(pipe.sample("red", steps=1)) == []


def test_a_notice_names_which_text_it_is_about(pipe: Pipeline) -> None:
    long = "red " * 12

    def called(notices: Sequence[Notice]) -> list[str]:
        return [str(notice).partition(" is longer")[0] for notice in notices]

    assert called(pipe.sample("red", negative=long, steps=1).notices) == ["the negative prompt"]
    run = pipe.sample(["red", "blue", long, long], negative=["", long + "a", "", ""], count=2, steps=1)
    assert called(run.notices) == ["negative prompt 2", "prompt 3"]
    notices: list[Notice] = []
    pipe.embed(["red", long], notices=notices)
    assert called(notices) == ["prompt 2"]


def test_a_notice_of_much_text_is_short_and_ends_with_a_word(pipe: Pipeline) -> None:
    run = pipe.sample("red " * 10 + "lighthouse " * 8_000, steps=1)
    kept = "'lighthouse lighthouse lighthouse lighthouse lighthouse …'"
    assert said(run) == [f"the prompt is longer than 12 tokens; 8000 words (87999 characters) were left out: {kept}"]
    assert len(said(pipe.sample("x" * 90_000, steps=1))[0]) < 200


NO_GUIDANCE = "has no effect with guidance 1; it needs more than 1"
NOISE = np.zeros((1, CHANNELS, 6, 8), np.float32)
IMAGE, WHITE = Image.new("RGB", (64, 48)), Image.new("L", (64, 48), 255)
WITHOUT_EFFECT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "negative": ({"negative": "blue", "guidance": 1.0}, [f"negative {NO_GUIDANCE}"]),
    "rescale": ({"guidance_rescale": 0.5, "guidance": 1.0}, [f"guidance_rescale {NO_GUIDANCE}"]),
    "interval": ({"guidance_interval": (0.1, 0.9), "guidance": 1.0}, [f"guidance_interval {NO_GUIDANCE}"]),
    "interval between steps": (
        {"negative": "blue", "guidance_interval": (0.6, 0.9), "steps": 2},
        [
            f"{name} has no effect: none of 2 evaluations is in the guidance interval 0.6 to 0.9"
            for name in ("guidance", "negative")
        ],
    ),
    "variation": ({"variation": (3, 0.0)}, ["variation has no effect with strength 0"]),
    "seed with latents": (
        {"seed": 1, "latents": NOISE, "noise": "torch", "sampler": "ddim"},
        [
            "seed has no effect: latents are given and ddim draws no noise",
            "noise has no effect: latents are given and ddim draws none",
        ],
    ),
    "seed with variation": (
        {"seed": 1, "variation": (3, 1.0), "sampler": "ddim"},
        ["seed has no effect: variation has strength 1 and ddim draws no noise"],
    ),
    "latents": (
        {"variation": (3, 1.0), "latents": NOISE, "sampler": "euler_ancestral"},
        ["latents has no effect: variation has strength 1"],
    ),
    "syntax": (
        {"prompt": None, "prompt_embeds": np.zeros((1, WINDOW, 6), np.float32), "syntax": "weighted"},
        ["syntax has no effect: there is no text to read"],
    ),
    "image": ({"image": IMAGE, "mask": WHITE}, ["image has no effect: the mask is white everywhere and strength is 1"]),
}
WITH_EFFECT: dict[str, dict[str, Any]] = {
    "guidance": {"negative": "blue", "guidance_rescale": 0.5, "guidance_interval": (0.0, 0.5), "guidance": 2.0},
    "variation": {"seed": 1, "variation": (3, 0.5)},
    "variation of latents": {"latents": NOISE, "variation": (3, 0.5), "noise": "torch"},
    "seed of noise between": {"seed": 1, "latents": NOISE, "sampler": "euler_ancestral"},
    "seed of an image": {"seed": 1, "latents": NOISE, "sampler": "ddim", "image": IMAGE, "steps": 2},
    "no seed": {"latents": NOISE, "sampler": "ddim"},
    "image under a mask": {"image": IMAGE, "mask": WHITE, "strength": 0.5},
}


@pytest.mark.parametrize("case", WITHOUT_EFFECT)
def test_an_argument_without_effect_is_a_notice(pipe: Pipeline, case: str) -> None:
    arguments, notices = WITHOUT_EFFECT[case]
    assert said(pipe.sample(**{"prompt": "red", "steps": 2, **arguments})) == notices


@pytest.mark.parametrize("case", WITH_EFFECT)
def test_an_argument_with_effect_is_none(pipe: Pipeline, case: str) -> None:
    assert said(pipe.sample(**{"prompt": "red", "steps": 2, **WITH_EFFECT[case]})) == []


@pytest.mark.parametrize("case", ("variation", "seed with latents", "seed with variation", "rescale", "image"))
def test_what_is_said_to_have_no_effect_has_none(pipe: Pipeline, case: str) -> None:
    arguments, notices = WITHOUT_EFFECT[case]
    base = {"prompt": "red", "steps": 2, "seed": 5, **arguments}
    without = base | {"variation": {"variation": None}, "rescale": {"guidance_rescale": 0.0}}.get(
        case, {"image": {"image": IMAGE.rotate(30, fillcolor=(255, 9, 9))}}.get(case, {"seed": 6})
    )
    np.testing.assert_array_equal(final(pipe, **base), final(pipe, **without))


def test_a_package_without_proof_is_a_notice(package_copy: Path) -> None:
    tiny_package.edit_manifest(package_copy, "proof", "passed", value=False)
    with ldm_runtime.load(package_copy) as pipe:
        assert said(pipe.sample("red", steps=1)) == [
            "the package has not passed verification; prove it with `ldm-export verify`"
        ]


def test_encoding_gives_mean_and_log_variance(pipe: Pipeline) -> None:
    image = pipe("red", seed=1)[0]
    moments = pipe.encode([image, image])
    assert moments.shape == (2, 2 * CHANNELS, 6, 8) and moments.dtype == np.float32
    pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    expected = pipe.engines["vae_encoder"].run({"sample": pixels})["latent_parameters"]
    np.testing.assert_allclose(moments[:1], expected, rtol=1e-5, atol=1e-6)


def test_the_encoder_is_loaded_when_first_used(tiny: Path) -> None:
    with ldm_runtime.load(tiny) as pipe:
        assert set(pipe.engines) == {"text_encoder", "unet", "vae_decoder"}
        pipe.encode(Image.new("RGB", (32, 32)))
        assert "vae_encoder" in pipe.engines


def test_decode_makes_images(pipe: Pipeline) -> None:
    latents = final(pipe, "red", seed=1)
    assert pipe.decode(latents)[0].tobytes() == pipe("red", seed=1)[0].tobytes()


def test_closed_pipeline_is_one_clear_error(tiny: Path) -> None:
    with ldm_runtime.load(tiny) as pipe:
        pass
    with pytest.raises(EngineError, match="is closed; load the package again"):
        pipe("red")


def test_info_names_package_and_defaults(pipe: Pipeline) -> None:
    info = pipe.info
    assert info["engines"]["unet"] == "ort" and info["sampler"] == "dpmpp_2m" and info["size"] == (64, 48)


def poison(component: str, name: str, value: float) -> Callable[[Path], None]:
    """Put `value` into a weight, with hashes that agree."""

    def damage(folder: Path) -> None:
        file = folder / component / "model.safetensors"
        tensors = {key: array.copy() for key, array in safetensors.read(file).items()}
        tensors[name].flat[0] = value
        safetensors.write(file, tensors)
        tiny_package.rehash(folder)

    return damage


POISONS = {
    "text": (poison("text_encoder", "embedding.weight", np.nan), "text_encoder made NaN or infinity"),
    "unet": (poison("unet", "conv.bias", np.nan), r"the model output at step 1 of 4 .* holds NaN"),
    "decoder": (poison("vae_decoder", "conv.weight", np.nan), "vae_decoder made NaN or infinity in sample"),
}


@pytest.mark.parametrize(("damage", "message"), POISONS.values(), ids=POISONS.keys())
def test_non_finite_values_make_no_image(package_copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(package_copy)
    prompt = "!!"  # its first token is 0, whose embedding is poisoned
    with ldm_runtime.load(package_copy) as pipe, pytest.raises(NonFiniteError, match=message):
        pipe(prompt)


def test_non_finite_encoder_output_is_refused(package_copy: Path) -> None:
    poison("vae_encoder", "conv.weight", np.inf)(package_copy)
    with ldm_runtime.load(package_copy) as pipe, pytest.raises(NonFiniteError, match="vae_encoder made NaN"):
        pipe.encode(Image.new("RGB", (32, 32)))
