"""What SDXL (arXiv 2307.01952) adds to CLIP's text encoder and the UNet; checked against diffusers and transformers.

Shapes: B batch, T text tokens, D width of the encoder, P of its projection.
"""

import torch
from torch import Tensor, nn

from ldm_export.configs.sdxl import ProjectingTextEncoderConfig, SDXLUNetConfig
from ldm_export.models.text_encoder import CLIPTextModel
from ldm_export.models.unet import TimestepEmbedding, UNet2DConditionModel, timestep_embedding


class CLIPTextModelWithProjection(CLIPTextModel):
    """The second text encoder of SDXL (OpenCLIP bigG)."""

    def __init__(self, config: ProjectingTextEncoderConfig) -> None:
        super().__init__(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)


class SDXLUNet(UNet2DConditionModel):
    """The UNet of SDXL, which is told the pooled text and the image's sizes too."""

    config: SDXLUNetConfig

    def __init__(self, config: SDXLUNetConfig) -> None:
        super().__init__(config)
        self.add_embedding = TimestepEmbedding(config.added_width, 4 * config.block_out_channels[0])

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
        *,
        timestep_cond: Tensor | None = None,
    ) -> Tensor:
        """Predict as UNet2DConditionModel, from text_embeds (B, P) and time_ids (B, 6) too."""
        assert text_embeds is not None and time_ids is not None
        time = self._embed_time(timestep, sample, timestep_cond) + self._embed_added(text_embeds, time_ids)
        return self._denoise(sample, time, encoder_hidden_states)

    def _embed_added(self, text_embeds: Tensor, time_ids: Tensor) -> Tensor:
        config = self.config
        sizes = timestep_embedding(
            time_ids.reshape(-1),
            config.size_width,
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        sizes = sizes.reshape(time_ids.shape[0], -1)  # (B, 6 * width)
        return self.add_embedding(torch.cat([text_embeds, sizes.to(text_embeds.dtype)], dim=-1))
