"""Config of the tiny autoencoder, in the words of diffusers' config.json.

Checked against the signature of diffusers 0.39 `AutoencoderTiny`: a test holds every option of it to the tables here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from ldm_export.configs.strict import MAX_CHANNELS, MAX_LAYERS_PER_BLOCK, MAX_WIDTH, SCALE, StrictConfig


@dataclass(frozen=True)
class TinyVAEConfig(StrictConfig):
    """The tiny autoencoder (TAESD); field names and defaults are diffusers' AutoencoderTiny's.

    Widths and numbers of blocks are those of the levels: the encoder's finest first, the decoder's coarsest first.
    `scaling_factor` is 1: it was trained on the latents of the diffusion model.
    """

    in_channels: int = 3
    out_channels: int = 3
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    latent_channels: int = 4
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    CLASS_NAME: ClassVar[str] = "AutoencoderTiny"
    ONLY: ClassVar[dict[str, tuple[Any, ...]]] = {
        "act_fn": ("relu",),
        "upsample_fn": ("nearest",),
        "upsampling_scaling_factor": (2,),
    }
    # The range that its latents have as bytes, which no pipeline makes of them; what the class sets itself.
    INERT: ClassVar[frozenset[str]] = frozenset(
        {"block_out_channels", "force_upcast", "latent_magnitude", "latent_shift"}
    )
    BOUNDS: ClassVar[dict[str, tuple[float, float]]] = {
        "encoder_block_out_channels": (1, MAX_WIDTH),
        "decoder_block_out_channels": (1, MAX_WIDTH),
        "latent_channels": (1, MAX_CHANNELS),
        "num_encoder_blocks": (0, MAX_LAYERS_PER_BLOCK),
        "num_decoder_blocks": (0, MAX_LAYERS_PER_BLOCK),
        "scaling_factor": SCALE,
        "shift_factor": (-SCALE[1], SCALE[1]),
    }

    encodes_moments: ClassVar[bool] = False  # the encoder gives latents, of which nothing is drawn
    sample_size: ClassVar[int] = 512  # pixels, that of every published one: the file does not say it

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("in_channels", "out_channels"):
            self.require(getattr(self, name) == 3, name, "3 (RGB images)")
        levels = len(self.encoder_block_out_channels)
        self.require(levels > 0, "encoder_block_out_channels", "at least one width")
        for name in ("decoder_block_out_channels", "num_encoder_blocks", "num_decoder_blocks"):
            self.require(len(getattr(self, name)) == levels, name, f"one number per level ({levels})")
        for name in ("encoder_block_out_channels", "decoder_block_out_channels"):
            self.require(len(set(getattr(self, name))) == 1, name, "the same width at every level")

    @property
    def downsample(self) -> int:
        """Return the image pixels per latent pixel, in each direction."""
        return int(2 ** (len(self.encoder_block_out_channels) - 1))

    @property
    def shift(self) -> float:
        return self.shift_factor

    def to_dict(self) -> dict[str, Any]:
        """Return a config.json that diffusers opens, with the levels where its pipelines count them."""
        return {**super().to_dict(), "block_out_channels": list(self.decoder_block_out_channels)}
