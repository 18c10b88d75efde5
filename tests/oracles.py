"""Builders of tiny diffusers pipelines with every tensor randomised: what the tests are judged by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# --- models ---------------------------------------------------------------------------------------

TINY_UNET: dict[str, dict[str, Any]] = {
    "sd15": {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 24,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    },
    "sd21": {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": (2, 4),
        "norm_num_groups": 8,
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    # As SDXL's: no attention at the finest level, transformers of several blocks, the pooled text and six sizes.
    "sdxl": {
        "sample_size": 12,
        "block_out_channels": (16, 32, 32),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1, 2),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 24 + 32,
        "attention_head_dim": (2, 4, 8),
        "norm_num_groups": 8,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 20 + 6 * 8,
    },
}

TINY_VAE: dict[str, dict[str, Any]] = {
    "sd15": {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 32,
    },
    "sd21": {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 32,
    },
}

TINY_AUTOENCODER: dict[str, Any] = {
    "encoder_block_out_channels": (16, 16),
    "decoder_block_out_channels": (16, 16),
    "num_encoder_blocks": (1, 2),
    "num_decoder_blocks": (2, 1),
}

TINY_TEXT: dict[str, dict[str, Any]] = {
    "sd15": {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "hidden_act": "quick_gelu",
        "eos_token_id": 2,  # the legacy value, as in SD 1.5: pooled at the highest id
        "bos_token_id": 0,
        "pad_token_id": 1,
    },
    "sd21": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
    },
}

SCHEDULER: dict[str, dict[str, Any]] = {
    "sd15": {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
    },
    "sd21": {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "clip_sample": False,
        "steps_offset": 1,
        "trained_betas": None,
        "prediction_type": "v_prediction",
        "timestep_spacing": "leading",
    },
}


for _table in (TINY_UNET, TINY_VAE, TINY_TEXT, SCHEDULER):
    _table["inpaint"] = _table["sd15"]
    _table["wide"] = _table["sd15"]
TINY_UNET["inpaint"] = {**TINY_UNET["sd15"], "in_channels": 9}
# As wide as the published ones where pictures are larger (autoencoder) or smaller (UNet) than the latent.
TINY_UNET["wide"] = {**TINY_UNET["sd15"], "block_out_channels": (16, 256)}
TINY_VAE["wide"] = {**TINY_VAE["sd21"], "block_out_channels": (16, 256, 256)}
TINY_VAE["sdxl"] = {**TINY_VAE["sd21"], "sample_size": 48, "scaling_factor": 0.13025}
TINY_TEXT["sdxl"] = TINY_TEXT["sd15"]
# SDXL's second text encoder, which projects its pooled output.
TINY_TEXT["sdxl_2"] = {**TINY_TEXT["sd21"], "projection_dim": 20}
SCHEDULER["sdxl"] = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
for _table in (TINY_UNET, TINY_VAE, TINY_TEXT, SCHEDULER):
    _table["sdxl_inpaint"] = _table["sdxl"]
TINY_UNET["sdxl_inpaint"] = {**TINY_UNET["sdxl"], "in_channels": 9}


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Gives every parameter its own values, at scales that keep activations of order one.

    Nothing stays constant: norms are near one with an offset, biases and zero-initialised layers get values.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "embedding" in name and "time" not in name:
                parameter.copy_(0.5 * noise)  # token and position tables
            elif parameter.ndim >= 2:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(1 + 0.3 * noise)  # the scale of a norm
    return module.eval()


def tiny_unet(kind: str = "sd15", seed: int = 0, **changes: Any) -> nn.Module:
    """A diffusers UNet2DConditionModel with random weights."""
    from diffusers import UNet2DConditionModel

    return randomise(UNet2DConditionModel(**{**TINY_UNET[kind], **changes}), seed)


def tiny_vae(kind: str = "sd15", seed: int = 0, **changes: Any) -> nn.Module:
    """A diffusers AutoencoderKL with random weights."""
    from diffusers import AutoencoderKL

    return randomise(AutoencoderKL(**{**TINY_VAE[kind], **changes}), seed)


def tiny_text_encoder(kind: str = "sd15", seed: int = 0, **changes: Any) -> nn.Module:
    """A transformers CLIPTextModel with random weights, its vocabulary that of `tiny_vocabulary`.

    The second one of SDXL, "sdxl_2", is a CLIPTextModelWithProjection.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary, _ = tiny_vocabulary()
    config = {"vocab_size": len(vocabulary), **TINY_TEXT[kind]}
    if kind in ("sd21", "sdxl_2"):
        config |= {
            "bos_token_id": vocabulary["<|startoftext|>"],
            "eos_token_id": vocabulary["<|endoftext|>"],
            "pad_token_id": 0,
        }
    model = CLIPTextModelWithProjection if kind == "sdxl_2" else CLIPTextModel
    return randomise(model(CLIPTextConfig(**{**config, **changes})), seed)


def saved_config(module: Any) -> dict[str, Any]:
    """The config.json that saving the model writes."""
    if hasattr(module, "to_json_string"):  # diffusers
        return json.loads(module.to_json_string())
    return module.config.to_dict() | {"architectures": [type(module).__name__]}


# --- tokenizer ------------------------------------------------------------------------------------

MERGED_WORDS = ("red", "blue", "apple", "cat", "dog", "photo", "style", "the", "of", "in", "3d", "smile")


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in of every byte, in CLIP's order."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def tiny_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary in small: bytes, bytes that end a word, the merges of a dozen words, two specials."""
    alphabet = list(byte_alphabet().values())
    merges: list[tuple[str, str]] = []
    for word in MERGED_WORDS:
        left = word[0]
        for position, letter in enumerate(word[1:], start=2):
            right = letter + ("</w>" if position == len(word) else "")
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
    pieces = alphabet + [letter + "</w>" for letter in alphabet] + [left + right for left, right in merges]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return {piece: index for index, piece in enumerate(pieces)}, merges


def build_tiny_tokenizer(folder: Path, *, pad_token: str = "<|endoftext|>", max_length: int = 77) -> None:
    """Writes vocab.json, merges.txt, tokenizer.json and their configs with transformers' fast tokenizer."""
    from transformers import CLIPTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = tiny_vocabulary()
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    vocab_file.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    merges_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizerFast(
        vocab_file=str(vocab_file),
        merges_file=str(merges_file),
        pad_token=pad_token,
        model_max_length=max_length,
    )
    tokenizer.save_pretrained(folder)
    # The slow class is what model_index.json of the published pipelines names.
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "CLIPTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


# --- pipelines ------------------------------------------------------------------------------------


def build_tiny_sd(
    folder: Path,
    kind: str = "sd15",
    seed: int = 0,
    *,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "10GB",
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    text_encoder: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
) -> Path:
    """Saves a pipeline of `kind` with diffusers; returns `folder`.

    kind: "sd15", "sd21", "sdxl", "inpaint" and "sdxl_inpaint" with nine channels, or "wide" with an autoencoder as
    wide as the published ones. The last four change single options of the component's config.
    """
    import diffusers
    from transformers import CLIPTokenizer

    changes = [options if options is not None else {} for options in (unet, vae, text_encoder, scheduler)]
    pad_token = "!" if kind == "sd21" else "<|endoftext|>"
    build_tiny_tokenizer(folder / "tokenizer", pad_token=pad_token)
    settings = {**SCHEDULER[kind], **changes[3]}
    parts = {
        "unet": tiny_unet(kind, seed, **changes[0]).to(dtype),
        "vae": tiny_vae(kind, seed + 1, **changes[1]).to(dtype),
        "text_encoder": tiny_text_encoder(kind, seed + 2, **changes[2]).to(dtype),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "scheduler": getattr(diffusers, settings["_class_name"]).from_config(settings),
    }
    is_xl = kind.startswith("sdxl")
    if is_xl:
        build_tiny_tokenizer(folder / "tokenizer_2", pad_token="!")
        parts["text_encoder_2"] = tiny_text_encoder("sdxl_2", seed + 3).to(dtype)
        parts["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        parts["add_watermarker"] = False
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    name = f"StableDiffusion{'XL' if is_xl else ''}{'Inpaint' if kind.endswith('inpaint') else ''}Pipeline"
    getattr(diffusers, name)(**parts).save_pretrained(folder, variant=variant, max_shard_size=max_shard_size)
    return folder


def with_tiny_autoencoder(folder: Path) -> Path:
    """Replace the autoencoder of a saved pipeline by an AutoencoderTiny; returns `folder`."""
    from diffusers import AutoencoderTiny

    shutil.rmtree(folder / "vae")
    randomise(AutoencoderTiny(**TINY_AUTOENCODER), 4).save_pretrained(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["diffusers", "AutoencoderTiny"]}))
    return folder


# --- comparison -----------------------------------------------------------------------------------


def relative_rms(got: Tensor, wanted: Tensor) -> float:
    """Root mean square of the difference over that of `wanted`, in float64; NaN if not finite."""
    got, wanted = got.detach().double(), wanted.detach().double()
    return ((got - wanted).square().mean() / wanted.square().mean()).sqrt().item()


def seeded(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def blind_parameters(module: nn.Module, run: Callable[[], Tensor], threshold: float) -> list[str]:
    """The parameters whose change by 1 % does not move the output of `run` by `threshold` (relative RMS)."""
    blind = []
    with torch.no_grad():
        wanted = run()
        for name, parameter in module.named_parameters():
            kept = parameter.data
            scale = 0.01 * kept.square().mean().sqrt()
            parameter.data = kept + scale * seeded(*kept.shape, seed=3)
            if not relative_rms(run(), wanted) > threshold:
                blind.append(name)
            parameter.data = kept
    return blind
