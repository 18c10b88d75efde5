"""Writes a checkpoint of SDXL's size with seeded random weights in half precision, to measure with.

    python -m tests.make_sdxl OUT --vocabulary bpe_simple_vocab_16e6.txt.gz

It takes 7 GB on the disk, in shards of 1 GB, and 2 GB of memory. The vocabulary is CLIP's, a file of the PyPI package
`open_clip_torch`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, ModelMixin, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ldm_runtime.package import safetensors
from tests.make_sd15 import SCHEDULE, TEXT, VAE, read_arguments, write_index, write_tokenizer

UNET = dict(
    sample_size=128,
    block_out_channels=(320, 640, 1280),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 2, 10),
    attention_head_dim=(5, 10, 20),
    cross_attention_dim=2048,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
TEXT_2 = dict(
    vocab_size=49408,
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    projection_dim=1280,
    hidden_act="gelu",
    bos_token_id=0,
    eos_token_id=2,
    pad_token_id=1,
)
SHARD = 2**30  # bytes
STEMS = {"text_encoder": "model", "text_encoder_2": "model"}
STEMS |= {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def main() -> None:
    out, vocabulary = read_arguments(__doc__)
    write_tokenizer(out / "tokenizer", vocabulary)
    write_tokenizer(out / "tokenizer_2", vocabulary, pad_token="!")
    for name, model in empty_models().items():
        write_model(out / name, model, STEMS[name], np.random.default_rng(len(name)))
    write_pipeline(out)


def empty_models() -> dict[str, nn.Module]:
    """Return diffusers' models without memory for their weights."""
    with torch.device("meta"):
        return {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
            "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2)),
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**{**VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}),
        }


def write_pipeline(folder: Path) -> None:
    """Write the schedule and model_index.json."""
    schedule = {**SCHEDULE, "timestep_spacing": "leading"}
    EulerDiscreteScheduler.from_config(schedule).save_pretrained(folder / "scheduler")
    write_index(
        folder,
        "StableDiffusionXLPipeline",
        "EulerDiscreteScheduler",
        force_zeros_for_empty_prompt=True,
        image_encoder=[None, None],
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer_2=["transformers", "CLIPTokenizer"],
    )


def write_model(folder: Path, model: nn.Module, stem: str, random: np.random.Generator) -> None:
    """Write a model's config, and random weights of its shapes in shards with an index."""
    write_config(folder, model)
    shards = list(_shards(model))
    index: dict[str, Any] = {"metadata": {}, "weight_map": {}}
    for number, shapes in enumerate(shards, start=1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        safetensors.write(folder / file, {name: _draw(name, shape, random) for name, shape in shapes.items()})
        index["weight_map"] |= dict.fromkeys(shapes, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def write_config(folder: Path, model: nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    described = model if isinstance(model, ModelMixin) else model.config  # diffusers' own, transformers' own
    (folder / "config.json").write_text(described.to_json_string())


def _shards(model: nn.Module) -> Iterator[dict[str, tuple[int, ...]]]:
    shapes: dict[str, tuple[int, ...]] = {}
    total = 0
    for name, value in model.named_parameters():
        if shapes and total + 2 * value.numel() > SHARD:
            yield shapes
            shapes, total = {}, 0
        shapes[name] = tuple(value.shape)
        total += 2 * value.numel()
    yield shapes


def _draw(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Draw weights as torch initialises a layer, norms and biases not constant: activations stay O(1)."""
    values = random.standard_normal(shape, np.float32)
    if len(shape) == 1:
        values = float(name.endswith("weight")) + 0.1 * values
    elif "embedding.weight" in name:
        values = 0.02 * values
    else:
        values = values / np.float32(np.sqrt(3 * np.prod(shape[1:])))
    return np.asarray(values, np.float16)


if __name__ == "__main__":
    main()
