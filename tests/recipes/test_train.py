"""Recipes are read strictly: every key known, every value of its type and range."""

import dataclasses
import os

import pytest
import torch

from ldm_export.errors import ConfigError, TrainingError
from ldm_export.recipes import train_rules
from ldm_export.recipes.train import load_train_recipe
from ldm_export.recipes.train_rules import is_plain_name
from ldm_export.train.needs import memory_needs, require_memory
from tests.train.conftest import RECIPES, smoke_recipe

SHIPPED = sorted(RECIPES.glob("*.toml"))


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if "[autoencoder]" in path.read_text()], ids=lambda p: p.stem
)
def test_every_shipped_training_recipe_loads(path):
    recipe = load_train_recipe(path)
    assert recipe.name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "smoke"', 'name = "smoke"\ncolour = 3', "unknown key 'colour'"),
        ("[vae]", "[vae]\ndepth = 3", "unknown key 'vae.depth'"),
        ('name = "smoke"', 'name = "smoke"\nidentity = "x"', "unknown key 'identity'"),
        ("max_length = 16", "", "missing key 'tokenizer.max_length'"),
        ("seed = 0", "seed = 0.5", "seed must be an integer"),
        ("seed = 0", "seed = true", "seed must be an integer"),
        ("seed = 0", "seed = -1", "seed must be from 0"),
        ("l1 = 1.0", "l1 = nan", "l1 must be a finite number"),
        ("l1 = 1.0", 'l1 = "much"', "l1 must be a number"),
        ("size = 32", "size = 30", "multiple of 4"),
        ("crop = 16", "crop = 64", "crop"),
        ("widths = [16, 32]", "widths = [16, 32, 32]", "one value per width"),
        ("widths = [8, 16, 16]", "widths = [8, 16, 18]", "vae.norm_groups must divide vae.widths"),
        ("attention = [true, true]", "attention = [1, true]", "attention[0] must be true or false"),
        ("dropout = 0.2", "dropout = 1.5", "captions.dropout must be from 0 to 1"),
        ("held_out = 0.2", "held_out = 1.0", "below 1"),
        ("[captions]", "[captions]\nplain_probability = -0.1", "captions.plain_probability must be from 0 to 1"),
        (
            "[diffusion.optimiser]",
            '[diffusion]\nprediction = "sample"\n[diffusion.optimiser]',
            "one of epsilon, v_prediction",
        ),
        (
            "[text_encoder.optimiser]",
            "[text_encoder.optimiser]\nmuon_rate = -1.0",
            "text_encoder.optimiser.muon_rate must be from 0",
        ),
        ("held_out = 0.2", 'held_out = 0.2\nheld_out_captions = "list.txt"', "exclude each other"),
        ("size = 32", "size = 32\nbackground = [0, 0, 256]", "0…255"),
        ("{ black =", '{ "" =', "must have names"),
        ("warmup_steps = 2", "warmup_steps = 99", "warmup_steps"),
        ('name = "smoke"', 'name = "../smoke"', "plain folder name"),
        ('perceptual_weights = "data-cache/smoke/vgg16.safetensors"', "", "needs autoencoder.perceptual_weights"),
        ("size = 32", "size = 32\nbackground = [255, 255]", "background must be a list of 3 items"),
        ("seed = 0", 'seed = 0\nsave_precision = "fp8"', "save_precision must be one of fp32, fp16"),
        ("[vae]", "[vae", "not valid TOML"),
        (
            "steps = 4",
            "steps = 0",
            "diffusion.restart.steps must be from 1 to 100,000,000; got diffusion.restart.steps = 0",
        ),
        (
            "rate = 0.5",
            "rate = 0.0",
            "rate must be above 0 and at most 1; got diffusion.restart.rate = 0.0",
        ),
        ("rate = 0.5", "rate = 1.5", "got diffusion.restart.rate = 1.5"),
        ("rate = 0.5", "", "missing key 'diffusion.restart.rate'"),
        ("rate = 0.5", "rate = 0.5\nspeed = 3", "unknown key 'diffusion.restart.speed'"),
        (
            "[text_encoder.optimiser]",
            "[text_encoder.optimiser]\nmuon_rate = -1.0",
            "text_encoder.optimiser.muon_rate = -1.0",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=".") as caught:
        load_train_recipe(smoke_recipe(tmp_path, (old, new)))
    assert message in str(caught.value) and str(caught.value).count(str(tmp_path)) == 1


def test_the_unchanged_recipe_is_accepted(tmp_path):
    assert load_train_recipe(smoke_recipe(tmp_path)).name == "smoke"


def test_the_plan_of_the_samples_is_compiled_once(tmp_path, monkeypatch):
    steps = []
    compile_plan = train_rules.compile_plan
    monkeypatch.setattr(train_rules, "compile_plan", lambda *of: steps.append(of[-1]) or compile_plan(*of))
    recipe = load_train_recipe(smoke_recipe(tmp_path))
    assert steps == [recipe.samples.steps] and recipe.identity != ""


def test_a_recipe_that_no_file_gave_keeps_the_rules_too(tmp_path):
    recipe = load_train_recipe(smoke_recipe(tmp_path))
    with pytest.raises(ConfigError, match=r"^checkpoint_every must be from 1 .*; got checkpoint_every = 0$"):
        dataclasses.replace(recipe, checkpoint_every=0)


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


def test_all_faults_are_one_error_of_a_line_each_with_key_and_value(tmp_path):
    changes = [
        ("seed = 0", "seed = -1\ncolour = 3"),
        ("max_length = 16", ""),
        ("l1 = 1.0", 'l1 = "much"'),
        ("dropout = 0.2", "dropout = 1.5"),
        ("held_out = 0.2", 'held_out = 0.2\nheld_out_captions = "a.txt"'),
    ]
    with pytest.raises(ConfigError, match="has 6 faults:\n") as caught:
        load_train_recipe(smoke_recipe(tmp_path, *changes))
    faults = str(caught.value).splitlines()[1:]
    parts = ("'colour'", "'tokenizer.max_length'", '"much"', "seed = -1", "captions.dropout = 1.5", "'a.txt'")
    assert len(faults) == len(parts)
    for part in parts:
        assert sum(part in fault for fault in faults) == 1


def test_at_most_twenty_faults_are_listed(tmp_path):
    keys = "".join(f"key{number} = 1\n" for number in range(25))
    with pytest.raises(ConfigError, match="has 25 faults:\n") as caught:
        load_train_recipe(smoke_recipe(tmp_path, ("seed = 0", f"seed = 0\n{keys}")))
    assert len(str(caught.value).splitlines()) == 22 and str(caught.value).endswith("\n  and 5 more")


@pytest.mark.parametrize(
    ("old", "new", "suggestion"),
    [
        (
            "norm_groups = 4",
            "norm_group = 4",
            "unknown key 'vae.norm_group' (did you mean 'vae.norm_groups'?); expected",
        ),
        ("checkpoint_every = 4", "checkpoints_every = 4", "(did you mean 'checkpoint_every'?)"),
        ("[schedule]", '[schedule]\nbeta_schedule = "scaled_liner"', "(did you mean 'scaled_linear'?)"),
        ("[schedule]", '[schedule]\ntimestep_spacing = "trailling"', "(did you mean 'trailing'?)"),
        ("steps = 2\nprompts", 'steps = 2\nsampler = "eulre"\nprompts', "(did you mean 'euler'?)"),
        ("seed = 0", 'seed = 0\nsave_precision = "fp61"', "(did you mean 'fp16'?)"),
    ],
)
def test_a_misspelt_key_or_value_is_one_fault_with_the_nearest_known_name(tmp_path, old, new, suggestion):
    with pytest.raises(ConfigError) as caught:
        load_train_recipe(smoke_recipe(tmp_path, (old, new)))
    assert suggestion in str(caught.value) and "\n" not in str(caught.value)


def test_lists_of_different_lengths_are_reported_once(tmp_path):
    with pytest.raises(ConfigError, match=r"unet\.heads must have one value per width") as caught:
        load_train_recipe(smoke_recipe(tmp_path, ("heads = [2, 2]", "heads = [3, 2, 2]")))
    assert "divide" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("width = 32\nlayers = 1", "width = 32\nlayers = 1_000_000_000", "text_encoder.layers"),
        ("width = 32", "width = 1_000_000_000", "text_encoder.width"),
        ("heads = 2\n", "heads = 3\n", "text_encoder.heads must divide"),
        ("heads = [2, 2]", "heads = [3, 2]", "unet.heads must divide"),
        ("heads = [2, 2]", "heads = [0, 2]", "unet.heads"),
        ("norm_groups = 8", "norm_groups = 0", "unet.norm_groups"),
        ("widths = [16, 32]", f"widths = {[16] * 1000}", "unet.widths must be 1 to 11"),
        ("widths = [16, 32]", "widths = []", "unet.widths"),
        ("widths = [16, 32]", "widths = [1_000_000_000, 32]", "unet.widths"),
        ("layers_per_block = 1\nlatent", "layers_per_block = 1_000_000_000\nlatent", "vae.layers_per_block"),
        ("size = 32", "size = 1_000_000_000", "data.size"),
        ("max_length = 16", "max_length = 1_000_000_000", "tokenizer.max_length"),
        ("vocab_size = 560", "vocab_size = 1_000_000_000_000", "tokenizer.vocab_size"),
        ("vocab_size = 560", "vocab_size = 3", "tokenizer.vocab_size"),
        ("steps = 12\nbatch_size = 4", "steps = 1_000_000_000_000\nbatch_size = 4", "optimiser.steps"),
        ("batch_size = 4", "batch_size = 1_000_000_000", "optimiser.batch_size"),
        ("learning_rate = 2e-3", "learning_rate = 1e300", "autoencoder.optimiser.learning_rate"),
        ("kl = 1e-4", "kl = 1e300", "autoencoder.kl"),
        ("seed = 0", f"seed = 0x{'f' * 5000}", "seed must be an integer of at most 64 bits"),
        ("steps = 2\n", "steps = 0\n", "samples.steps must be from 1 to 1,000; got samples.steps = 0"),
        ("steps = 2\n", "steps = 1001\n", "samples.steps must be from 1 to 1,000"),
        ("steps = 2\n", "steps = 100_000_000\n", "samples.steps must be from 1 to 1,000"),
        ("steps = 2\n", 'steps = 2\nsampler = "magic"\n', "samples"),
        ("steps = 2\n", 'steps = 2\nsampler = "unipc:order=99"\n', "samples"),
        ("[schedule]", "[schedule]\ntrain_timesteps = 1_000_000_000", "schedule.train_timesteps"),
        ("[schedule]", "[schedule]\nbeta_start = 0.5", "beta_start"),
        ("[schedule]", '[schedule]\nbeta_schedule = "steep"', "beta_schedule"),
        ("[schedule]", '[schedule]\ntimestep_spacing = "wide"', "timestep_spacing"),
        ('folder = "data-cache/smoke"', 'folder = "a\\u0000b"', "data.folder must be a path"),
        ('folder = "data-cache/smoke"', 'folder = ""', "data.folder must be a path"),
    ],
)
def test_absurd_sizes_and_samples_that_cannot_be_drawn_are_refused_at_load(tmp_path, old, new, key):
    with pytest.raises(ConfigError, match=".") as caught:
        load_train_recipe(smoke_recipe(tmp_path, (old, new)))
    assert key in str(caught.value) and "recipe.toml" in str(caught.value) and len(str(caught.value)) < 6000


UNET = ("widths = [16, 32]\nattention = [true, true]\nheads = [2, 2]\nlayers_per_block = 1", "unet")
VAE = ("widths = [8, 16, 16]\nlayers_per_block = 1", "vae")


@pytest.mark.parametrize(
    ("changes", "config", "name", "value"),
    [
        (
            [(VAE[0], f"widths = {[8] * 11}\nlayers_per_block = 32"), ("size = 32", "size = 4096"), ("crop = 16", "")],
            "vae",
            "levels",
            11,
        ),
        ([(VAE[0], "widths = [16384]\nlayers_per_block = 32")], "vae", "layers_per_block", 32),
        ([("latent_channels = 4", "latent_channels = 256")], "vae", "latent_channels", 256),
        (
            [(UNET[0], "widths = [16384]\nattention = [true]\nheads = [16384]\nlayers_per_block = 32")],
            "unet",
            "layers_per_block",
            32,
        ),
        (
            [
                (
                    UNET[0],
                    f"widths = {[16] * 11}\nattention = {['true'] * 11}\nheads = {[2] * 11}\nlayers_per_block = 11",
                )
            ],
            "unet",
            "layers_per_block",
            11,
        ),
        (
            [("width = 32\nlayers = 1\nheads = 2", "width = 16384\nlayers = 64\nheads = 16384")],
            "text_encoder",
            "num_hidden_layers",
            64,
        ),
        ([("max_length = 16", "max_length = 4096")], "text_encoder", "max_position_embeddings", 4096),
        ([("vocab_size = 560", "vocab_size = 131_072")], "text_encoder", "vocab_size", 131_072),
    ],
)
def test_what_the_rules_let_pass_at_their_bounds_the_configs_accept(tmp_path, changes, config, name, value):
    recipe = load_train_recipe(smoke_recipe(tmp_path, *((old, new.replace("'", "")) for old, new in changes)))
    configs = {
        "vae": recipe.vae_config(),
        "unet": recipe.unet_config(),
        "text_encoder": recipe.text_encoder_config(recipe.tokenizer.vocab_size),
    }
    found = configs[config]
    assert (len(found.block_out_channels) if name == "levels" else getattr(found, name)) == value


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (VAE[0], "widths = [8, 16, 16]\nlayers_per_block = 33", "vae.layers_per_block must be from 1 to 32"),
        (
            UNET[0],
            f"widths = {[16] * 11}\nattention = {['true'] * 11}\nheads = {[2] * 11}\nlayers_per_block = 12",
            "unet.widths must give 512 blocks at most",
        ),
        ("layers = 1\n", "layers = 65\n", "text_encoder.layers must be from 1 to 64"),
    ],
)
def test_one_more_than_a_config_has_is_refused_by_the_recipe_s_own_key(tmp_path, old, new, key):
    with pytest.raises(ConfigError, match=key):
        load_train_recipe(smoke_recipe(tmp_path, (old, new.replace("'", ""))))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "-a", "a/b", "a\\b", "CON", "nul.txt", "com1", "a.", "a ", "a\tb", "a" * 101, "a:b", "~a"],
)
def test_a_name_that_some_system_cannot_have_is_refused(name):
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["emoji-128", "a", "Äpfel 2", "a.b", "console"])
def test_a_name_that_every_system_can_have_is_accepted(name):
    assert is_plain_name(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = " + b"[" * 20000, "nests its values too deeply"),
        (b"#" * 2**17, "more than 65536 bytes"),
        (b"seed = " + b"1" * 5000, "not valid TOML"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b".".join([b"a"] * 20000) + b" = 1", "more than 64 parts"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"a = nan\nb = inf", "unknown key 'a'"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_sentence(tmp_path, content, message):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_train_recipe(tmp_path / "a.toml")
    assert "a.toml" in str(caught.value) and len(str(caught.value)) < 6000


def test_a_byte_order_mark_is_no_part_of_the_recipe(tmp_path):
    path = smoke_recipe(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_train_recipe(path).name == "smoke"


def test_a_folder_a_pipe_or_a_name_with_nul_is_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "a\0b", tmp_path / ("a" * 300)):
        with pytest.raises(ConfigError, match="cannot read the recipe"):
            load_train_recipe(path)


def test_a_model_that_does_not_fit_into_memory_is_refused_with_its_size(tmp_path, monkeypatch):
    recipe = load_train_recipe(smoke_recipe(tmp_path))
    require_memory(recipe, torch.device("cpu"))
    parameters, needed = memory_needs(recipe)["diffusion"]
    assert needed > 20 * parameters > 20 * 200_000
    monkeypatch.setattr("ldm_export.train.needs.available_memory", lambda: needed - 1)
    with pytest.raises(TrainingError, match=f"diffusion would train {parameters:,} parameters and need at least"):
        require_memory(recipe, torch.device("cpu"))
