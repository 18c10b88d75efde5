"""What the parts of a run folder are held to: the values that a recipe gives, in this version and in later ones."""

import dataclasses
import os
import shutil
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path

import pytest

from ldm_export.checkpoint.save import save_checkpoint
from ldm_export.errors import TrainingError
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.recipes.train import OptimiserRecipe, RestartRecipe, load_train_recipe
from ldm_export.train.hashes import HASHES_FILE, record_hashes
from ldm_export.train.identity import DataDigests, identities, plain
from ldm_export.train.run import train
from ldm_export.train.run_folder import MARKER_FILE
from tests.train.conftest import RECIPES, smoke_recipe

pytestmark = pytest.mark.slow

TOKENIZER = Path(__file__).parents[1] / "golden" / "package" / "tokenizer"
DIGESTS = DataDigests("images", "captions", "wider", "perceptual")


def test_a_field_that_a_later_version_adds_with_a_default_changes_no_identity():
    recipe = OptimiserRecipe(steps=40, batch_size=8, learning_rate=0.2, warmup_steps=5)
    later = make_dataclass("Later", [("speed", float, field(default=1.0))], bases=(OptimiserRecipe,), frozen=True)
    assert plain(later(**vars(recipe))) == plain(recipe)
    assert plain(later(**vars(recipe), speed=2.0)) != plain(recipe)


def test_a_value_that_is_given_as_its_default_is_the_same_training(tmp_path):
    plainly = load_train_recipe(smoke_recipe(tmp_path))
    spelt = load_train_recipe(smoke_recipe(tmp_path, ("[schedule]", "[schedule]\nbeta_end = 0.012")))
    assert identities(plainly, DIGESTS) == identities(spelt, DIGESTS)


def test_the_shipped_recipe_keeps_its_identity():
    """Run folders hold it: where it changes without a change of meaning, finished trainings are lost."""
    recipe = load_train_recipe(RECIPES / "emoji-128.toml")
    assert identities(recipe, None).checkpoint.startswith("31aeb4a90c97b5bd")
    assert identities(dataclasses.replace(recipe, seed=1), None).checkpoint[:16] != "31aeb4a90c97b5bd"


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(OptimiserRecipe)])
def test_every_value_of_an_optimiser_is_another_training(tmp_path, name):
    recipe = load_train_recipe(smoke_recipe(tmp_path))
    optimiser = recipe.autoencoder.optimiser
    changed = dataclasses.replace(optimiser, **{name: getattr(optimiser, name) / 2 or 0.5})
    stage = dataclasses.replace(recipe.autoencoder, optimiser=changed)
    other = dataclasses.replace(recipe, autoencoder=stage)
    assert identities(other, DIGESTS).autoencoder != identities(recipe, DIGESTS).autoencoder
    assert identities(other, DIGESTS).tokenizer == identities(recipe, DIGESTS).tokenizer


def test_a_restart_is_no_part_of_the_steps_before_it(tmp_path):
    recipe = load_train_recipe(smoke_recipe(tmp_path))
    without = dataclasses.replace(recipe, diffusion=dataclasses.replace(recipe.diffusion, restart=None))
    assert identities(recipe, DIGESTS).diffusion == identities(without, DIGESTS).diffusion
    assert identities(recipe, DIGESTS).checkpoint != identities(without, DIGESTS).checkpoint
    assert plain(RestartRecipe(20, 0.5)) != plain(RestartRecipe(20, 0.6))


def test_paths_tuples_and_tables_have_one_form_on_every_system():
    @dataclass(frozen=True)
    class Each:
        file: Path
        widths: tuple[int, ...]
        where: dict[str, tuple[str, ...]] = field(default_factory=dict)

    assert plain(Each(Path("a", "b"), (1, 2))) == [("file", "a/b"), ("widths", [1, 2])]
    assert plain(Each(Path("a"), (), {"style": ("3d",)}))[-1] == ("where", [("style", ["3d"])])


def finished(workplace: Path) -> tuple[Path, Path]:
    """A run folder as a finished training leaves it, with what is compared of it; the recipe's file; without data."""
    held_out = ("held_out = 0.2", 'held_out_captions = "data-cache/smoke/list.txt"')
    recipe = smoke_recipe(workplace, held_out)
    (workplace / "data-cache" / "smoke" / "list.txt").write_text("red square\n")
    checkpoint = workplace / "runs" / "smoke" / "checkpoint"
    checkpoint.parent.mkdir(parents=True)
    read = load_train_recipe(recipe)
    models = {
        "text_encoder": CLIPTextModel(read.text_encoder_config(read.tokenizer.vocab_size)),
        "unet": UNet2DConditionModel(read.unet_config()),
        "vae": AutoencoderKL(read.vae_config()),
    }
    save_checkpoint(checkpoint, models, schedule=read.noise_schedule(), tokenizer_folder=TOKENIZER)
    shutil.copyfile(recipe, checkpoint / "recipe.toml")
    (checkpoint / MARKER_FILE).write_text(f"content\n{identities(read, None).checkpoint}\n")
    record_hashes(checkpoint)
    shutil.rmtree(workplace / "data-cache")
    return recipe, checkpoint


def test_a_finished_training_is_recognised_without_its_data_and_its_list_of_held_out_captions(workplace):
    recipe, checkpoint = finished(workplace)
    assert train(recipe, runs=Path("runs")).resolve() == checkpoint


def test_latents_that_are_cut_off_keep_their_code_and_are_to_be_removed(workplace):
    latents = workplace / "runs" / "smoke" / "latents-trained.safetensors"
    latents.parent.mkdir(parents=True)
    latents.write_bytes(b"")
    with pytest.raises(
        TrainingError, match=r"latents-trained\.safetensors has 0 bytes.*; remove it and train"
    ) as caught:
        train(smoke_recipe(workplace), runs=Path("runs"))
    assert caught.value.code == "weights.header"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def lose_line(file):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.endswith("  model_index.json\n")))


def double_line(file):
    first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text("".join((first, first, *rest)))


UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
DAMAGES = {
    "weights removed": (UNET, Path.unlink, f"{UNET} is missing"),
    "weights changed": (UNET, flip, f"{UNET} has another SHA-256"),
    "config of junk": ("vae/config.json", lambda file: file.write_text("junk"), "vae/config.json has another SHA-256"),
    "vocabulary removed": ("tokenizer/tokenizer.json", Path.unlink, "tokenizer/tokenizer.json is missing"),
    "recipe changed": ("recipe.toml", lambda file: file.write_text("junk"), "recipe.toml has another SHA-256"),
    "hashes emptied": (HASHES_FILE, lambda file: file.write_text(""), "SHA256SUMS, line 1 should be 64 hexa"),
    "a hash lost": (HASHES_FILE, lose_line, "SHA256SUMS should have the hash of model_index.json"),
    "a hash twice": (HASHES_FILE, double_line, "SHA256SUMS, line 2 should name another file"),
    "a file added": ("unet/more.bin", lambda file: file.write_text("more"), "should have the hash of unet/more.bin"),
    "hashes of junk": (HASHES_FILE, lambda file: file.write_text("junk"), "SHA256SUMS, line 1 should be 64 hexa"),
    "hashes of others' files": (
        HASHES_FILE,
        lambda file: file.write_text(f"{'0' * 64}  ../recipe.toml\n"),
        "SHA256SUMS, line 1 has the path '../recipe.toml'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_called_complete(workplace, damage):
    recipe, checkpoint = finished(workplace)
    name, change, message = DAMAGES[damage]
    change(checkpoint / name)
    with pytest.raises(TrainingError, match=rf"is damaged \(.*{message}.*\); bring the file back .*or move") as caught:
        train(recipe, runs=Path("runs"))
    assert len(str(caught.value).splitlines()) == 1


WITHOUT_HASHES = {
    "weights removed": (UNET, Path.unlink, r"unet has no weights; expected diffusion_pytorch_model.safetensors"),
    "weights emptied": (UNET, lambda file: file.write_bytes(b""), f"{UNET} has 0 bytes"),
    "weights cut off": (UNET, lambda file: os.truncate(file, file.stat().st_size - 4), UNET),
    "weights of another model": (UNET, lambda file: shutil.copyfile(file.parents[1] / VAE, file), "unet .*do not fit"),
    "config of junk": ("vae/config.json", lambda file: file.write_text("junk"), "vae/config.json is not valid JSON"),
    "scheduler changed": (
        "scheduler/scheduler_config.json",
        lambda file: file.write_text("[]"),
        "scheduler_config.json",
    ),
}


def test_a_checkpoint_of_an_earlier_version_is_complete_without_hashes(workplace):
    recipe, checkpoint = finished(workplace)
    (checkpoint / HASHES_FILE).unlink()
    assert train(recipe, runs=Path("runs")).resolve() == checkpoint


@pytest.mark.parametrize("damage", WITHOUT_HASHES)
def test_a_checkpoint_without_hashes_is_judged_by_its_headers(workplace, damage):
    recipe, checkpoint = finished(workplace)
    (checkpoint / HASHES_FILE).unlink()
    name, change, message = WITHOUT_HASHES[damage]
    change(checkpoint / name)
    with pytest.raises(TrainingError, match=rf"is damaged \(.*{message}.*\); bring the file back"):
        train(recipe, runs=Path("runs"))


def test_another_recipe_without_its_data_is_told_so_and_nobody_is_told_to_remove_a_training(workplace):
    recipe, checkpoint = finished(workplace)
    recipe.write_text(recipe.read_text().replace("dropout = 0.2", "dropout = 0.3"))
    with pytest.raises(TrainingError, match="data-cache/smoke are not here to compare with") as caught:
        train(recipe, runs=Path("runs"))
    assert "remove" not in str(caught.value) and checkpoint.is_dir()
