"""diffusers on torch as one of the peers: the checkpoint itself."""

import time
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from benchmarks.peers.programs.diffusers_calls import DTYPES, pipeline_components, pipeline_image, prepared
from benchmarks.peers.programs.protocol import Answer, Request, folder_bytes, run


def open_unet(request: Request) -> Answer:
    torch.set_num_threads(request.threads)
    begun = time.perf_counter()
    UNet2DConditionModel.from_pretrained(request.model, subfolder="unet", torch_dtype=DTYPES[request.precision])
    return {"load_seconds": time.perf_counter() - begun, "file_bytes": folder_bytes(Path(request.model) / "unet")}


def components(request: Request) -> Answer:
    return pipeline_components(request, _pipeline(request))


def image(request: Request) -> Answer:
    begun = time.perf_counter()
    pipe = _pipeline(request)
    return pipeline_image(request, pipe, time.perf_counter() - begun)


def _pipeline(request: Request) -> StableDiffusionPipeline:
    torch.set_num_threads(request.threads)
    return prepared(
        StableDiffusionPipeline.from_pretrained(
            request.model, torch_dtype=DTYPES[request.precision], safety_checker=None, local_files_only=True
        )
    )


if __name__ == "__main__":
    run({"open": open_unet, "components": components, "image": image}, ("torch", "diffusers", "transformers"))
