"""OpenVINO GenAI as a user calls it, with torch's noise."""

from pathlib import Path
from typing import Any

import numpy as np

from ldm_runtime.noise.torch_cpu import TorchGenerator


def draw(package: Path, prompt: str, seed: int, **options: Any) -> np.ndarray:
    """Return the image uint8 (H, W, 3) that GenAI draws from the folder for it in a package."""
    import openvino
    import openvino_genai

    class Torch(openvino_genai.Generator):
        def __init__(self) -> None:
            super().__init__()
            self._generator = TorchGenerator(seed)

        def randn_tensor(self, shape: openvino.Shape) -> openvino.Tensor:
            return openvino.Tensor(np.ascontiguousarray(self._generator.normal(tuple(shape))))

    folder = str(package / "openvino-genai")
    theirs = openvino_genai.Text2ImagePipeline(folder, "CPU", INFERENCE_PRECISION_HINT="f32")
    drawn: np.ndarray = theirs.generate(prompt, generator=Torch(), **options).data[0]
    return drawn
