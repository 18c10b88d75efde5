"""Config of the autoencoder, in the words of diffusers' config.json.

Checked against the signature of diffusers 0.39 `AutoencoderKL`: a test holds every option of it to the tables here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ldm_export.configs.levels import require_levels
from ldm_export.configs.strict import MAX_CHANNELS, MAX_LAYERS_PER_BLOCK, MAX_SIDE, MAX_WIDTH, SCALE, StrictConfig


@dataclass(frozen=True)
class VAEConfig(StrictConfig):
    """The KL autoencoder; field names and defaults are diffusers' AutoencoderKL's.

    `scaling_factor` and `shift_factor` define the latents of the diffusion model, (z - shift) * scale, as far as its
    pipeline reads them; the modules here take and give unscaled ones. `force_upcast` says that the published weights
    overflow float16; it is kept for reduced-precision targets and changes nothing in float32.
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

    encodes_moments: ClassVar[bool] = True  # the encoder gives mean and log-variance, of which latents are drawn

    def __post_init__(self) -> None:
        super().__post_init__()
        require_levels(self, ("DownEncoderBlock2D",), ("UpDecoderBlock2D",))
        for name in ("in_channels", "out_channels"):
            self.require(getattr(self, name) == 3, name, "3 (RGB images)")

    @property
    def downsample(self) -> int:
        """Return the image pixels per latent pixel, in each direction."""
        return 2 ** (len(self.block_out_channels) - 1)
