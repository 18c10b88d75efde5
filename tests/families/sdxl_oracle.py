"""diffusers' pipelines of SDXL as a user calls them, and the comparison of images."""

from pathlib import Path
from typing import Any

import numpy as np

from ldm_runtime.pipeline import Pipeline

LONG = "a red apple! in the style of a blue dog, " * 20  # more than a window; the second tokenizer pads with "!"
SIZE = (40, 32)  # width, height


def opened(source: Path, kind: str = "StableDiffusionXLPipeline") -> Any:
    import diffusers

    pipe = getattr(diffusers, kind).from_pretrained(source, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def levels(theirs: Any, prompt: str, negative: str | None, **options: Any) -> np.ndarray:
    """What diffusers draws, float (H, W, 3) in 0 … 255."""
    width, height = options.pop("size", SIZE)
    steps = options.pop("steps", 4)
    made = theirs(
        prompt,
        negative_prompt=negative,
        width=width,
        height=height,
        num_inference_steps=steps,
        output_type="np",
        **options,
    )
    return np.asarray(255.0 * made.images[0], np.float64)


def compare(found: Any, expected: np.ndarray) -> None:
    difference = np.abs(np.asarray(found, np.float64) - expected)
    assert difference.max() <= 2
    assert np.abs(np.asarray(found, np.float64) - expected.round()).mean() <= 0.1
    assert expected.std() > 10


def last(pipe: Pipeline, **options: Any) -> np.ndarray:
    *_, step = pipe.sample(**{"prompt": "red apple", "steps": 2, "seed": 1, "size": SIZE, **options})
    return step.latents
