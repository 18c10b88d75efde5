"""OpenVINO GenAI as one of the peers: the folder in its format; its components cannot be called alone.

A folder in eight bits is made by NNCF, Intel's own compression library, which one of its environments has.
"""

import shutil
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
    link_file,
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


def convert(request: Request) -> Answer:
    """Quantise UNet and decoder of the folder `model` with the feeds in `inputs`; `outputs`: the folder to make."""
    import nncf

    begun = time.perf_counter()
    source, made = Path(request.model), Path(request.outputs)
    _require(source)
    shutil.copytree(source, made, copy_function=link_file)
    given = read_inputs(request)
    for name in ("unet", "vae_decoder"):
        graph = Path(name) / "openvino_model.xml"
        model = openvino.Core().read_model(source / graph)
        feeds = _feeds(given, name, model)
        quantised = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            model_type=nncf.ModelType.TRANSFORMER if name == "unet" else None,  # smooths what is multiplied
        )
        for file in (made / graph, (made / graph).with_suffix(".bin")):
            file.unlink()  # perhaps a link to the source
        openvino.save_model(quantised, made / graph, compress_to_fp16=False)
    return {"convert_seconds": time.perf_counter() - begun}


def _feeds(given: dict[str, np.ndarray], component: str, model: openvino.Model) -> list[dict[str, np.ndarray]]:
    """Return the feeds COMPONENT/NUMBER/INPUT as the model wants them: its timestep is a whole number of one axis."""
    numbers = sorted({int(name.split("/")[1]) for name in given if name.startswith(f"{component}/")})
    found = []
    for number in numbers:
        feed = {}
        for port in model.inputs:
            value = given[f"{component}/{number}/{port.get_any_name()}"]
            axes = port.get_partial_shape().rank.get_length()
            feed[port.get_any_name()] = np.atleast_1d(value).astype(port.get_element_type().to_dtype())
            assert feed[port.get_any_name()].ndim == max(axes, 1)
        found.append(feed)
    return found


def _require(folder: Path) -> None:
    if not (folder / "model_index.json").is_file():
        raise NotMeasured(f"the package has no folder {folder.name}; build it with --target openvino --genai")


def image(request: Request) -> Answer:
    folder = Path(request.model)
    _require(folder)
    hint = "bf16" if request.precision.endswith("bf16") else "f32"
    latents = read_inputs(request)["latents"]
    begun = time.perf_counter()
    pipe = openvino_genai.Text2ImagePipeline(
        str(folder), "CPU", INFERENCE_PRECISION_HINT=hint, INFERENCE_NUM_THREADS=request.threads
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
    run({"convert": convert, "image": image}, ("openvino-genai", "openvino", "openvino-tokenizers", "nncf"))
