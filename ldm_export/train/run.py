"""Training of a latent diffusion model by a recipe, from images to a checkpoint in diffusers' layout.

    run folder/tokenizer      learnt from the captions
    run folder/autoencoder    stage 1: state.pt, metrics.csv, samples-….png, loss.png where matplotlib is
    run folder/latents…       latents of all images, from the averaged autoencoder
    run folder/text_encoder   stage 2, the same files
    run folder/diffusion      stage 3, the same files
    run folder/decoder        stage 4, if the recipe has it
    run folder/checkpoint     the result, with averaged weights
    run folder/train.lock     held by the process that trains

Each part is made once; a run that was interrupted or killed continues with the first part that is not complete.
Each has an identity, a hash of the recipe's values and the data that it follows from: see `identity`.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from ldm_export.checkpoint.defaults import OwnDefaults, write_defaults
from ldm_export.checkpoint.save import save_checkpoint
from ldm_export.errors import TrainingError
from ldm_export.lossy.prompts import FILE as PROMPTS_FILE
from ldm_export.lossy.prompts import prompts_text
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.plots import has_matplotlib
from ldm_export.precision.table import PRECISIONS
from ldm_export.recipes.train import TrainRecipe, load_train_recipe
from ldm_export.train.autoencoder import AutoencoderStage, DecoderStage, encode_images, latent_scale
from ldm_export.train.card import model_card
from ldm_export.train.diffusion import DiffusionStage
from ldm_export.train.hashes import record_hashes
from ldm_export.train.identity import Identities, digest_data, identities
from ldm_export.train.image_folder import ROWS_FILE, Images, Split, caption_on, load_images, read_origin
from ldm_export.train.latents import Captions, Corpus, LatentSet
from ldm_export.train.lock import only_trainer
from ldm_export.train.log import MetricsLog
from ldm_export.train.loop import Pace, StageRun, pick_device
from ldm_export.train.needs import require_memory, require_room
from ldm_export.train.perceptual import PerceptualDistance
from ldm_export.train.run_folder import (
    IDENTITY_FILE,
    LATENTS,
    MARKER_FILE,
    is_complete,
    require_intact,
    require_same_parts,
    require_same_recipe,
)
from ldm_export.train.signals import raised_signals
from ldm_export.train.text_encoder import TextEncoderStage
from ldm_export.train.tokenizer import train_tokenizer
from ldm_runtime.errors import refused_as
from ldm_runtime.files.atomic import atomic_file, atomic_folder, make_folder, refuse_unwritable
from ldm_runtime.files.journal import sweep
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import Precision

Progress = Callable[[str], None]

STAGES = ("autoencoder", "text_encoder", "diffusion", "decoder")


@dataclass(frozen=True)
class Work:
    """One training: its recipe, images, run folder and log.

    wider: the images of the autoencoder, which may be more than those of the other stages. origin: the data folder's
    sources and licences.
    """

    recipe: TrainRecipe
    run: Path
    images: Split
    wider: Split
    origin: str
    parts: Identities
    device: torch.device
    log: Progress

    def pace(self, stage: str) -> Pace:
        recipe = self.recipe
        return Pace(recipe.checkpoint_every, recipe.samples.every, getattr(self.parts, stage))


def train(recipe_path: Path, *, runs: Path, progress: Progress | None = None) -> Path:
    """Train by the recipe in `runs`/<its name>, continuing the run there; return the checkpoint's folder.

    Before the first step it checks the recipe with its samples, all images and captions, memory, disk, and that the
    contents of the run folder belong to this recipe and these data. Ctrl-C, SIGTERM and SIGHUP finish the step, save,
    and raise KeyboardInterrupt or SystemExit; outside of a stage they end at once.

    Raises:
        ConfigError: the recipe is not usable.
        TrainingError: its images or its run folder are not usable, a finished checkpoint there is damaged, another
            process trains there, memory or disk do not suffice, or the loss became infinite.
        LdmError: the run folder cannot be written.
    """
    recipe = load_train_recipe(recipe_path)
    log = progress if progress is not None else lambda text: None
    run = runs / recipe.name
    device = pick_device()
    with contextlib.ExitStack() as held:
        held.enter_context(raised_signals())
        complete = is_complete(run)
        locked = run.is_dir() and not complete
        if locked:
            held.enter_context(_locked(run))
        if complete and not _has_data(recipe):
            require_same_recipe(run, recipe)
        else:
            if not complete:
                require_memory(recipe, device)
                refuse_unwritable(run)
            work = _prepare(recipe, run, device, log)
            require_same_parts(run, recipe, work.parts)
        if complete:
            require_intact(run / "checkpoint")
            log(f"{run / 'checkpoint'} is complete")
            return run / "checkpoint"
        require_room(recipe, runs, work.images)
        if not locked:
            make_folder(run)
            held.enter_context(_locked(run))
            require_same_parts(run, recipe, work.parts)  # another process may have written in the meantime
        _train(work)
    return run / "checkpoint"


def _has_data(recipe: TrainRecipe) -> bool:
    return (recipe.data.folder / ROWS_FILE).is_file()


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Lock the run folder for this process, and remove the partial files of a killed one."""
    with only_trainer(run):
        for folder in (run, *(run / stage for stage in STAGES)):
            sweep(folder, folder.name)
        yield


def _prepare(recipe: TrainRecipe, run: Path, device: torch.device, log: Progress) -> Work:
    """Read all files that the recipe names."""
    if recipe.autoencoder.perceptual > 0 and recipe.autoencoder.perceptual_weights is not None:
        PerceptualDistance(recipe.autoencoder.perceptual_weights)
    where = recipe.autoencoder.where
    images, *rest = load_images(recipe.data, recipe.data.where, *([] if where is None else [where]))
    wider = rest[0] if rest else images
    parts = identities(recipe, digest_data(recipe, images, wider))
    return Work(recipe, run, images, wider, read_origin(recipe.data.folder), parts, device, log)


def _train(work: Work) -> None:
    recipe = work.recipe
    trained, held_out = work.images
    work.log(f"{recipe.name}: {len(trained)} images to train on, {len(held_out)} held out, on {work.device}")
    if not has_matplotlib():
        work.log("loss.png is left out: matplotlib is not installed (pip install 'ldm-export[plot]')")
    captions = _learn_captions(work)
    vae = _train_autoencoder(work)
    sets = [_cached_latents(work, vae, name, part) for name, part in zip(LATENTS, work.images, strict=True)]
    corpus = Corpus(recipe, sets[0], sets[1], vae, recipe.latent_spec(latent_scale(sets[0].mean)), captions)
    text_encoder = _train_text_encoder(work, corpus)
    unet = _train_unet(work, corpus, text_encoder)
    vae = _train_decoder(work, corpus)
    _save(work, corpus, text_encoder, unet, vae)


def _learn_captions(work: Work) -> Captions:
    folder, shape, images = work.run / "tokenizer", work.recipe.tokenizer, work.images.trained
    if not folder.exists():
        tagged = [", ".join([caption, *tags]) for caption, tags in zip(images.captions, images.tags, strict=True)]
        backgrounds = work.recipe.data.all_backgrounds
        captions = [caption_on(text, backgrounds[index % len(backgrounds)]) for index, text in enumerate(tagged)]
        with atomic_folder(folder) as partial:
            size = train_tokenizer(captions, vocab_size=shape.vocab_size, max_length=shape.max_length, folder=partial)
            (partial / IDENTITY_FILE).write_text(work.parts.tokenizer + "\n")
        work.log(f"tokenizer: {size} tokens")
    return Captions(folder, shape.max_length)


def _train_autoencoder(work: Work) -> AutoencoderKL:
    recipe = work.recipe
    stage = AutoencoderStage(recipe, work.wider, work.device)
    _log_size(work.log, **stage.modules)
    run = StageRun(stage, recipe.autoencoder.optimiser, work.run / stage.name, work.pace(stage.name))
    return cast(AutoencoderKL, run.run(work.log)["vae"])


def _train_text_encoder(work: Work, corpus: Corpus) -> CLIPTextModel:
    stage = TextEncoderStage(corpus, work.device)
    _log_size(work.log, **stage.modules)
    run = StageRun(stage, work.recipe.text_encoder.optimiser, work.run / stage.name, work.pace(stage.name))
    return cast(CLIPTextModel, run.run(work.log)["text_encoder"])


def _train_unet(work: Work, corpus: Corpus, text_encoder: CLIPTextModel) -> UNet2DConditionModel:
    recipe, stage = work.recipe.diffusion, DiffusionStage(corpus, text_encoder, work.device)
    _log_size(work.log, **stage.modules)
    run = StageRun(stage, recipe.optimiser, work.run / stage.name, work.pace(stage.name), recipe.restart)
    return cast(UNet2DConditionModel, run.run(work.log)["unet"])


def _train_decoder(work: Work, corpus: Corpus) -> AutoencoderKL:
    """Train the decoder once more, where the recipe has that stage; return the autoencoder."""
    recipe = work.recipe.decoder
    if recipe is None:
        return corpus.vae
    stage = DecoderStage(work.recipe, work.wider, work.device, corpus.vae, corpus.space.scale)
    run = StageRun(stage, recipe.optimiser, work.run / stage.name, work.pace(stage.name))
    return cast(AutoencoderKL, run.run(work.log)["vae"])


def _cached_latents(work: Work, vae: AutoencoderKL, name: str, images: Images) -> LatentSet:
    """Encode the trained or the held-out images, once."""
    recipe, path = work.recipe, work.run / f"latents-{name}.safetensors"
    if len(images) == 0:
        return LatentSet(torch.zeros(0), images)
    backgrounds = recipe.data.all_backgrounds
    if not path.is_file():
        work.log(f"encoding {len(images)} images on {len(backgrounds)} backgrounds ({name})")
        mean = encode_images(vae, images, backgrounds, work.device, recipe.mixed_precision)
        with atomic_file(path) as temporary:
            safetensors.write(temporary, {"mean": mean.numpy()}, {"identity": work.parts.latents})
    with refused_as(TrainingError, "remove it and train again"):
        kept = safetensors.read(path).get("mean")
    if kept is None or kept.shape[:2] != (len(images), len(backgrounds)) or not np.isfinite(kept).all():
        raise TrainingError(f"{path} does not hold the latents of these images; remove it and train again")
    return LatentSet(torch.from_numpy(kept.copy()), images)


def _save(
    work: Work, corpus: Corpus, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, vae: AutoencoderKL
) -> None:
    """Save the checkpoint: averaged weights, the autoencoder with its latent scale, the card and the recipe."""
    recipe, run = work.recipe, work.run
    modules: dict[str, nn.Module] = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
    for module in modules.values():
        module.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    final = AutoencoderKL(recipe.vae_config(corpus.space.scale))
    final.load_state_dict(vae.state_dict())
    with atomic_folder(run / "checkpoint") as folder:
        save_checkpoint(
            folder,
            {"text_encoder": text_encoder, "unet": unet, "vae": final},
            schedule=recipe.noise_schedule(),
            tokenizer_folder=run / "tokenizer",
            dtype=getattr(torch, PRECISIONS[cast(Precision, recipe.save_precision)].torch),
            force=True,
        )
        sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        (folder / "tokenizer" / IDENTITY_FILE).unlink()
        card = model_card(recipe, sizes, _last_metrics(recipe, run), work.origin)
        (folder / "README.md").write_text(card, encoding="utf-8")
        samples = recipe.samples
        write_defaults(folder, OwnDefaults(recipe.name, samples.sampler, samples.steps, samples.guidance))
        (folder / "recipe.toml").write_text(recipe.text, encoding="utf-8")
        prompts = prompts_text(corpus.held_out.images.captions)
        if prompts is not None:
            (folder / PROMPTS_FILE).write_text(prompts, encoding="utf-8")
        (folder / MARKER_FILE).write_text(f"{work.parts.checkpoint}\n{identities(recipe, None).checkpoint}\n")
        record_hashes(folder)


def _last_metrics(recipe: TrainRecipe, run: Path) -> dict[str, dict[str, float]]:
    """Read the last row of each stage's metrics."""
    metrics = {}
    names = [AutoencoderStage.name, TextEncoderStage.name, DiffusionStage.name]
    for name in names if recipe.decoder is None else [*names, DecoderStage.name]:
        log = MetricsLog(run / name / "metrics.csv")
        log.resume(sys.maxsize)
        metrics[name] = log.rows[-1]
    return metrics


def _log_size(log: Progress, **modules: nn.Module) -> None:
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    log(", ".join(f"{name} {count / 1e6:.2f} M parameters" for name, count in counts.items()))
