"""Training from images to a checkpoint: a few steps of everything, killed and continued, opened by diffusers."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import ConfigError, TrainingError
from ldm_export.package.write import contract_of
from ldm_export.recipes.build import BuildRecipe
from ldm_export.recipes.train import load_train_recipe
from ldm_export.train.autoencoder import encode_images, kl_divergence, latent_scale, psnr
from ldm_export.train.image_folder import load_images
from ldm_export.train.latents import Captions
from ldm_export.train.run import train
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Defaults
from ldm_runtime.sampling.solvers import read_sampler
from tests.once import make_once
from tests.train.conftest import RECIPES, smoke_recipe, write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The smoke recipe, trained without an interruption; (folder, log)."""

    def make(folder):
        write_images(folder / "data-cache" / "smoke")
        logged = []
        with contextlib.chdir(folder):
            train(RECIPES / "smoke.toml", runs=Path("runs"), progress=logged.append)
        return folder, logged

    made, logged = make_once(tmp_path_factory, "trained", make)
    # A training locks its folder: each worker has its own.
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("trained") / "smoke")), logged


def weights_of(run: Path) -> dict[str, np.ndarray]:
    files = {"vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model", "text_encoder": "model"}
    found = {}
    for part, stem in files.items():
        tensors = safetensors.read(run / "checkpoint" / part / f"{stem}.safetensors")
        found |= {f"{part}.{name}": np.array(tensor) for name, tensor in tensors.items()}
    return found


def differing(a: Path, b: Path) -> list[str]:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    return [name for name in first if not np.array_equal(first[name], second[name])]


def test_the_checkpoint_opens_here_and_in_diffusers_and_draws(trained):
    path = trained[0] / "runs" / "smoke" / "checkpoint"
    checkpoint = open_checkpoint(path)
    assert checkpoint.schedule.prediction_type == "v_prediction"
    pipe = StableDiffusionPipeline.from_pretrained(path, local_files_only=True)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipe("red square", num_inference_steps=2, generator=generator, output_type="np").images[0]
    assert image.shape == (32, 32, 3) and np.isfinite(image).all() and image.std() > 0
    vocab_size = pipe.text_encoder.config.vocab_size
    assert pipe.tokenizer.eos_token_id == pipe.text_encoder.config.eos_token_id == vocab_size - 1


def test_latents_have_unit_deviation_under_the_stored_scale(trained):
    folder = trained[0]
    recipe = load_train_recipe(RECIPES / "smoke.toml")
    checkpoint = open_checkpoint(folder / "runs" / "smoke" / "checkpoint")
    scale = checkpoint.configs["vae"].scaling_factor
    latents = safetensors.read(folder / "runs" / "smoke" / "latents-trained.safetensors")["mean"]
    assert (latents * scale).std(ddof=1) == pytest.approx(1, rel=1e-5) and scale != 1
    data = recipe.data.__class__(**{**recipe.data.__dict__, "folder": folder / "data-cache" / "smoke"})
    mean = encode_images(
        checkpoint.load("vae"),
        load_images(data)[0].trained,
        data.all_backgrounds,
        torch.device("cpu"),
        recipe.mixed_precision,
    )
    np.testing.assert_allclose(mean.numpy(), latents, rtol=1e-4, atol=1e-5)
    assert latent_scale(mean) == pytest.approx(scale, rel=1e-5)


def test_the_checkpoint_tells_where_it_comes_from(trained):
    path = trained[0] / "runs" / "smoke" / "checkpoint"
    card = (path / "README.md").read_text()
    assert "M parameters" in card and "Origin and licences" in card and "red square" in card
    assert (path / "recipe.toml").read_text() == (RECIPES / "smoke.toml").read_text()
    listed = dict(reversed(line.split("  ")) for line in (path / "SHA256SUMS").read_text().splitlines())
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    del files["SHA256SUMS"]
    assert listed == {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def test_the_checkpoint_and_its_package_keep_the_recipes_name_and_samples(trained):
    path = trained[0] / "runs" / "smoke" / "checkpoint"
    recipe = load_train_recipe(RECIPES / "smoke.toml")
    samples = recipe.samples
    written = {"sampler": samples.sampler, "steps": samples.steps, "guidance": samples.guidance}
    assert json.loads((path / "defaults.json").read_text()) == {"name": "smoke", **written}
    checkpoint = open_checkpoint(path)
    sampler = read_sampler(samples.sampler).canonical
    assert checkpoint.sampler.canonical != sampler and samples.steps == 2  # not what its scheduler says, nor a default
    assert contract_of(checkpoint, BuildRecipe()).defaults == Defaults(sampler, 2, samples.guidance)
    assert checkpoint.defaults.name == recipe.name == "smoke"


@pytest.mark.parametrize("stage", ["autoencoder", "text_encoder", "diffusion", "decoder"])
def test_each_stage_leaves_metrics_a_curve_and_samples(trained, stage):
    folder = trained[0] / "runs" / "smoke" / stage
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    restarted = ["16"] if stage == "diffusion" else []
    assert [row["step"] for row in rows] == ["6", "10", "12", *restarted] and rows[-1]["held_out_loss"]
    for name in ("loss.png", "samples-000006.png", "samples-000012.png"):
        with Image.open(folder / name) as image:
            assert image.width > 64
    last = restarted[0] if restarted else "12"
    assert any(text.startswith(f"{stage}: step {last} of {last}") and "left" in text for text in trained[1])


def test_a_finished_run_is_kept_and_another_recipe_may_not_take_its_place(trained, monkeypatch):
    folder = trained[0]
    monkeypatch.chdir(folder)
    logged = []
    assert train(RECIPES / "smoke.toml", runs=Path("runs"), progress=logged.append).is_dir()
    assert len(logged) == 1 and logged[0].endswith("is complete")
    with pytest.raises(TrainingError, match="another recipe"):
        train(smoke_recipe(folder, ("dropout = 0.2", "dropout = 0.3")), runs=Path("runs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "again"),
    [
        (("dropout = 0.2", "dropout = 0.3"), {"unet", "text_encoder"}),
        (("[schedule]", "[schedule]\nbeta_end = 0.02"), {"unet"}),
    ],
)
def test_what_a_change_does_not_touch_stays_trained(trained, tmp_path, monkeypatch, change, again):
    monkeypatch.chdir(trained[0])
    folder = trained[0] / "runs" / "smoke"
    run = tmp_path / "runs" / "smoke"
    run.mkdir(parents=True)
    kept = {"autoencoder", "text_encoder", "tokenizer", "latents-trained.safetensors", "latents-held_out.safetensors"}
    for name in kept - again:
        os.symlink(folder / name, run / name)
    train(smoke_recipe(tmp_path, change), runs=tmp_path / "runs")
    assert {name.partition(".")[0] for name in differing(folder, run)} == again


ALL = {"tokenizer", "autoencoder", "latents-trained.safetensors", "latents-held_out.safetensors", "text_encoder"}
ALL |= {"diffusion", "decoder", "checkpoint"}
LATER = ALL - {"tokenizer", "autoencoder"}  # than the autoencoder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("vocab_size = 560", "vocab_size = 550"), {"tokenizer", "text_encoder", "diffusion", "checkpoint"}),
        (("seed = 0", "seed = 1"), ALL - {"tokenizer"}),
        (("kl = 1e-4", "kl = 2e-4"), ALL - {"tokenizer"}),
        (("dropout = 0.2", "dropout = 0.3"), {"text_encoder", "diffusion", "checkpoint"}),
        (("[schedule]", "[schedule]\nbeta_end = 0.02"), {"diffusion", "checkpoint"}),
        (("noise = 0.3", "noise = 0.2"), {"decoder", "checkpoint"}),
        (("rate = 0.5", "rate = 0.25"), {"diffusion", "checkpoint"}),
        (("seed = 0", 'seed = 0\nsave_precision = "fp16"'), {"checkpoint"}),
        (("held_out = 0.2", "held_out = 0.5"), ALL),
        (("checkpoint_every = 4", "checkpoint_every = 5"), set()),
    ],
)
def test_every_part_that_another_recipe_made_is_named(trained, monkeypatch, change, named):
    monkeypatch.chdir(trained[0])
    assert named_parts(smoke_recipe(trained[0], change)) == named


def named_parts(recipe: Path) -> set[str]:
    """Return the parts of the run folder that an error names to be removed; none if the training is complete."""
    try:
        train(recipe, runs=Path("runs"))
    except TrainingError as error:
        return set(str(error).partition(" made ")[2].partition(";")[0].replace("runs/smoke/", "").split(", "))
    return set()


def test_changed_images_captions_and_perceptual_weights_are_not_mixed_with_earlier_parts(trained, workplace):
    shutil.copytree(trained[0] / "runs", workplace / "runs")
    data = workplace / "data-cache" / "smoke"
    assert named_parts(smoke_recipe(workplace)) == set()
    captions = (data / "captions.jsonl").read_text()
    (data / "captions.jsonl").write_text(captions.replace('"toy"', '"tiny"'))
    assert named_parts(smoke_recipe(workplace)) == {"tokenizer", "text_encoder", "diffusion", "checkpoint"}
    (data / "captions.jsonl").write_text(captions)
    weights = dict(safetensors.read(data / "vgg16.safetensors"))
    safetensors.write(data / "vgg16.safetensors", {**weights, "conv1_1.bias": weights["conv1_1.bias"] + 1}, {})
    assert named_parts(smoke_recipe(workplace)) == ALL - {"tokenizer"}
    safetensors.write(data / "vgg16.safetensors", weights, {})
    image = Image.open(data / "images" / "red-square.png")
    image.putpixel((0, 0), (1, 2, 3, 4))
    image.save(data / "images" / "red-square.png")
    assert named_parts(smoke_recipe(workplace)) == ALL - {"tokenizer"}


# Two steps a stage; the last one shows what it was trained on as well as the hundredth does.
BRIEF = [("steps = 12", "steps = 2"), ("warmup_steps = 2", "warmup_steps = 1"), ("every = 6", "every = 99")]


@pytest.mark.slow
def test_removing_what_is_named_of_each_stage_gives_the_weights_of_a_fresh_run(workplace):
    train(smoke_recipe(workplace, *BRIEF), runs=Path("runs"))
    changes = {
        "tokenizer": ("vocab_size = 560", "vocab_size = 550"),
        "autoencoder": ("kl = 1e-4", "kl = 2e-4"),
        "text_encoder": ("dropout = 0.2", "dropout = 0.9"),
        "diffusion": ("[schedule]", "[schedule]\nbeta_end = 0.02"),
        "decoder": ("noise = 0.3", "noise = 0.2"),
    }
    for first, change in changes.items():
        recipe = smoke_recipe(workplace, *BRIEF, change)
        run = Path(shutil.copytree("runs/smoke", workplace / first / "smoke"))
        named = named_parts(recipe)
        assert first in named
        for name in named:
            (shutil.rmtree if (run / name).is_dir() else os.unlink)(run / name)
        train(recipe, runs=Path(first))
        train(recipe, runs=Path("fresh", first))
        fresh = workplace / "fresh" / first / "smoke"
        assert differing(fresh, run) == []
        assert differing(workplace / "runs" / "smoke", run) != []
        assert tokenizer_of(run) == tokenizer_of(fresh) and "vocab.json" in tokenizer_of(run)
        assert (tokenizer_of(run) == tokenizer_of(workplace / "runs" / "smoke")) == (first != "tokenizer")


def tokenizer_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "checkpoint" / "tokenizer").iterdir()}


def start(workplace: Path) -> subprocess.Popen:
    code = "import sys\nfrom ldm_export.cli.main import main\nmain()"
    # Sums are rounded by thread: equal weights need an equal number of threads.
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}", "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-c", code, "train", str(RECIPES / "smoke.toml")]
    return subprocess.Popen(command, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True)


def stop_after(process: subprocess.Popen, path: Path, number: int) -> None:
    """Send a signal as soon as `path` exists."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(60)


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_with_an_error_code(workplace):
    run = workplace / "runs" / "smoke"
    process = start(workplace)
    stop_after(process, run / "autoencoder" / "state.pt", signal.SIGINT)
    assert process.returncode == 130 and "Traceback" not in process.stderr.read()
    assert not [path for path in run.rglob("*") if ".partial-" in path.name]
    assert torch.load(run / "autoencoder" / "state.pt", weights_only=True)["step"] >= 4


def test_a_finished_training_is_saved_in_half_precision_without_training_again(trained, workplace):
    run = Path(shutil.copytree(trained[0] / "runs" / "smoke", workplace / "runs" / "smoke"))
    shutil.rmtree(run / "checkpoint")
    recipe = smoke_recipe(workplace, ("seed = 0", 'seed = 0\nsave_precision = "fp16"'))
    logged: list[str] = []
    train(recipe, runs=Path("runs"), progress=logged.append)
    assert not any("loss" in text for text in logged)
    full, half = weights_of(trained[0] / "runs" / "smoke"), weights_of(run)
    assert full.keys() == half.keys()
    for name, value in full.items():
        np.testing.assert_array_equal(half[name], value.astype(np.float16), strict=True)


@pytest.mark.slow
def test_another_seed_is_another_model(trained, workplace):
    recipe = smoke_recipe(workplace, ("seed = 0", "seed = 1"), ("steps = 12", "steps = 4"), ("every = 6", "every = 99"))
    train(recipe, runs=Path("runs"))
    assert len(differing(trained[0] / "runs" / "smoke", workplace / "runs" / "smoke")) > 100


def test_missing_images_or_a_missing_recipe_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="ldm-export data"):
        train(RECIPES / "smoke.toml", runs=Path("runs"))
    with pytest.raises(ConfigError, match="cannot read"):
        train(Path("none.toml"), runs=Path("runs"))
    assert not (tmp_path / "runs").exists()


def test_captions_fill_the_window_and_keep_their_end(trained):
    captions = Captions(trained[0] / "runs" / "smoke" / "tokenizer", 16)
    ids = captions(["", "red square", "red " * 40])
    assert ids.shape == (3, 16) and ids.dtype == torch.int64
    assert (ids[0, 1:] == captions.vocab_size - 1).all() and (ids[:, 0] == captions.vocab_size - 2).all()
    assert ids[2, -1] == captions.vocab_size - 1 and (ids[2, :-1] != captions.vocab_size - 1).all()


def test_measures_of_stage_one():
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0
    assert kl_divergence(torch.ones(2, 3), torch.zeros(2, 3)) == pytest.approx(0.5)
    assert psnr(torch.zeros(4), torch.full((4,), 0.2)) == pytest.approx(20.0, abs=1e-4)


def test_the_model_index_names_no_safety_checker(trained):
    index = json.loads((trained[0] / "runs" / "smoke" / "checkpoint" / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
