"""Recipes are read strictly: every key known, every value of its type and range."""

import dataclasses

import pytest

from ldm_export.recipe import load_train_recipe
from ldm_runtime.errors import ConfigError
from tests.train.conftest import RECIPES, smoke_recipe

SHIPPED = sorted(RECIPES.glob("*.toml"))


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if "[autoencoder]" in path.read_text()], ids=lambda p: p.stem
)
def test_every_shipped_training_recipe_loads(path):
    recipe = load_train_recipe(path)
    assert recipe.name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "smoke"', 'name = "smoke"\ncolour = 3', "unknown key 'colour'"),
        ("[vae]", "[vae]\ndepth = 3", "unknown key 'depth'"),
        ('name = "smoke"', 'name = "smoke"\nidentity = "x"', "unknown key 'identity'"),
        ("max_length = 16", "", "lacks the key 'max_length'"),
        ("seed = 0", "seed = 0.5", "seed must be a whole number"),
        ("seed = 0", "seed = true", "seed must be a whole number"),
        ("seed = 0", "seed = -1", "must not be negative"),
        ("l1 = 1.0", "l1 = nan", "l1 must be a number"),
        ("l1 = 1.0", 'l1 = "much"', "l1 must be a number"),
        ("size = 32", "size = 30", "multiple of 4"),
        ("crop = 16", "crop = 64", "crop"),
        ("widths = [16, 32]", "widths = [16, 32, 32]", "one value per width"),
        ("widths = [8, 16, 16]", "widths = [8, 16, 18]", "norm_num_groups"),
        ("attention = [true, true]", "attention = [1, true]", "attention must be true or false"),
        ("dropout = 0.2", "dropout = 1.5", "captions.dropout must be from 0 to 1"),
        ("held_out = 0.2", "held_out = 1.0", "below 1"),
        ("[captions]", "[captions]\nplain_probability = -0.1", "captions.plain_probability must be from 0 to 1"),
        (
            "[diffusion.optimiser]",
            '[diffusion]\nprediction = "sample"\n[diffusion.optimiser]',
            "epsilon or v_prediction",
        ),
        (
            "[text_encoder.optimiser]",
            "[text_encoder.optimiser]\nmuon_rate = -1.0",
            "text_encoder.optimiser.weight_decay",
        ),
        ("held_out = 0.2", 'held_out = 0.2\nheld_out_captions = "list.txt"', "exclude each other"),
        ("size = 32", "size = 32\nbackground = [0, 0, 256]", "0…255"),
        ("{ black =", '{ "" =', "must have names"),
        ("warmup_steps = 2", "warmup_steps = 99", "warmup_steps"),
        ('name = "smoke"', 'name = "../smoke"', "plain folder name"),
        ('perceptual_weights = "data-cache/smoke/vgg16.safetensors"', "", "needs perceptual_weights"),
        ("size = 32", "size = 32\nbackground = [255, 255]", "must have 3 values"),
        ("seed = 0", 'seed = 0\nsave_precision = "fp8"', "fp32 or fp16"),
        ("[vae]", "[vae", "not valid TOML"),
        ("steps = 4", "steps = 0", "diffusion.restart.steps must be positive; got diffusion.restart.steps = 0"),
        (
            "rate = 0.5",
            "rate = 0.0",
            "rate must be above 0 and at most 1; got diffusion.restart.rate = 0.0",
        ),
        ("rate = 0.5", "rate = 1.5", "got diffusion.restart.rate = 1.5"),
        ("rate = 0.5", "", "restart lacks the key 'rate'"),
        ("rate = 0.5", "rate = 0.5\nspeed = 3", "restart has the unknown key 'speed'"),
        (
            "[text_encoder.optimiser]",
            "[text_encoder.optimiser]\nmuon_rate = -1.0",
            "text_encoder.optimiser.muon_rate = -1.0",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(tmp_path, old, new, said):
    with pytest.raises(ConfigError, match=".") as caught:
        load_train_recipe(smoke_recipe(tmp_path, (old, new)))
    assert said in str(caught.value) and str(caught.value).count(str(tmp_path)) == 1


def test_the_unchanged_recipe_is_accepted(tmp_path):
    assert load_train_recipe(smoke_recipe(tmp_path)).name == "smoke"


def test_a_missing_recipe_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_train_recipe(tmp_path / "none.toml")


def test_epsilon_cannot_be_learnt_at_zero_snr(tmp_path):
    changes = [
        ("[diffusion.optimiser]", '[diffusion]\nprediction = "epsilon"\n[diffusion.optimiser]'),
        ("[schedule]", "[schedule]\nzero_terminal_snr = true"),
    ]
    with pytest.raises(ConfigError, match="v_prediction"):
        load_train_recipe(smoke_recipe(tmp_path, *changes))
    assert load_train_recipe(smoke_recipe(tmp_path, changes[0])).diffusion.prediction == "epsilon"


def test_recipes_cannot_be_changed_after_reading(tmp_path):
    recipe = load_train_recipe(smoke_recipe(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3
