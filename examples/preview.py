"""Save the image that the model predicts at every step: python examples/preview.py "red apple, 3d style" FOLDER"""

import sys
from pathlib import Path

import ldm_runtime


def main(prompt: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with ldm_runtime.load() as pipe:
        for step in pipe.sample(prompt, seed=1, steps=8):
            step.preview()[0].save(folder / f"step-{step.index + 1:02}.png")
            print(f"step {step.index + 1} of {step.total}")  # to stop the run, leave the loop
        step.images()[0].save(folder / "image.png")  # it carries the prompt, the seed and the sampler


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
