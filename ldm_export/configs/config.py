"""Configs of the three models, in the words of diffusers' and transformers' config.json.

Checked against the signatures of diffusers 0.39 `UNet2DConditionModel` and `AutoencoderKL` and of
transformers 4.57 `CLIPTextConfig`: a test holds every option of theirs to the tables here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ldm_export.configs.strict import (
    EPSILON,
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_INNER_WIDTH,
    MAX_LAYERS,
    MAX_LAYERS_PER_BLOCK,
    MAX_SIDE,
    MAX_VOCABULARY,
    MAX_WIDTH,
    MAX_WINDOW,
    SCALE,
    StrictConfig,
)
from ldm_runtime.checks import shown
from ldm_runtime.errors import ConfigError

PerLevel = int | tuple[int, ...]  # one value for every resolution, or one per resolution, finest first


@dataclass(frozen=True)
class UNetConfig(StrictConfig):
    """The text-conditioned UNet of Stable Diffusion 1.x and 2.x; field names and defaults are diffusers'.

    `attention_head_dim` is the **number of heads** per resolution, as in every published SD config: diffusers
    keeps the wrong name for compatibility. `sample_size` is the latent size the model was trained at (height,
    width).
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: PerLevel = 2
    transformer_layers_per_block: PerLevel = 1
    attention_head_dim: PerLevel = 8
    cross_attention_dim: int = 1280
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = False
    upcast_attention: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: int = 0

    CLASS_NAME: ClassVar[str] = "UNet2DConditionModel"
    ONLY: ClassVar[dict[str, tuple[Any, ...]]] = {
        "act_fn": ("silu", "swish"),
        "addition_embed_type": (None,),
        "attention_type": ("default",),
        "center_input_sample": (False,),
        "class_embed_type": (None,),
        "class_embeddings_concat": (False,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "cross_attention_norm": (None,),
        "downsample_padding": (1,),
        "dropout": (0.0,),
        "dual_cross_attention": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "mid_block_only_cross_attention": (None, False),
        "mid_block_scale_factor": (1,),
        "num_attention_heads": (None,),
        "num_class_embeds": (None,),
        "only_cross_attention": (False,),
        "resnet_out_scale_factor": (1.0,),
        "resnet_skip_time_act": (False,),
        "resnet_time_scale_shift": ("default",),
        "reverse_transformer_layers_per_block": (None,),
        "time_cond_proj_dim": (None,),
        "time_embedding_act_fn": (None,),
        "time_embedding_dim": (None,),
        "time_embedding_type": ("positional",),
        "timestep_post_act": (None,),
    }
    # Sizes of embeddings that the options above switch off.
    INERT: ClassVar[frozenset[str]] = frozenset(
        {"addition_embed_type_num_heads", "addition_time_embed_dim", "projection_class_embeddings_input_dim"}
    )
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {
        "sample_size": (1, MAX_SIDE),
        "in_channels": (1, 2 * MAX_CHANNELS + 1),
        "out_channels": (1, MAX_CHANNELS),
        "block_out_channels": (1, MAX_WIDTH),
        "layers_per_block": (1, MAX_LAYERS_PER_BLOCK),
        "transformer_layers_per_block": (1, MAX_LAYERS),
        "attention_head_dim": (1, MAX_WIDTH),
        "cross_attention_dim": (1, MAX_WIDTH),
        "norm_num_groups": (1, MAX_WIDTH),
        "norm_eps": EPSILON,
        "freq_shift": (0, MAX_WIDTH),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_levels(self, ("CrossAttnDownBlock2D", "DownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D"))
        middle = self.mid_block_type in ("UNetMidBlock2DCrossAttn", None)
        self.require(middle, "mid_block_type", "'UNetMidBlock2DCrossAttn' or null")
        widths = self.block_out_channels
        for name in ("layers_per_block", "transformer_layers_per_block", "attention_head_dim"):
            values = per_level(getattr(self, name), len(widths))
            self.require(len(values) == len(widths), name, f"one number, or one per level ({len(widths)})")
        layers = per_level(self.layers_per_block, len(widths))
        depths = per_level(self.transformer_layers_per_block, len(widths))
        blocks = sum((2 * layer + 1) * (1 + depth) for layer, depth in zip(layers, depths, strict=True))
        few = f"such that the UNet has {MAX_BLOCKS} blocks at most, not {blocks}"
        self.require(blocks <= MAX_BLOCKS, "transformer_layers_per_block", few)
        heads = per_level(self.attention_head_dim, len(widths))
        divides = all(width % count == 0 for width, count in zip(widths, heads, strict=True))
        self.require(divides, "attention_head_dim", f"numbers of heads that divide {list(widths)}")
        half = widths[0] // 2
        self.require(widths[0] % 2 == 0, "block_out_channels", "an even first width")
        self.require(self.freq_shift < half, "freq_shift", f"less than {half}, half of the first width")


@dataclass(frozen=True)
class VAEConfig(StrictConfig):
    """The KL autoencoder; field names and defaults are diffusers' AutoencoderKL's.

    `scaling_factor` and `shift_factor` define the latents of the diffusion model, (z - shift) * scale; the
    modules here take and give unscaled ones. `force_upcast` says that the published weights overflow float16;
    it is kept for reduced-precision targets and changes nothing in float32.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | tuple[int, int] = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    CLASS_NAME: ClassVar[str] = "AutoencoderKL"
    ONLY: ClassVar[dict[str, tuple[Any, ...]]] = {
        "act_fn": ("silu", "swish"),
        "latents_mean": (None,),
        "latents_std": (None,),
    }
    INERT: ClassVar[frozenset[str]] = frozenset()
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {
        "block_out_channels": (1, MAX_WIDTH),
        "layers_per_block": (1, MAX_LAYERS_PER_BLOCK),
        "latent_channels": (1, MAX_CHANNELS),
        "norm_num_groups": (1, MAX_WIDTH),
        "sample_size": (1, MAX_SIDE),
        "scaling_factor": SCALE,
        "shift_factor": (-SCALE[1], SCALE[1]),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_levels(self, ("DownEncoderBlock2D",), ("UpDecoderBlock2D",))
        for name in ("in_channels", "out_channels"):
            self.require(getattr(self, name) == 3, name, "3 (RGB pictures)")

    @property
    def downsample(self) -> int:
        """Image pixels per latent pixel, in each direction."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def shift(self) -> float:
        """The shift factor as a number: 0 where the config gives none."""
        return 0.0 if self.shift_factor is None else self.shift_factor


# Keys that transformers writes into any model's config and that the CLIP text model does not read.
_TRANSFORMERS_INERT = frozenset(
    [
        "add_cross_attention",
        "architectures",
        "bad_words_ids",
        "begin_suppress_tokens",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dropout",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "gradient_checkpointing",
        "id2label",
        "initializer_factor",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "length_penalty",
        "max_length",
        "min_length",
        "model_type",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "prefix",
        "problem_type",
        "projection_dim",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tie_word_embeddings",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "typical_p",
        "use_bfloat16",
    ]
)


@dataclass(frozen=True)
class TextEncoderConfig(StrictConfig):
    """The CLIP text transformer; field names and defaults are transformers' CLIPTextConfig's.

    `eos_token_id` decides where `pooler_output` is read: 2 is the value of configs older than transformers
    4.31 and means "at the highest id of each row", any other value "at its first occurrence".
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407

    CLASS_NAME: ClassVar[str] = "CLIPTextModel"
    MODEL_TYPE: ClassVar[str] = "clip_text_model"
    ONLY: ClassVar[dict[str, tuple[Any, ...]]] = {
        "attention_dropout": (0.0,),
        "is_decoder": (False,),
        "pruned_heads": ({},),
        "quantization_config": (None,),
    }
    INERT: ClassVar[frozenset[str]] = _TRANSFORMERS_INERT
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {
        "vocab_size": (1, MAX_VOCABULARY),
        "hidden_size": (1, MAX_WIDTH),
        "intermediate_size": (1, MAX_INNER_WIDTH),
        "num_hidden_layers": (1, MAX_LAYERS),
        "num_attention_heads": (1, MAX_WIDTH),
        "max_position_embeddings": (2, MAX_WINDOW),  # begin and end
        "layer_norm_eps": EPSILON,
        "pad_token_id": (-1, MAX_VOCABULARY),
        "bos_token_id": (-1, MAX_VOCABULARY),
        "eos_token_id": (0, MAX_VOCABULARY),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        divides = self.hidden_size % self.num_attention_heads == 0
        self.require(divides, "num_attention_heads", f"a divisor of hidden_size {self.hidden_size}")
        self.require(self.hidden_act in ("quick_gelu", "gelu"), "hidden_act", "'quick_gelu' or 'gelu'")

    @classmethod
    def _kind(cls) -> dict[str, Any]:
        return {"architectures": [cls.CLASS_NAME], "model_type": cls.MODEL_TYPE}

    @classmethod
    def _require_kind(cls, data: dict[str, Any], where: str) -> None:
        found = data.get("model_type"), data.get("architectures")
        if found[0] != cls.MODEL_TYPE or found[1] not in (None, [cls.CLASS_NAME]):
            raise ConfigError(
                f"{where} is for model_type {shown(found[0])}, architectures {shown(found[1])}; "
                f"supported is {cls.MODEL_TYPE!r}, [{cls.CLASS_NAME!r}]"
            )


Config = UNetConfig | VAEConfig | TextEncoderConfig


def per_level(value: PerLevel, levels: int) -> tuple[int, ...]:
    """One value per resolution, finest first."""
    return (value,) * levels if isinstance(value, int) else value


def _require_levels(config: UNetConfig | VAEConfig, down: tuple[str, ...], up: tuple[str, ...]) -> None:
    """One block of a known type per resolution, each as wide as its GroupNorm needs."""
    levels = len(config.block_out_channels)
    config.require(levels > 0, "block_out_channels", "at least one width")
    for name, types in (("down_block_types", down), ("up_block_types", up)):
        blocks = getattr(config, name)
        known = len(blocks) == levels and set(blocks) <= set(types)
        config.require(known, name, f"one per level ({levels}), of {' or '.join(types)}")
    groups = config.norm_num_groups
    fits = all(width % groups == 0 for width in config.block_out_channels)
    config.require(fits, "block_out_channels", f"multiples of norm_num_groups = {groups}")
