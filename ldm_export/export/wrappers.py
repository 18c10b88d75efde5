"""What is traced: a plain `forward` per component; parameters are named `model.` + the checkpoint's name."""

from typing import Any

from torch import Tensor, nn

PREFIX = "model."  # of every parameter's name in a wrapped component


class _Component(nn.Module):
    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class TextEncoder(_Component):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> last_hidden_state (B, T, D), pooler_output (B, D)."""
        return self.model(input_ids)


class UNet(_Component):
    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """(B, C, h, w), (), (B, T, D) -> (B, C, h, w)."""
        return self.model(sample, timestep, encoder_hidden_states)


class VAEEncoder(_Component):
    def forward(self, sample: Tensor) -> Tensor:
        """(B, 3, H, W) -> mean and log-variance (B, 2C, h, w); nothing is drawn inside the graph."""
        return self.model.encode(sample)


class VAEDecoder(_Component):
    def forward(self, latent_sample: Tensor) -> Tensor:
        """Unscaled latents (B, C, h, w) -> (B, 3, H, W)."""
        return self.model.decode(latent_sample)


def wrap(component: str, model: nn.Module) -> nn.Module:
    """The model (a whole autoencoder for either half) as the component's graph sees it; evaluation mode."""
    wrappers = {
        "text_encoder": TextEncoder,
        "unet": UNet,
        "vae_encoder": VAEEncoder,
        "vae_decoder": VAEDecoder,
    }
    return wrappers[component](model).eval()
