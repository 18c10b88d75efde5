"""The models of a Stable-Diffusion-class pipeline, as torch modules with the checkpoints' names."""

from ldm_export.models.text_encoder import CLIPTextModel
from ldm_export.models.unet import UNet2DConditionModel
from ldm_export.models.vae import AutoencoderKL
from ldm_export.models.vae_tiny import AutoencoderTiny

__all__ = ["AutoencoderKL", "AutoencoderTiny", "CLIPTextModel", "UNet2DConditionModel"]
