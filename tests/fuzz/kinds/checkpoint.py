"""Files of a checkpoint's folder: configs of the models, model_index.json, scheduler_config.json, indexes of shards."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.kind import GOLDEN, SCHEDULE, Kind
from tests.fuzz.mutate import json_input

INDEX = "unet/diffusion_pytorch_model.safetensors.index.json"
CONFIGS = {
    "model_config": ["unet/config.json", "vae/config.json", "text_encoder/config.json"],
    "model_index": ["model_index.json"],
    "shard_index": [INDEX],
    "checkpoint_scheduler": ["scheduler/scheduler_config.json"],
}


def write_checkpoint(folder: Path, levels: int = 2) -> None:
    """A tiny checkpoint in diffusers' layout, the UNet in two shards; always the same."""
    import numpy as np
    import torch

    from ldm_export.checkpoint.save import save_checkpoint
    from ldm_export.configs.text_encoder import TextEncoderConfig
    from ldm_export.configs.unet import UNetConfig
    from ldm_export.configs.vae import VAEConfig
    from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
    from ldm_runtime.package import safetensors

    unet = UNetConfig(
        sample_size=8, in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")[:levels],
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")[-levels:], block_out_channels=(8, 16)[:levels],
        layers_per_block=1, attention_head_dim=2, cross_attention_dim=8, norm_num_groups=4,
    )  # fmt: skip
    vae = VAEConfig(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, 16)[:levels], layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=16,
    )  # fmt: skip
    text = TextEncoderConfig(
        vocab_size=517, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, pad_token_id=515, bos_token_id=514, eos_token_id=515,
    )  # fmt: skip
    torch.manual_seed(0)
    save_checkpoint(
        folder,
        {"text_encoder": CLIPTextModel(text), "unet": UNet2DConditionModel(unet), "vae": AutoencoderKL(vae)},
        schedule=SCHEDULE,
        tokenizer_folder=GOLDEN / "package" / "tokenizer",
    )
    single = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {name: np.array(tensor) for name, tensor in safetensors.read(single).items()}
    names = sorted(tensors)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        safetensors.write(single.with_name(file), {name: tensors[name] for name in part})
        places |= dict.fromkeys(part, file)
    single.unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": dict(sorted(places.items()))}))


def _prepare(folder: Path) -> dict[str, Any]:
    """relative path -> what stands there."""
    from ldm_export.checkpoint.open import open_checkpoint

    write_checkpoint(folder / "checkpoint")
    open_checkpoint(folder / "checkpoint").check()  # what torch imports at the first model is no input's
    names = [name for group in CONFIGS.values() for name in group]
    return {name: json.loads((folder / "checkpoint" / name).read_text()) for name in names}


def _kind(name: str, files: list[str]) -> Kind:
    def make(random: Random, prepared: dict[str, Any]) -> bytes:
        """The first byte says which file it is."""
        number = random.randrange(len(files))
        return bytes([number]) + json_input(random, prepared[files[number]])

    def read(content: bytes, prepared: dict[str, Any]) -> None:
        from ldm_export.checkpoint.open import open_checkpoint

        file = files[content[0] % len(files)]
        place = Path("checkpoint") / file
        place.write_bytes(content[1:])
        try:
            open_checkpoint(Path("checkpoint")).check()
        finally:
            place.write_text(json.dumps(prepared[file]))

    return Kind(name, _prepare, make, read, memory=2**30)


KINDS = [_kind(name, files) for name, files in CONFIGS.items()]
