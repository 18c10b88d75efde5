"""OpenVINO GenAI as one of the peers: the folder in its format, in float32; its components cannot be called alone."""

import sys
import time
from pathlib import Path

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # else the import reports over the network

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers.programs.protocol import (
    Answer,
    NotMeasured,
    Request,
    folder_bytes,
    measure_image,
    read_inputs,
    run,
)


class Given(openvino_genai.Generator):
    """A generator that hands out the latents that all peers start from."""

    def __init__(self, latents: np.ndarray) -> None:
        openvino_genai.Generator.__init__(self)
        self._latents = latents

    def next(self) -> float:
        raise AssertionError("a text-to-image run draws whole tensors")

    def randn_tensor(self, shape: openvino.Shape) -> openvino.Tensor:
        assert tuple(shape) == self._latents.shape
        return openvino.Tensor(self._latents)

    def seed(self, value: int) -> None:
        """Do nothing: the latents are given whatever the seed."""


def image(request: Request) -> Answer:
    folder = Path(request.model)
    if not (folder / "model_index.json").is_file():
        raise NotMeasured(f"the package has no folder {folder.name}; build it with --target openvino --genai")
    latents = read_inputs(request)["latents"]
    begun = time.perf_counter()
    pipe = openvino_genai.Text2ImagePipeline(
        str(folder), "CPU", INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS=request.threads
    )
    pipe.set_scheduler(
        openvino_genai.Scheduler.from_config(
            folder / "scheduler" / "scheduler_config.json", openvino_genai.Scheduler.Type.DDIM
        )
    )
    loaded = time.perf_counter() - begun

    def draw(ends: list[float]) -> np.ndarray:
        def end(step: int, steps: int, latent: openvino.Tensor) -> bool:
            ends.append(time.perf_counter())
            return False

        made = pipe.generate(
            request.prompt,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            width=request.size[0],
            height=request.size[1],
            generator=Given(latents),
            callback=end,
        )
        return np.array(made.data[0])

    return {**measure_image(request, loaded, draw), "file_bytes": folder_bytes(folder)}


if __name__ == "__main__":
    run({"image": image}, ("openvino-genai", "openvino", "openvino-tokenizers"))
