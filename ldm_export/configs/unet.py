"""Config of the UNet, in the words of diffusers' config.json.

Checked against the signature of diffusers 0.39 `UNet2DConditionModel`: a test holds every option of it to the
tables here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ldm_export.configs.levels import PerBlock, PerLevel, per_block, per_level, require_levels
from ldm_export.configs.strict import (
    EPSILON,
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_LAYERS_PER_BLOCK,
    MAX_SIDE,
    MAX_WIDTH,
    StrictConfig,
)


@dataclass(frozen=True)
class UNetConfig(StrictConfig):
    """The text-conditioned UNet of Stable Diffusion 1.x and 2.x; field names and defaults are diffusers'.

    `attention_head_dim` is the **number of heads** per resolution, as in every published SD config: diffusers
    keeps the wrong name for compatibility. `transformer_layers_per_block` counts the blocks of each transformer on the
    way down; the way up has the same, unless `reverse_transformer_layers_per_block` says others, coarsest first. Where
    `only_cross_attention` is true both attentions of a transformer block read the text.
    `sample_size` is the latent size the model was trained at (height, width). `time_cond_proj_dim` is the width of the
    embedded guidance scale, which latent consistency models read.
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: PerLevel = 2
    transformer_layers_per_block: PerBlock = 1
    reverse_transformer_layers_per_block: PerBlock | None = None
    only_cross_attention: bool | tuple[bool, ...] = False
    attention_head_dim: PerLevel = 8
    cross_attention_dim: int = 1280
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = False
    upcast_attention: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    time_cond_proj_dim: int | None = None

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
        "dual_cross_attention": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "mid_block_only_cross_attention": (None, False),
        "mid_block_scale_factor": (1,),
        "num_attention_heads": (None,),
        "num_class_embeds": (None,),
        "resnet_out_scale_factor": (1.0,),
        "resnet_skip_time_act": (False,),
        "resnet_time_scale_shift": ("default",),
        "time_embedding_act_fn": (None,),
        "time_embedding_dim": (None,),
        "time_embedding_type": ("positional",),
        "timestep_post_act": (None,),
    }
    # Sizes of embeddings that the options above switch off, and what only training does.
    INERT: ClassVar[frozenset[str]] = frozenset(
        {
            "addition_embed_type_num_heads",
            "addition_time_embed_dim",
            "dropout",
            "projection_class_embeddings_input_dim",
        }
    )
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {
        "sample_size": (1, MAX_SIDE),
        "in_channels": (1, 2 * MAX_CHANNELS + 1),
        "out_channels": (1, MAX_CHANNELS),
        "block_out_channels": (1, MAX_WIDTH),
        "layers_per_block": (1, MAX_LAYERS_PER_BLOCK),
        "transformer_layers_per_block": (0, MAX_LAYERS),
        "reverse_transformer_layers_per_block": (0, MAX_LAYERS),
        "attention_head_dim": (1, MAX_WIDTH),
        "cross_attention_dim": (1, MAX_WIDTH),
        "norm_num_groups": (1, MAX_WIDTH),
        "norm_eps": EPSILON,
        "freq_shift": (0, MAX_WIDTH),
        "time_cond_proj_dim": (4, MAX_WIDTH),  # frequencies over half the width, less 1
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require_levels(self, ("CrossAttnDownBlock2D", "DownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D"))
        middle = self.mid_block_type in ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None)
        self.require(middle, "mid_block_type", "'UNetMidBlock2DCrossAttn', 'UNetMidBlock2D' or null")
        widths = self.block_out_channels
        for name in ("layers_per_block", "attention_head_dim"):
            values = per_level(getattr(self, name), len(widths))
            self.require(len(values) == len(widths), name, f"one number, or one per level ({len(widths)})")
        fits = len(self.cross_attention_only) == len(widths)
        self.require(fits, "only_cross_attention", f"true or false, or one per level ({len(widths)})")
        self._require_depths()
        depths = [depth for level in (*self.down_depths, *self.up_depths) for depth in level]
        blocks = len(depths) + sum(depths)
        few = f"such that the UNet has {MAX_BLOCKS} blocks at most, not {blocks}"
        self.require(blocks <= MAX_BLOCKS, "transformer_layers_per_block", few)
        heads = per_level(self.attention_head_dim, len(widths))
        divides = all(width % count == 0 for width, count in zip(widths, heads, strict=True))
        self.require(divides, "attention_head_dim", f"numbers of heads that divide {list(widths)}")
        is_even = self.time_cond_proj_dim is None or self.time_cond_proj_dim % 2 == 0
        self.require(is_even, "time_cond_proj_dim", "an even number")
        half = widths[0] // 2
        self.require(widths[0] % 2 == 0, "block_out_channels", "an even first width")
        self.require(self.freq_shift < half, "freq_shift", f"less than {half}, half of the first width")

    def _require_depths(self) -> None:
        """Require a number, or a list with an entry for each level, which is a number or one for each block."""
        layers = per_level(self.layers_per_block, len(self.block_out_channels))
        down, up = "transformer_layers_per_block", "reverse_transformer_layers_per_block"
        for name, blocks in ((down, layers), (up, tuple(count + 1 for count in reversed(layers)))):
            value = getattr(self, name)
            levels = value if isinstance(value, tuple) else ()
            fits = not levels or len(levels) == len(blocks)
            self.require(fits, name, f"one number, or one per level ({len(blocks)})")
            for level, count in zip(levels, blocks, strict=bool(levels)):
                fits = isinstance(level, int) or len(level) == count
                self.require(fits, name, f"lists of a number for each block of their level, {list(blocks)}")
            is_plain = all(isinstance(level, int) for level in levels)
            if name == down and getattr(self, up) is None:
                self.require(is_plain, name, f"without lists in it, or {up} must say what the way up has")

    @property
    def cross_attention_only(self) -> tuple[bool, ...]:
        """Return whether the transformers of each level read the text alone, finest first. The middle never does."""
        return per_level(self.only_cross_attention, len(self.block_out_channels))

    @property
    def down_depths(self) -> tuple[tuple[int, ...], ...]:
        """Return the blocks of each transformer on the way down, level by level, finest first."""
        return per_block(
            self.transformer_layers_per_block, per_level(self.layers_per_block, len(self.block_out_channels))
        )

    @property
    def up_depths(self) -> tuple[tuple[int, ...], ...]:
        """Return the blocks of each transformer on the way up, level by level, coarsest first."""
        layers = per_level(self.layers_per_block, len(self.block_out_channels))
        value = self.reverse_transformer_layers_per_block
        if value is None:
            same = self.transformer_layers_per_block
            value = same if isinstance(same, int) else same[::-1]
        return per_block(value, tuple(count + 1 for count in reversed(layers)))
