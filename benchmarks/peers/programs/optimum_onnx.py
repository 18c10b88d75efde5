"""optimum-onnx on ONNX Runtime as one of the peers: the graphs that it exports itself, opened as it opens them."""

import time
from pathlib import Path

import torch
from onnxruntime import InferenceSession, SessionOptions
from optimum.onnxruntime import ORTStableDiffusionPipeline

from benchmarks.peers.programs.diffusers_calls import pipeline_components, pipeline_image, prepared
from benchmarks.peers.programs.protocol import Answer, Request, folder_bytes, run


def convert(request: Request) -> Answer:
    """Export the checkpoint `model` into the folder `outputs`."""
    from optimum.exporters.onnx import main_export

    begun = time.perf_counter()
    main_export(
        request.model,
        output=request.outputs,
        task="text-to-image",
        library_name="diffusers",
        dtype="fp32",
        no_post_process=True,
        do_validation=False,
        local_files_only=True,
    )
    return {"convert_seconds": time.perf_counter() - begun}


def open_unet(request: Request) -> Answer:
    """Open the UNet as optimum's pipeline opens each component."""
    torch.set_num_threads(request.threads)
    path = Path(request.model) / "unet" / "model.onnx"
    begun = time.perf_counter()
    InferenceSession(path, providers=["CPUExecutionProvider"], sess_options=_options(request))
    return {"load_seconds": time.perf_counter() - begun, "file_bytes": folder_bytes(path.parent)}


def components(request: Request) -> Answer:
    return pipeline_components(request, _pipeline(request))


def image(request: Request) -> Answer:
    begun = time.perf_counter()
    pipe = _pipeline(request)
    return pipeline_image(request, pipe, time.perf_counter() - begun)


def _pipeline(request: Request) -> ORTStableDiffusionPipeline:
    torch.set_num_threads(request.threads)
    return prepared(
        ORTStableDiffusionPipeline.from_pretrained(
            request.model, export=False, session_options=_options(request), local_files_only=True
        )
    )


def _options(request: Request) -> SessionOptions:
    options = SessionOptions()
    options.intra_op_num_threads = request.threads
    return options


if __name__ == "__main__":
    run(
        {"convert": convert, "open": open_unet, "components": components, "image": image},
        ("optimum-onnx", "optimum", "onnxruntime", "torch", "diffusers", "transformers"),
    )
