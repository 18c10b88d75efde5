"""Trains a latent diffusion model by a recipe, from pictures to a checkpoint in diffusers' layout.

    run folder/tokenizer      learnt from the captions
    run folder/autoencoder    stage 1: state.pt, metrics.csv, loss.png, samples-….png
    run folder/latents…       latents of all pictures, from the averaged autoencoder
    run folder/text_encoder   stage 2, the same files
    run folder/diffusion      stage 3, the same files
    run folder/decoder        stage 4, if the recipe has it
    run folder/checkpoint     the result, of averaged weights

Each part is made once; a run that was interrupted or killed continues with the first part that is not complete.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ldm_export.captioned_latents import Captions, Corpus, LatentSet
from ldm_export.checkpoint import save_checkpoint
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.pictures import Pictures, caption_with_ground, listed_captions, load_pictures
from ldm_export.recipe import TrainRecipe, load_train_recipe
from ldm_export.train_autoencoder import AutoencoderStage, DecoderStage, encode_pictures, latent_scale
from ldm_export.train_diffusion import DiffusionStage, noise_schedule
from ldm_export.train_text_encoder import TextEncoderStage
from ldm_export.train_tokenizer import train_tokenizer
from ldm_export.training_log import MetricsLog
from ldm_export.training_loop import Pace, StageRun, pick_device
from ldm_runtime import safetensors
from ldm_runtime.atomic import atomic_file, atomic_folder, make_folder, refuse_unwritable
from ldm_runtime.errors import TrainingError

Progress = Callable[[str], None]

SAVED_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def train(recipe_path: Path, *, runs: Path, progress: Progress | None = None) -> Path:
    """Train by the recipe in `runs`/<its name>, continuing what is there; return the checkpoint's folder.

    Ctrl-C and SIGTERM finish the step, save, and raise KeyboardInterrupt or SystemExit.

    Raises:
        ConfigError: the recipe is not usable.
        TrainingError: its pictures or its run folder are not, or the loss became infinite.
        LdmError: the run folder cannot be written.
    """
    recipe = load_train_recipe(recipe_path)
    say = progress if progress is not None else lambda text: None
    run = runs / recipe.name
    if os.path.exists(run / "checkpoint"):
        _require_same_recipe(run, recipe)
        say(f"{run / 'checkpoint'} is complete")
        return run / "checkpoint"
    refuse_unwritable(run)
    pictures = load_pictures(recipe.data)
    make_folder(run)
    device = pick_device()
    say(f"{recipe.name}: {len(pictures[0])} pictures to train on, {len(pictures[1])} held out, on {device}")
    captions = _learn_captions(recipe, run, pictures[0], say)
    vae = _train_autoencoder(recipe, run, device, say)
    trained, held_out = _cached_latents(recipe, run, vae, pictures, device, say)
    corpus = Corpus(recipe, trained, held_out, vae, latent_scale(trained.mean), captions)
    text_encoder = _train_text_encoder(corpus, run, device, say)
    unet = _train_unet(corpus, text_encoder, run, device, say)
    vae = _train_decoder(corpus, run, device, say)
    _save(corpus, text_encoder, unet, vae, recipe_path, run)
    return run / "checkpoint"


def autoencoder_identity(recipe: TrainRecipe) -> str:
    """Changes when anything changes that the trained autoencoder depends on."""
    file = recipe.data.held_out_captions
    held_out = [] if file is None else sorted(listed_captions(file))
    return _hash(recipe.seed, recipe.data, held_out, recipe.vae, recipe.autoencoder)


def text_encoder_identity(recipe: TrainRecipe) -> str:
    """Changes when anything changes that the trained text encoder depends on."""
    return _hash(autoencoder_identity(recipe), recipe.tokenizer, recipe.text_encoder, recipe.captions)


def diffusion_identity(recipe: TrainRecipe) -> str:
    """Changes when anything changes that the trained UNet depends on: all but the pictures drawn on the way.

    Before its restart: see `StageRun` for what ties later steps to it.
    """
    return _hash(text_encoder_identity(recipe), recipe.unet, recipe.schedule, recipe.diffusion)


def decoder_identity(recipe: TrainRecipe) -> str:
    """Changes when anything changes that the decoder trained once more depends on."""
    return _hash(autoencoder_identity(recipe), recipe.decoder)


def model_identity(recipe: TrainRecipe) -> str:
    """Changes when anything changes that the checkpoint's weights depend on."""
    identity = diffusion_identity(recipe)
    if recipe.diffusion.restart is not None:
        identity = _hash(identity, recipe.diffusion.restart)
    return identity if recipe.decoder is None else _hash(identity, decoder_identity(recipe))


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _require_same_recipe(run: Path, recipe: TrainRecipe) -> None:
    marker = run / "checkpoint" / "recipe.sha256"
    if not marker.is_file() or marker.read_text().strip() != model_identity(recipe):
        raise TrainingError(f"{run}/checkpoint was trained by another recipe; remove it, or give another --runs")


def _learn_captions(recipe: TrainRecipe, run: Path, pictures: Pictures, say: Progress) -> Captions:
    folder, shape = run / "tokenizer", recipe.tokenizer
    if not folder.exists():
        texts = [", ".join([caption, *tags]) for caption, tags in zip(pictures.captions, pictures.tags, strict=True)]
        grounds = recipe.data.grounds
        texts = [caption_with_ground(text, grounds[index % len(grounds)]) for index, text in enumerate(texts)]
        with atomic_folder(folder) as partial:
            size = train_tokenizer(texts, vocab_size=shape.vocab_size, max_length=shape.max_length, folder=partial)
        say(f"tokenizer: {size} tokens")
    return Captions(folder, shape.max_length)


def _train_autoencoder(recipe: TrainRecipe, run: Path, device: torch.device, say: Progress) -> AutoencoderKL:
    stage = AutoencoderStage(recipe, *load_pictures(recipe.data, recipe.autoencoder.where), device)
    _say_size(say, **stage.modules)
    pace = Pace(recipe.checkpoint_every, recipe.samples.every, autoencoder_identity(recipe))
    averages = StageRun(stage, recipe.autoencoder.optimiser, run / "autoencoder", pace).run(say)
    return cast(AutoencoderKL, averages["vae"])


def _train_text_encoder(corpus: Corpus, run: Path, device: torch.device, say: Progress) -> CLIPTextModel:
    recipe, stage = corpus.recipe, TextEncoderStage(corpus, device)
    _say_size(say, **stage.modules)
    pace = Pace(recipe.checkpoint_every, recipe.samples.every, text_encoder_identity(recipe))
    averages = StageRun(stage, recipe.text_encoder.optimiser, run / "text_encoder", pace).run(say)
    return cast(CLIPTextModel, averages["text_encoder"])


def _train_unet(
    corpus: Corpus, text_encoder: CLIPTextModel, run: Path, device: torch.device, say: Progress
) -> UNet2DConditionModel:
    recipe, stage = corpus.recipe, DiffusionStage(corpus, text_encoder, device)
    _say_size(say, **stage.modules)
    pace = Pace(recipe.checkpoint_every, recipe.samples.every, diffusion_identity(recipe))
    restart = recipe.diffusion.restart
    averages = StageRun(stage, recipe.diffusion.optimiser, run / "diffusion", pace, restart).run(say)
    return cast(UNet2DConditionModel, averages["unet"])


def _train_decoder(corpus: Corpus, run: Path, device: torch.device, say: Progress) -> AutoencoderKL:
    """The autoencoder with the decoder of stage 4, or as it is where the recipe has no such stage."""
    recipe = corpus.recipe
    if recipe.decoder is None:
        return corpus.vae
    pictures = load_pictures(recipe.data, recipe.autoencoder.where)
    stage = DecoderStage(recipe, *pictures, device, corpus.vae, corpus.scale)
    pace = Pace(recipe.checkpoint_every, recipe.samples.every, decoder_identity(recipe))
    averages = StageRun(stage, recipe.decoder.optimiser, run / "decoder", pace).run(say)
    return cast(AutoencoderKL, averages["vae"])


def _cached_latents(
    recipe: TrainRecipe,
    run: Path,
    vae: AutoencoderKL,
    pictures: tuple[Pictures, Pictures],
    device: torch.device,
    say: Progress,
) -> tuple[LatentSet, LatentSet]:
    """Latents of the trained and of the held-out pictures, computed once."""
    sets = []
    for name, part in zip(("trained", "held_out"), pictures, strict=True):
        path = run / f"latents-{name}.safetensors"
        if len(part) == 0:
            sets.append(LatentSet(torch.zeros(0), part))
            continue
        if not path.is_file():
            say(f"encoding {len(part)} pictures on {len(recipe.data.grounds)} backgrounds ({name})")
            mean = encode_pictures(vae, part, recipe.data.grounds, device, recipe.mixed_precision)
            with atomic_file(path) as temporary:
                safetensors.write(temporary, {"mean": mean.numpy()}, {"autoencoder": autoencoder_identity(recipe)})
        if safetensors.read_header(path).metadata.get("autoencoder") != autoencoder_identity(recipe):
            raise TrainingError(f"{path} belongs to another autoencoder; remove it and train again")
        sets.append(LatentSet(torch.from_numpy(safetensors.read(path)["mean"].copy()), part))
    return sets[0], sets[1]


def _save(
    corpus: Corpus,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    recipe_path: Path,
    run: Path,
) -> None:
    """The checkpoint: averaged weights, the autoencoder with its measured latent scale, and where it all came from."""
    recipe = corpus.recipe
    modules: dict[str, nn.Module] = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
    for module in modules.values():
        module.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    final = AutoencoderKL(recipe.vae_config(corpus.scale))
    final.load_state_dict(vae.state_dict())
    with atomic_folder(run / "checkpoint") as folder:
        save_checkpoint(
            folder,
            text_encoder=text_encoder,
            unet=unet,
            vae=final,
            schedule=noise_schedule(recipe),
            tokenizer_folder=run / "tokenizer",
            dtype=SAVED_DTYPES[recipe.save_precision],
            force=True,
        )
        sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        (folder / "README.md").write_text(model_card(recipe, sizes, _last_metrics(recipe, run)), encoding="utf-8")
        (folder / "recipe.toml").write_text(recipe_path.read_text(encoding="utf-8"), encoding="utf-8")
        (folder / "recipe.sha256").write_text(model_identity(recipe) + "\n")


def _last_metrics(recipe: TrainRecipe, run: Path) -> dict[str, dict[str, float]]:
    """The last row of each stage's log."""
    found = {}
    names = [AutoencoderStage.name, TextEncoderStage.name, DiffusionStage.name]
    for name in names if recipe.decoder is None else [*names, DecoderStage.name]:
        log = MetricsLog(run / name / "metrics.csv")
        log.resume(sys.maxsize)
        found[name] = log.rows[-1]
    return found


def model_card(recipe: TrainRecipe, sizes: dict[str, int], metrics: dict[str, dict[str, float]]) -> str:
    """What the model is, how well it learnt, and what it was made of (from the data folder's ORIGIN.md)."""
    samples, data = recipe.samples, recipe.data
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in sizes.items())
    origin = data.folder / "ORIGIN.md"
    sources = origin.read_text(encoding="utf-8").partition("\n")[2].strip() if origin.is_file() else "Not recorded."
    chosen = "; ".join(f"{key}: {', '.join(values)}" for key, values in data.where.items())
    figures = "".join(
        f"| {stage} | {name} | {value:.4g} |\n"
        for stage, row in metrics.items()
        for name, value in row.items()
        if name not in ("gradient_norm", "learning_rate")
    )
    return f"""# {recipe.name}

A latent diffusion model trained from random weights with `ldm-export train` ({total / 1e6:.2f} M parameters: {parts}).
It draws {data.size}x{data.size} pictures of what its captions name, and little else: a demonstration, not a general
model. Prompts look like "{samples.prompts[0] if samples.prompts else ""}". Settings it was looked at with:
{samples.sampler}, {samples.steps} steps, guidance {samples.guidance:g}.

## How well it learnt

| stage | measure | at the last step |
|---|---|---|
{figures}
Held-out pictures and their captions were never trained on. A diffusion loss far above the trained one means that the
model repeats what it has seen: expect the known captions, in the known wording, and little variation between seeds.

## Origin and licences of the data

Trained on {chosen if chosen else "all pictures"} from a data folder that was made of these packages; the full recipe is
`recipe.toml`.

{sources}

The pictures are not part of this checkpoint. The weights are under the licence of ldm-export (Apache-2.0).
"""


def _say_size(say: Progress, **modules: nn.Module) -> None:
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    say(", ".join(f"{name} {count / 1e6:.2f} M parameters" for name, count in counts.items()))
