"""Draw a face, then inpaint its lower half: python examples/inpaint.py FOLDER"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

import ldm_runtime


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with ldm_runtime.load() as pipe:
        face = pipe("cat face, 3d style", seed=0, steps=8)[0]
        mask = Image.new("L", face.size, "black")  # black is kept, white is inpainted
        ImageDraw.Draw(mask).rectangle((0, face.height // 2, face.width, face.height), fill="white")
        image = pipe("dog face, 3d style", image=face, mask=mask, seed=0, steps=8)[0]
        for name, each in {"before": face, "mask": mask, "after": image}.items():
            each.save(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
