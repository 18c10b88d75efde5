"""Files that are no checkpoints of latent diffusion models: each is refused for what it is."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from ldm_export.checkpoint.pickles import PICKLES
from ldm_export.errors import CheckpointError
from ldm_runtime.checks import shown

ENDINGS = (".safetensors", *PICKLES)

_LORA = re.compile(r"lora[._]|\.(?:hada|lokr)_|\.dora_scale")
# What keys begin with, or are, in files of other models.
_OTHERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"control_model\.|controlnet_cond_embedding\."), "a ControlNet, which steers a model"),
    (re.compile(r"conditioner\.embedders\.0\.model\."), "the refiner of SDXL, which is not supported"),
    (re.compile(r"edm_mean|edm_std"), "a model of EDM's schedule (Playground 2.5), which is not supported"),
    (re.compile(r"(?:model\.diffusion_model\.)?(?:double|joint|single_transformer)_blocks\."),
     "a model with a transformer in place of the UNet (SD 3, Flux), which is not supported"),
    (re.compile(r"\d+\.conv\.\d+\.(?:weight|bias)$"),
     "one half of a tiny autoencoder; give the folder that has both and a config.json, as diffusers reads it"),
    (re.compile(r"(?:.+\.)?scaled_fp8|.+\.scale_weight"), "scaled weights of 8 bits, which are not supported"),
)  # fmt: skip
_EMBEDDINGS = {"emb_params", "clip_l", "clip_g", "string_to_param"}


def refuse_other_files(path: Path, place: Path) -> None:
    """Raise CheckpointError for a file whose first bytes or name say that it holds no tensors of a checkpoint.

    place: where its content is, which is a regular file.
    """
    with open(place, "rb") as file:
        start = file.read(4)
    if start == b"GGUF":
        raise CheckpointError(f"{path} is a GGUF file, whose quantised weights are not supported; use safetensors")
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path} is an ONNX graph, not a checkpoint; give the checkpoint that it was made from")
    if path.suffix not in ENDINGS:
        raise CheckpointError(f"{path} is a file; expected the folder of a diffusers pipeline, or {', '.join(ENDINGS)}")


def refuse_other_models(path: Path, keys: Iterable[str]) -> None:
    """Raise CheckpointError for a file whose keys are those of an addition to a model, or of another model."""
    names = list(keys)
    if any(_LORA.search(name) for name in names):
        raise CheckpointError(
            f"{path} is a LoRA, which changes a model and is none; merge it into its checkpoint first"
        )
    if names and all(name in _EMBEDDINGS or "." not in name for name in names) and len(names) <= 4:
        raise CheckpointError(f"{path} is a textual inversion ({shown(names[0])}), a word for a model, not a model")
    for pattern, what in _OTHERS:
        if any(pattern.match(name) for name in names):
            raise CheckpointError(f"{path} is {what}")


def refuse_prediction(what: object) -> NoReturn:
    """Raise CheckpointError for what is no single file, but is said what its model predicts."""
    raise CheckpointError(
        f"{what} is a folder, which says itself what its model predicts (scheduler/scheduler_config.json); leave "
        f"--prediction and --zero-snr out"
    )


def refuse_other_folder(path: Path) -> NoReturn:
    """Raise CheckpointError for a folder that is neither a pipeline nor a package, for what it is."""
    names = {file.name for file in path.iterdir()}
    if names & {"adapter_config.json", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"}:
        raise CheckpointError(
            f"{path} is a LoRA, which changes a model and is none; merge it into its checkpoint first"
        )
    if "config.json" in names and any(name.endswith((".safetensors", ".bin")) for name in names):
        raise CheckpointError(
            f"{path} is one part of a diffusers pipeline; give the folder that holds model_index.json and all parts, "
            f"and beside it a part that replaces its own by --vae, --unet or --text-encoder of `build`"
        )
    raise CheckpointError(f"{path} is not a model's folder: it has neither model_index.json nor manifest.json")
