"""stable-diffusion.cpp as one of the peers, by its Python package; its components cannot be called alone."""

import json
import time
from pathlib import Path

import numpy as np
import stable_diffusion_cpp

from benchmarks.peers.programs.protocol import (
    Answer,
    NotMeasured,
    Request,
    folder_bytes,
    measure_image,
    run,
)

WIDTHS = [320, 640, 1280, 1280]  # of Stable Diffusion 1 and 2; other UNets of this kind are not in its source


def image(request: Request) -> Answer:
    folder = Path(request.model)
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    if config["block_out_channels"] != WIDTHS:
        raise NotMeasured(
            f"it runs the published architectures only: a UNet of widths {config['block_out_channels']} is none"
        )
    begun = time.perf_counter()
    model = stable_diffusion_cpp.StableDiffusion(
        model_path=str(folder),
        n_threads=request.threads,
        vae_decode_only=True,
        wtype="default" if request.precision == "fp32" else request.precision,  # it quantises as it loads
        verbose=False,
    )
    loaded = time.perf_counter() - begun

    def draw(ends: list[float]) -> np.ndarray:
        def end(step: int, steps: int, seconds: float) -> None:
            if steps == request.steps and step > 0:  # it counts other work too
                ends.append(time.perf_counter())

        made = model.generate_image(
            prompt=request.prompt,
            width=request.size[0],
            height=request.size[1],
            cfg_scale=request.guidance,
            sample_method="euler",
            sample_steps=request.steps,
            seed=request.seed,
            progress_callback=end,
        )
        return np.asarray(made[0].convert("RGB"))

    return {**measure_image(request, loaded, draw), "file_bytes": folder_bytes(folder)}


if __name__ == "__main__":
    run({"image": image}, ("stable-diffusion-cpp-python",))
