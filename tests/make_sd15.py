"""Writes a Stable-Diffusion-1.5-size checkpoint with seeded random weights, to measure with.

    python tests/make_sd15.py OUT --vocabulary bpe_simple_vocab_16e6.txt.gz

The vocabulary is CLIP's, a file of the PyPI package `open_clip_torch`.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

UNET = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
VAE = dict(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=2,
    latent_channels=4,
    sample_size=512,
)
TEXT = dict(
    vocab_size=49408,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    projection_dim=768,
    bos_token_id=49406,
    eos_token_id=49407,
)
SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    steps_offset=1,
    skip_prk_steps=True,
    set_alpha_to_one=False,
)


def main() -> None:
    out, vocabulary = read_arguments(__doc__)
    torch.manual_seed(0)
    write_tokenizer(out / "tokenizer", vocabulary)
    modules = {
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**TEXT)),
        "vae": lambda: AutoencoderKL(**VAE),
        "unet": lambda: UNet2DConditionModel(**UNET),
    }
    for name, make in modules.items():
        module = make()
        randomise(module)
        module.save_pretrained(out / name)
        del module
    PNDMScheduler(**SCHEDULE).save_pretrained(out / "scheduler")
    write_index(
        out, "StableDiffusionPipeline", "PNDMScheduler", requires_safety_checker=False, safety_checker=[None, None]
    )


def read_arguments(what: str | None) -> tuple[Path, Path]:
    """Return the folder to write and the file of the vocabulary."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=Path, required=True)
    arguments = parser.parse_args()
    return arguments.out, arguments.vocabulary


def write_index(folder: Path, pipeline: str, scheduler: str, **more: Any) -> None:
    """Write model_index.json of a pipeline with one text encoder, and what more it has."""
    index = {
        "_class_name": pipeline,
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **more,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Norms and biases are constant in a fresh model: move them mildly: activations stay O(1)."""
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1:
            parameter.copy_(float(name.endswith("weight")) + 0.1 * torch.randn_like(parameter))


def write_tokenizer(folder: Path, vocabulary: Path, pad_token: str = "<|endoftext|>") -> None:
    """CLIP's tokenizer, laid out as OpenAI's code lays it out, from its published merges."""
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    alphabet = list(bytes_to_unicode().values())
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    files = {"vocab_file": folder / "vocab.json", "merges_file": folder / "merges.txt"}
    tokenizer = CLIPTokenizer(
        **{key: str(file) for key, file in files.items()}, model_max_length=77, pad_token=pad_token
    )
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
