"""Make a tiny data set of captioned shapes to train on: python examples/shapes.py FOLDER"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
BOXES = {"square": (4, 4, 28, 28), "bar": (2, 10, 30, 22), "disc": (4, 4, 28, 28)}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for colour, rgb in COLOURS.items():
        for shape, box in BOXES.items():
            image = Image.new("RGBA", (32, 32))  # transparent: the recipe composes it over its backgrounds
            pen = ImageDraw.Draw(image)
            (pen.ellipse if shape == "disc" else pen.rectangle)(box, fill=rgb)
            image.save(folder / f"{colour}-{shape}.png")
            rows.append({"file": f"{colour}-{shape}.png", "caption": f"{colour} {shape}", "tags": [colour, shape]})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
