"""Configurations of the three models, in the words of diffusers' and transformers' config.json.

Checked against the signatures of diffusers 0.39 `UNet2DConditionModel` and `AutoencoderKL` and of
transformers 4.57 `CLIPTextConfig`. Each of their options is one of three things here: a field of the
dataclass (supported), an entry of the class's `ONLY` table (accepted at the one listed value, refused by name
at any other), or an entry of its `INERT` set (has no effect on the model's output). A key that is none of
these is refused: nothing is ignored by accident.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from ldm_runtime.errors import ConfigError

# What diffusers and transformers note about the file itself.
NOTES = frozenset(
    {
        "_attn_implementation_autoset",
        "_class_name",
        "_commit_hash",
        "_diffusers_version",
        "_name_or_path",
        "_use_default_values",
    }
)

PerLevel = int | tuple[int, ...]  # one value for every resolution, or one per resolution, finest first


@dataclass(frozen=True)
class UNetConfig:
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

    def __post_init__(self) -> None:
        _check_types(self)
        levels = len(self.block_out_channels)
        _require(levels > 0, self, "block_out_channels", "at least one level")
        for name in ("down_block_types", "up_block_types"):
            _require(len(getattr(self, name)) == levels, self, name, f"one block per level ({levels})")
        _require_members(self, "down_block_types", ("CrossAttnDownBlock2D", "DownBlock2D"))
        _require_members(self, "up_block_types", ("CrossAttnUpBlock2D", "UpBlock2D"))
        _require(
            self.mid_block_type in ("UNetMidBlock2DCrossAttn", None),
            self,
            "mid_block_type",
            "'UNetMidBlock2DCrossAttn' or null",
        )
        for name in ("layers_per_block", "transformer_layers_per_block", "attention_head_dim"):
            values = per_level(getattr(self, name), levels)
            _require(
                len(values) == levels and min(values) >= 1, self, name, f"one number, or {levels}, from 1 up"
            )
        for name in ("in_channels", "out_channels", "cross_attention_dim", "norm_num_groups"):
            _require(getattr(self, name) >= 1, self, name, "a positive number")
        _require_groups(self)
        heads = per_level(self.attention_head_dim, levels)
        for channels, count in zip(self.block_out_channels, heads, strict=True):
            _require(
                channels % count == 0,
                self,
                "attention_head_dim",
                f"numbers of heads that divide the channels {self.block_out_channels}",
            )
        half = self.block_out_channels[0] // 2
        _require(self.block_out_channels[0] % 2 == 0, self, "block_out_channels", "an even first width")
        _require(self.freq_shift < half, self, "freq_shift", f"less than {half}, half of the first width")
        _require(self.norm_eps > 0, self, "norm_eps", "a positive number")

    @classmethod
    def from_dict(cls, data: object, where: str = "the UNet's config") -> Self:
        """Reads a diffusers config.json. Raises ConfigError naming the first option that is not supported."""
        return _read_diffusers(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """A config.json that diffusers' UNet2DConditionModel opens."""
        return {"_class_name": self.CLASS_NAME, **_fields_as_json(self)}


@dataclass(frozen=True)
class VAEConfig:
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

    def __post_init__(self) -> None:
        _check_types(self)
        levels = len(self.block_out_channels)
        _require(levels > 0, self, "block_out_channels", "at least one level")
        for name, kind in (
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ):
            _require(len(getattr(self, name)) == levels, self, name, f"one block per level ({levels})")
            _require_members(self, name, (kind,))
        for name in ("layers_per_block", "latent_channels", "norm_num_groups"):
            _require(getattr(self, name) >= 1, self, name, "a positive number")
        for name in ("in_channels", "out_channels"):
            _require(getattr(self, name) == 3, self, name, "3 (RGB pictures)")
        _require_groups(self)
        _require(self.scaling_factor > 0, self, "scaling_factor", "a positive number")

    @property
    def downsample(self) -> int:
        """Image pixels per latent pixel, in each direction."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def shift(self) -> float:
        """The shift factor as a number: 0 where the config gives none."""
        return 0.0 if self.shift_factor is None else self.shift_factor

    @classmethod
    def from_dict(cls, data: object, where: str = "the VAE's config") -> Self:
        """Reads a diffusers config.json. Raises ConfigError naming the first option that is not supported."""
        return _read_diffusers(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """A config.json that diffusers' AutoencoderKL opens."""
        return {"_class_name": self.CLASS_NAME, **_fields_as_json(self)}


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
class TextEncoderConfig:
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

    def __post_init__(self) -> None:
        _check_types(self)
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        for name in (*sizes, "max_position_embeddings"):
            _require(getattr(self, name) >= 1, self, name, "a positive number")
        _require(
            self.hidden_size % self.num_attention_heads == 0,
            self,
            "num_attention_heads",
            f"a divisor of hidden_size {self.hidden_size}",
        )
        _require(self.hidden_act in ("quick_gelu", "gelu"), self, "hidden_act", "'quick_gelu' or 'gelu'")
        _require(self.layer_norm_eps > 0, self, "layer_norm_eps", "a positive number")

    @classmethod
    def from_dict(cls, data: object, where: str = "the text encoder's config") -> Self:
        """Reads a transformers config.json. Raises ConfigError naming the first unsupported option."""
        data = _require_object(data, where)
        architectures = data.get("architectures")
        if data.get("model_type") != cls.MODEL_TYPE or architectures not in (None, [cls.CLASS_NAME]):
            raise ConfigError(
                f"{where} is for model_type {data.get('model_type')!r}, architectures {architectures!r}; "
                f"supported is {cls.MODEL_TYPE!r}, [{cls.CLASS_NAME!r}]"
            )
        return _read_fields(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """A config.json that transformers' CLIPTextModel opens."""
        return {
            "architectures": [self.CLASS_NAME],
            "model_type": self.MODEL_TYPE,
            **_fields_as_json(self),
            "projection_dim": self.hidden_size,
        }


Config = UNetConfig | VAEConfig | TextEncoderConfig
C = TypeVar("C", UNetConfig, VAEConfig, TextEncoderConfig)
D = TypeVar("D", UNetConfig, VAEConfig)


def per_level(value: PerLevel, levels: int) -> tuple[int, ...]:
    """One value per resolution, finest first."""
    return (value,) * levels if isinstance(value, int) else value


def _read_diffusers(cls: type[D], data: object, where: str) -> D:
    data = _require_object(data, where)
    if data.get("_class_name") != cls.CLASS_NAME:
        raise ConfigError(
            f"{where} has _class_name {data.get('_class_name')!r}; supported is {cls.CLASS_NAME!r}"
        )
    return _read_fields(cls, data, where)


def _read_fields(cls: type[C], data: dict[str, Any], where: str) -> C:
    """Every key is a field, at an accepted value, inert, or a note."""
    fields = {field.name for field in dataclasses.fields(cls)}
    values = {}
    for key, value in data.items():
        if key in fields:
            values[key] = _as_tuple(value)
        elif key in cls.ONLY:
            if not any(_same(value, accepted) for accepted in cls.ONLY[key]):
                wanted = " or ".join(repr(accepted) for accepted in cls.ONLY[key])
                raise ConfigError(
                    f"{where} has {key} = {value!r}, which is not supported: it must be {wanted}"
                )
        elif key not in cls.INERT and key not in NOTES:
            raise ConfigError(f"{where} has the unknown option {key} = {value!r}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _same(value: object, accepted: object) -> bool:
    """Equality in which True is not 1 and False is not 0."""
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _fields_as_json(config: Config) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _require_object(data: object, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is no JSON object but {type(data).__name__}")
    return data


def _require(holds: bool, config: Config, name: str, wanted: str) -> None:
    if not holds:
        raise ConfigError(
            f"{config.CLASS_NAME} has {name} = {_shown(getattr(config, name))}, which is not supported: "
            f"it must be {wanted}"
        )


def _shown(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)


def _require_members(config: Config, name: str, allowed: tuple[str, ...]) -> None:
    _require(set(getattr(config, name)) <= set(allowed), config, name, f"made of {' and '.join(allowed)}")


def _require_groups(config: UNetConfig | VAEConfig) -> None:
    groups = config.norm_num_groups
    fits = all(channels >= 1 and channels % groups == 0 for channels in config.block_out_channels)
    _require(fits, config, "block_out_channels", f"positive multiples of norm_num_groups = {groups}")


def _check_types(config: Config) -> None:
    """Holds every field to its annotation; integers are taken where a real number is expected."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not _has_type(value, field.type):
            wanted = getattr(field.type, "__name__", str(field.type))
            raise ConfigError(
                f"{config.CLASS_NAME} has {field.name} = {_shown(value)}; it must be of type {wanted}"
            )


def _has_type(value: object, kind: Any) -> bool:
    origin, arguments = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_has_type(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_has_type, value, arguments))
    if arguments:  # a union
        return any(_has_type(value, argument) for argument in arguments)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
