"""A perceptual distance: differences of unit-length VGG16 features, after LPIPS (Zhang et al. 2018, arXiv 1801.03924).

Unlike LPIPS, channels are not re-weighted by human judgements: no such weights are public in a package. The layers are
the last of each block that the weights' file holds (`ldm-export data` writes the first three blocks).
"""

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.errors import TrainingError
from ldm_runtime.errors import refused_as
from ldm_runtime.package import safetensors

BLOCKS = 2  # of VGG16's five; later ones see more context and cost more
BGR_MEAN = (103.939, 116.779, 123.68)
_NAME = re.compile(r"conv(\d+)_(\d+)\.(weight|bias)")


class PerceptualDistance(nn.Module):
    """Mean over taps of the mean squared difference of normalised features; 0 for equal images.

    Args:
        weights: safetensors file with `conv{block}_{i}.weight` (out, in, 3, 3) and `.bias`.
    """

    mean: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        tensors = _read_weights(weights)
        layers: list[nn.Sequential] = []
        channels = 3
        for block in range(1, BLOCKS + 1):
            convolutions, channels = _convolutions(tensors, block, channels, weights)
            layers.append(nn.Sequential(*convolutions))
        self.blocks = nn.ModuleList(layers)
        self.register_buffer("mean", torch.tensor(BGR_MEAN)[None, :, None, None])
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute unit-length features (B, C, H, W) after each block of RGB images (B, 3, H, W) in [-1, 1]."""
        x = (images.flip(1) + 1) * 127.5 - self.mean
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x if index == 0 else F.max_pool2d(x, 2))
            features.append(x * (x.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt())
        return features

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compute the distance, a scalar; gradients flow into `images` only."""
        with torch.no_grad():
            target_features = self.features(targets)
        pairs = zip(self.features(images), target_features, strict=True)
        distances = [(image - target).square().sum(dim=1).mean() for image, target in pairs]
        return torch.stack(distances).mean()


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise TrainingError(f"the perceptual weights {path} are missing; fetch them with: ldm-export data")
    with refused_as(TrainingError, "fetch these perceptual weights again with: ldm-export data"):
        return {name: torch.from_numpy(array.copy()) for name, array in safetensors.read(path).items()}


def _convolutions(tensors: dict[str, Tensor], block: int, channels: int, path: Path) -> tuple[list[nn.Module], int]:
    """Make the block's convolutions in order, each followed by its ReLU; return them and their output channels.

    channels: of the input. Raises TrainingError for weights that are missing, of another shape, or not finite.
    """
    matches = [match for match in map(_NAME.fullmatch, tensors) if match is not None]
    numbers = sorted({int(match[2]) for match in matches if int(match[1]) == block})
    if not numbers:
        raise TrainingError(f"{path} holds no convolution conv{block}_1; fetch it again with: ldm-export data")
    layers: list[nn.Module] = []
    for number in numbers:
        name = f"conv{block}_{number}"
        pair = [tensors.get(f"{name}.{kind}") for kind in ("weight", "bias")]
        out = len(pair[1]) if pair[1] is not None and pair[1].ndim == 1 else 0
        for kind, tensor, shape in zip(("weight", "bias"), pair, ((out, channels, 3, 3), (out,)), strict=True):
            if tensor is None or tensor.shape != shape or out == 0 or not bool(torch.isfinite(tensor).all()):
                state = "missing" if tensor is None else f"{list(tensor.shape)}, or not finite"
                raise TrainingError(
                    f"{path}: {name}.{kind} is {state}; expected finite values {list(shape)}; fetch it again with: "
                    f"ldm-export data"
                )
        layer = nn.Conv2d(channels, out, 3, padding=1)
        layer.load_state_dict(dict(zip(("weight", "bias"), pair, strict=True)))
        layers += [layer, nn.ReLU()]
        channels = out
    return layers, channels
