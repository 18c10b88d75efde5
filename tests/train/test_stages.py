"""The stages by themselves: the data of a step, and the effect of their options."""

import dataclasses

import numpy as np
import pytest
import torch

from ldm_export.models import CLIPTextModel
from ldm_export.recipes.train import CaptionsRecipe, load_train_recipe
from ldm_export.train.autoencoder import (
    AutoencoderStage,
    DecoderStage,
    encode_images,
    latent_scale,
    latent_statistics,
    to_tensor,
)
from ldm_export.train.diffusion import DiffusionStage, spread_timesteps
from ldm_export.train.image_folder import compose, load_images
from ldm_export.train.latents import Captions, Corpus, LatentSet
from ldm_export.train.loop import precision, step_generator
from ldm_export.train.text_encoder import TextEncoderStage
from ldm_export.train.tokenizer import train_tokenizer
from tests.train.conftest import RECIPES

CPU = torch.device("cpu")


@pytest.fixture
def recipe(workplace):
    return load_train_recipe(RECIPES / "smoke.toml")


def autoencoder(recipe, **changes):
    recipe = dataclasses.replace(recipe, autoencoder=dataclasses.replace(recipe.autoencoder, **changes))
    return AutoencoderStage(recipe, load_images(recipe.data)[0], CPU)


@pytest.fixture
def corpus(recipe, workplace):
    train_tokenizer(["red square"], vocab_size=530, max_length=16, folder=workplace / "tokenizer")
    images = load_images(recipe.data)[0]
    vae = autoencoder(recipe).modules["vae"].eval()
    sets = [LatentSet(encode_images(vae, part, recipe.data.all_backgrounds, CPU, mixed=False), part) for part in images]

    def build(**changes):
        captions = Captions(workplace / "tokenizer", 16)
        space = recipe.latent_spec(latent_scale(sets[0].mean))
        return Corpus(dataclasses.replace(recipe, **changes), *sets, vae, space, captions)

    return build


@pytest.fixture
def diffusion(corpus):
    def build(**changes):
        made = corpus(**changes)
        torch.manual_seed(1)
        text_encoder = CLIPTextModel(made.recipe.text_encoder_config(made.captions.vocab_size)).eval()
        return DiffusionStage(made, text_encoder.requires_grad_(False), CPU)

    return build


def test_a_batch_is_whole_images_mirrored_at_most(recipe):
    stage = autoencoder(recipe, crop=0)
    batch = ((stage.batch(3).numpy().transpose(0, 2, 3, 1) + 1) * 127.5).round().astype(np.uint8)
    colours = np.array([background.colour for background in recipe.data.all_backgrounds])
    composed = compose(stage.images.trained.rgba(slice(None))[:, None], colours[None, :, None, None])  # (N, G, H, W, 3)
    known = {image.tobytes() for image in composed.reshape(-1, 32, 32, 3)}
    known |= {np.ascontiguousarray(image[:, ::-1]).tobytes() for image in composed.reshape(-1, 32, 32, 3)}
    assert batch.shape == (4, 32, 32, 3) and all(image.tobytes() in known for image in batch)


def test_shuffled_colours_are_the_same_colours_in_another_order(recipe):
    plain, shuffled = autoencoder(recipe), autoencoder(recipe, shuffle_colours=1.0)
    a, b = (np.concatenate([stage.batch(step).numpy() for step in range(4)]) for stage in (plain, shuffled))
    assert a.shape == (16, 3, 16, 16) and not np.array_equal(a, b)
    assert len({tuple(image.max(axis=(1, 2))) for image in b}) > len({tuple(image.max(axis=(1, 2))) for image in a})


def test_a_step_draws_the_same_batch_each_time(recipe):
    stage = autoencoder(recipe)
    assert torch.equal(stage.batch(5), stage.batch(5)) and not torch.equal(stage.batch(5), stage.batch(6))


def test_the_loss_is_the_weighted_sum_of_its_parts(recipe):
    stage = autoencoder(recipe, l1=2.0, mse=3.0, kl=0.5, perceptual=0.25, perceptual_every=2, kl_warmup_steps=4)
    for step, kl in ((0, 0.125), (1, 0.25), (3, 0.5), (8, 0.5)):
        loss, parts = stage.loss(step)
        weights = {"l1": 2.0, "mse": 3.0, "kl": kl, "perceptual": 0.5}
        assert parts.keys() == ({"l1", "mse", "kl"} if step % 2 else weights.keys())
        assert loss.item() == pytest.approx(sum(weights[name] * value for name, value in parts.items()), rel=1e-5)


def test_without_a_perceptual_weight_no_perceptual_file_is_needed(recipe, workplace):
    (workplace / "data-cache" / "smoke" / "vgg16.safetensors").unlink()
    assert "perceptual" not in autoencoder(recipe, perceptual=0.0).loss(0)[1]


def test_the_decoder_learns_from_noisy_latents_and_the_encoder_stays(recipe):
    before = autoencoder(recipe).modules["vae"].eval()
    images = load_images(recipe.data)[0]
    with_noise = dataclasses.replace(recipe, decoder=dataclasses.replace(recipe.decoder, noise=0.5))
    without = dataclasses.replace(recipe, decoder=dataclasses.replace(recipe.decoder, noise=0.0))
    noisy, clean = (DecoderStage(each, images, CPU, before, 1.0) for each in (with_noise, without))
    assert noisy.loss(0)[1]["l1"] != clean.loss(0)[1]["l1"] and "kl" not in clean.loss(0)[1]
    batch = clean.batch(1)
    with torch.no_grad():
        expected = torch.nn.functional.l1_loss(before(batch), batch)
    assert clean.loss(1)[1]["l1"] == pytest.approx(expected.item(), rel=2e-2)  # the loss may be computed in bfloat16
    grads = dict(zip([name for name, _ in noisy.modules["vae"].named_parameters()], gradients(noisy), strict=True))
    assert {name.partition(".")[0] for name, grad in grads.items() if grad is not None} == {
        "decoder",
        "post_quant_conv",
    }
    assert all(grad is None for name, grad in grads.items() if name.startswith(("encoder.", "quant_conv.")))


def gradients(stage):
    stage.loss(1)[0].backward()
    return [p.grad for module in stage.modules.values() for p in module.parameters()]


def test_gradient_checkpointing_changes_no_gradient(recipe, diffusion):
    pairs = [(diffusion(gradient_checkpointing=True), diffusion(gradient_checkpointing=False))]
    without = dataclasses.replace(recipe, gradient_checkpointing=False)
    pairs.append((autoencoder(recipe), autoencoder(without)))
    for a, b in pairs:
        for one, other in zip(gradients(a), gradients(b), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_unet_learns_and_the_text_encoder_stays(diffusion):
    stage = diffusion()
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients(stage))
    assert stage.modules.keys() == {"unet"} and all(p.grad is None for p in stage.text_encoder.parameters())


@pytest.mark.slow
def test_the_text_encoder_learns_the_images_of_its_captions(corpus):
    made = corpus(captions=CaptionsRecipe(dropout=0.0))
    stage = TextEncoderStage(made, CPU)
    optimiser = torch.optim.Adam([p for module in stage.modules.values() for p in module.parameters()], 3e-3)
    losses: list[float] = []
    for step in range(150):
        optimiser.zero_grad()
        loss = stage.loss(step)[0]
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    images = made.trained.images
    with torch.no_grad():
        predicted = stage._predict_latents(stage.modules, list(images.captions), torch.rand(len(images)))
    latents = made.space.scaled(made.trained.mean[:, 0])
    distances = torch.cdist(predicted.flatten(1), latents.flatten(1))
    colours = [caption.split()[0] for caption in images.captions]
    assert [colours[row] for row in distances.argmin(dim=1)] == colours
    assert losses[-1] < losses[0] / 4


def test_the_nearest_image_is_sought_on_the_same_background(corpus):
    made = corpus()
    stage = TextEncoderStage(made, CPU)
    backgrounds = np.array([0, 2, 1])
    known = made.space.scaled(torch.cat([made.held_out.mean, made.trained.mean]))
    rows = np.array([1, 0, len(made.held_out.images) + 2])
    predicted = known[torch.from_numpy(rows), torch.from_numpy(backgrounds)]
    assert stage._nearest(predicted, backgrounds).tolist() == rows.tolist()


def test_latents_are_selected_by_row_and_background():
    mean = torch.tensor([[3.0, 30.0], [5.0, 50.0]]).view(2, 2, 1, 1, 1).expand(2, 2, 1, 2, 2)
    selected = LatentSet(mean, None).select(np.array([1, 0, 1]), np.array([1, 0, 0]))
    assert selected.shape == (3, 1, 2, 2) and [latent.unique().item() for latent in selected] == [50.0, 3.0, 5.0]


def test_timesteps_are_uniform_and_spread_over_each_batch():
    generator = torch.Generator().manual_seed(0)
    batches = torch.stack([spread_timesteps(8, 1000, generator) for _ in range(2000)])
    assert batches.dtype == torch.int64 and batches.min() >= 0 and batches.max() <= 999
    assert all(set((batch // 125).tolist()) == set(range(8)) for batch in batches)  # one in each eighth
    for place in (0, 5):
        shares = torch.bincount(batches[:, place] // 100, minlength=10) / 2000
        torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.03, rtol=0)


def test_samples_depend_on_the_prompt_and_the_seed_alone(diffusion):
    stage = diffusion()
    first, again = (
        stage.sample(stage.modules["unet"], prompts) for prompts in (("red square", "red disc"), ("red square",))
    )
    assert first.shape == (2, 3, 32, 32)
    np.testing.assert_allclose(first[:1], again, atol=1e-5)
    assert np.abs(first[0] - first[1]).max() > 1e-4


def test_random_numbers_of_stages_and_steps_differ():
    draws = {
        tuple(torch.randn(4, generator=step_generator(*key)).tolist()) for key in ((0, 1, 0), (0, 2, 0), (0, 1, 1))
    }
    assert len(draws) == 3
    assert torch.equal(
        torch.randn(4, generator=step_generator(5, 1, 7)), torch.randn(4, generator=step_generator(5, 1, 7))
    )


def test_latents_of_every_background_are_those_of_the_composed_images(recipe):
    stage = autoencoder(recipe)
    vae, images, backgrounds = stage.modules["vae"].eval(), stage.images.trained, recipe.data.all_backgrounds
    mean = encode_images(vae, images, backgrounds, CPU, mixed=False)
    assert mean.shape == (len(images), 3, 4, 8, 8)
    image = to_tensor(compose(images.rgba(slice(2, 3)), np.array(backgrounds[1].colour)))
    with torch.no_grad():
        torch.testing.assert_close(mean[2, 1], vae.encode(image)[0].chunk(2)[0], rtol=1e-4, atol=1e-5)


def test_captions_name_the_background_of_the_image(corpus):
    exact = CaptionsRecipe(dropout=0.0, plain_probability=0.25)
    made = corpus(captions=exact)
    random = np.random.default_rng(0)
    shares = np.bincount(made.choose_backgrounds(4000, random)) / 4000
    np.testing.assert_allclose(shares, [0.25, 0.375, 0.375], atol=0.03)
    caption = made.trained.images.captions[1]
    captions = [made.vary_caption(1, background, random) for background in range(3)]
    assert captions == [caption, f"{caption}, black background", f"{caption}, pink background"]
    named = corpus(captions=dataclasses.replace(exact, plain_name="white"))
    texts = [named.vary_caption(1, 0, random) for _ in range(1000)]
    assert set(texts) == {caption, f"{caption}, white background"}
    assert 0.2 < sum("white" in text for text in texts) / 1000 < 0.3
    dropping = corpus(captions=CaptionsRecipe(dropout=0.5))
    texts = [dropping.vary_caption(1, 2, random) for _ in range(1000)]
    assert 0.45 < texts.count("") / 1000 < 0.55 and all(t == "" or t.endswith(", pink background") for t in texts)


def test_a_channel_that_carries_nothing_is_not_active():
    mean = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mean[:, 1] = 0.5
    statistics = latent_statistics(mean, torch.full_like(mean, -4.0))
    assert statistics["active_channels"] == 2
    assert statistics["latent_deviation"] == pytest.approx(float(mean.std()))


def test_the_kl_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, logvar = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
    ours = latent_statistics(mean, logvar)["kl"]
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, torch.exp(0.5 * logvar)), normal(0.0, 1.0)).mean()
    assert ours == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("able", [False, True])
def test_a_cpu_computes_in_bfloat16_where_it_can_and_may(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    for mixed in (False, True):
        with precision(CPU, mixed=mixed):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if able and mixed else torch.float32)
