"""The parts of a run folder, and whether they belong to a training."""

import os
from collections.abc import Iterator
from pathlib import Path

from ldm_export.checkpoint.json_files import checkpoint_folder, refused
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import TrainingError
from ldm_export.recipes.train import OptimiserRecipe, RestartRecipe, TrainRecipe
from ldm_export.train.hashes import HASHES_FILE, hashed_files, require_hashes
from ldm_export.train.identity import Identities
from ldm_export.train.identity import identities as identities_of
from ldm_export.train.loop import STATE_FILE, identity_at, read_state
from ldm_runtime.errors import FormatError, LdmError, refused_as
from ldm_runtime.package import safetensors

IDENTITY_FILE = "identity.sha256"  # of the tokenizer's folder
MARKER_FILE = "recipe.sha256"  # of the checkpoint: its identity, and the one that the recipe alone gives
LATENTS = ("trained", "held_out")


def is_complete(run: Path) -> bool:
    return os.path.exists(run / "checkpoint")


def require_intact(checkpoint: Path) -> None:
    """Raise TrainingError unless a finished checkpoint's hashes are right, it opens, and its weights fit its configs.

    The weights are opened but not loaded. A checkpoint of an earlier version has no hashes.
    """
    try:
        if os.path.lexists(checkpoint / HASHES_FILE):
            with refused():
                require_hashes(checkpoint_folder(checkpoint), hashed_files(checkpoint))
        open_checkpoint(checkpoint).check()
    except LdmError as error:
        if error.code == "file.unreadable":  # nobody knows whether it is damaged
            raise
        fault = error.__cause__ if isinstance(error.__cause__, FormatError) else error
        raise TrainingError(
            f"the finished {checkpoint} is damaged ({fault}); bring the file back from a copy, or move this folder "
            f"away and train again, which needs the data but repeats no stage that is finished",
            code=error.code,
        ) from error


def require_same_recipe(run: Path, recipe: TrainRecipe) -> None:
    """Compare a finished checkpoint with the recipe alone, where the data are gone."""
    marks = _read_short(run / "checkpoint" / MARKER_FILE).split()
    if marks[1:] != [identities_of(recipe, None).checkpoint]:
        raise TrainingError(
            f"{run}/checkpoint was trained by another recipe or another version of ldm-export, and the data in "
            f"{recipe.data.folder} are not here to compare with; give another --runs to train, which needs the data"
        )


def require_same_parts(run: Path, recipe: TrainRecipe, identities: Identities) -> None:
    """Raise TrainingError that names every part of the run folder which another recipe, version or other data made."""
    others = [str(path) for path, is_ours in _parts(run, recipe, identities) if not is_ours]
    if others:
        raise TrainingError(
            f"another recipe, other data or another version of ldm-export made {', '.join(others)}; remove "
            f"{'it' if len(others) == 1 else 'them'} to train anew, or give another --runs"
        )


def _parts(run: Path, recipe: TrainRecipe, identities: Identities) -> Iterator[tuple[Path, bool]]:
    """Yield each part of the run folder, and whether it is this training's."""
    if os.path.lexists(run / "tokenizer"):
        yield run / "tokenizer", _read_short(run / "tokenizer" / IDENTITY_FILE).split() == [identities.tokenizer]
    optimisers: dict[str, tuple[OptimiserRecipe, RestartRecipe | None]] = {
        "autoencoder": (recipe.autoencoder.optimiser, None),
        "text_encoder": (recipe.text_encoder.optimiser, None),
        "diffusion": (recipe.diffusion.optimiser, recipe.diffusion.restart),
    }
    if recipe.decoder is not None:
        optimisers["decoder"] = (recipe.decoder.optimiser, None)
    for name, (optimiser, restart) in optimisers.items():
        if os.path.lexists(run / name / STATE_FILE):
            state = read_state(run / name / STATE_FILE, whole=False)
            identity = identity_at(state["step"], getattr(identities, name), optimiser, restart)
            yield run / name, state["identity"] == identity
    for name in LATENTS:
        path = run / f"latents-{name}.safetensors"
        if os.path.lexists(path):
            yield path, _latents_identity(path) == identities.latents
    if is_complete(run):
        yield run / "checkpoint", _read_short(run / "checkpoint" / MARKER_FILE).split()[:1] == [identities.checkpoint]


def _read_short(path: Path) -> str:
    """Read a file of a line or two; "" where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(1024).decode("ascii", "replace") if path.is_file() else ""
    except OSError:
        return ""


def _latents_identity(path: Path) -> str | None:
    with refused_as(TrainingError, "remove it and train again"):
        return safetensors.read_header(path).metadata.get("identity")
