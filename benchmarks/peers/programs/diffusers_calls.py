"""Measurements of a pipeline with diffusers' interface, whether its models are torch's or optimum's."""

import time
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler

from benchmarks.peers.programs.protocol import (
    Answer,
    Request,
    folder_bytes,
    measure_components,
    measure_image,
    read_inputs,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def prepared(pipe: Any) -> Any:
    """Give the pipeline the sampler that all peers can follow, and make it quiet."""
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.inference_mode()
def pipeline_components(request: Request, pipe: Any) -> Answer:
    given = {name: torch.from_numpy(array) for name, array in read_inputs(request).items()}
    dtype = DTYPES[request.precision]
    ids, timestep = given["text_encoder.input_ids"], given["unet.timestep"]
    sample, context = (given[f"unet.{name}"].to(dtype) for name in ("sample", "encoder_hidden_states"))
    image, latents = (given[name].to(dtype) for name in ("vae_encoder.sample", "vae_decoder.latent_sample"))
    return measure_components(
        request,
        {
            "text_encoder": lambda: _array(pipe.text_encoder(ids)[0]),
            "unet": lambda: _array(pipe.unet(sample, timestep, context, return_dict=False)[0]),
            "vae_encoder": lambda: _array(pipe.vae.encode(image)[0].parameters),
            "vae_decoder": lambda: _array(pipe.vae.decode(latents, return_dict=False)[0]),
        },
    )


def _array(made: torch.Tensor) -> np.ndarray:
    return made.float().numpy()


def pipeline_image(request: Request, pipe: Any, load_seconds: float) -> Answer:
    latents = torch.from_numpy(read_inputs(request)["latents"]).to(DTYPES[request.precision])

    def draw(ends: list[float]) -> np.ndarray:
        def end(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            ends.append(time.perf_counter())
            return values

        made = pipe(
            request.prompt,
            latents=latents.clone(),
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            width=request.size[0],
            height=request.size[1],
            callback_on_step_end=end,
        )
        return np.asarray(made.images[0])

    return {**measure_image(request, load_seconds, draw), "file_bytes": folder_bytes(request.model)}
