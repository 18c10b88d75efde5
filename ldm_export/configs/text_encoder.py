"""Config of the text encoder, in the words of transformers' config.json.

Checked against the signature of transformers 4.57 `CLIPTextConfig`: a test holds every option of it to the tables
here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ldm_export.configs.strict import (
    EPSILON,
    MAX_INNER_WIDTH,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    MAX_WINDOW,
    StrictConfig,
)
from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown

# Keys that transformers writes into any model's config and that the CLIP text model does not read, or in training only.
_TRANSFORMERS_INERT = frozenset(
    [
        "add_cross_attention",
        "architectures",
        "attention_dropout",
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
