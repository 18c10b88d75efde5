"""Draw an apple, then make it green: python examples/image_to_image.py FOLDER"""

import sys
from pathlib import Path

import ldm_runtime


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with ldm_runtime.load() as pipe:
        apple = pipe("red apple, 3d style", seed=1, steps=8)[0]
        apple.save(folder / "before.png")
        # strength: 0 keeps the image, 1 draws a new one. A list of seeds draws several at once.
        for number, image in enumerate(
            pipe("green apple, 3d style", image=apple, strength=0.7, seed=2, steps=8, count=2)
        ):
            image.save(folder / f"after-{number}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
