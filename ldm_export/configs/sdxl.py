"""Configs that SDXL has besides Stable Diffusion's: a text encoder that projects, a UNet that reads text and sizes.

Checked against the signatures of diffusers 0.39 `UNet2DConditionModel` and transformers 4.57 `CLIPTextConfig`: a test
holds every option of them to the tables here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ldm_export.configs.strict import MAX_INNER_WIDTH, MAX_WIDTH
from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig

SIZES = 6  # numbers about the image that the UNet reads


@dataclass(frozen=True)
class ProjectingTextEncoderConfig(TextEncoderConfig):
    """The CLIP text transformer whose pooled output is projected to `projection_dim` numbers."""

    projection_dim: int = 512

    CLASS_NAME: ClassVar[str] = "CLIPTextModelWithProjection"
    INERT: ClassVar[frozenset[str]] = TextEncoderConfig.INERT - {"projection_dim"}
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {**TextEncoderConfig.BOUNDS, "projection_dim": (1, MAX_WIDTH)}


@dataclass(frozen=True)
class SDXLUNetConfig(UNetConfig):
    """The UNet of SDXL, whose time embedding has the pooled text and six sizes of the image added."""

    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None

    ONLY: ClassVar[dict[str, tuple[Any, ...]]] = {
        name: values for name, values in UNetConfig.ONLY.items() if name != "addition_embed_type"
    }
    INERT: ClassVar[frozenset[str]] = UNetConfig.INERT - {
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
    }
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {
        **UNetConfig.BOUNDS,
        "addition_time_embed_dim": (2, MAX_WIDTH),
        "projection_class_embeddings_input_dim": (2, MAX_INNER_WIDTH),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.addition_embed_type == "text_time", "addition_embed_type", "'text_time'")
        width = self.addition_time_embed_dim
        fits = width is not None and width % 2 == 0 and width // 2 > self.freq_shift
        self.require(fits, "addition_time_embed_dim", "an even number")
        self.require(
            (self.projection_class_embeddings_input_dim or 0) > SIZES * self.size_width,
            "projection_class_embeddings_input_dim",
            f"more than {SIZES} x {self.size_width}, the width of the sizes",
        )

    @property
    def size_width(self) -> int:
        """Return the width of the embedding of one size."""
        assert self.addition_time_embed_dim is not None
        return self.addition_time_embed_dim

    @property
    def added_width(self) -> int:
        """Return the width of the pooled text and the embedded sizes together."""
        assert self.projection_class_embeddings_input_dim is not None
        return self.projection_class_embeddings_input_dim

    @property
    def pooled_width(self) -> int:
        """Return the width of the pooled text."""
        return self.added_width - SIZES * self.size_width
