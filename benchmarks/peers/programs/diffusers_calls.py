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


def prepared(pipe: Any) -> Any:
    """Give the pipeline the sampler that all peers can follow, and make it quiet."""
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.inference_mode()
def pipeline_components(request: Request, pipe: Any) -> Answer:
    given = {name: torch.from_numpy(array) for name, array in read_inputs(request).items()}
    feeds = (given["unet.sample"], given["unet.timestep"], given["unet.encoder_hidden_states"])
    return measure_components(
        request,
        {
            "text_encoder": lambda: pipe.text_encoder(given["text_encoder.input_ids"])[0].numpy(),
            "unet": lambda: pipe.unet(*feeds, return_dict=False)[0].numpy(),
            "vae_encoder": lambda: pipe.vae.encode(given["vae_encoder.sample"])[0].parameters.numpy(),
            "vae_decoder": lambda: pipe.vae.decode(given["vae_decoder.latent_sample"], return_dict=False)[0].numpy(),
        },
    )


def pipeline_image(request: Request, pipe: Any, load_seconds: float) -> Answer:
    latents = torch.from_numpy(read_inputs(request)["latents"])

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
