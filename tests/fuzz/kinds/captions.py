"""captions.jsonl of a folder of images to train on."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.kind import Kind
from tests.fuzz.mutate import json_input


def _prepare(folder: Path) -> list[dict[str, Any]]:
    import ldm_export.train.image_folder  # noqa: F401  # what importing takes is no input's
    from tests.train.conftest import write_images

    write_images(folder / "pictures", size=8)
    lines = (folder / "pictures" / "captions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _make(random: Random, rows: list[dict[str, Any]]) -> bytes:
    place = random.randrange(4)
    lines = [json.dumps(row).encode() for row in rows[:4]]
    lines[place] = json_input(random, rows[place])
    return b"\n".join(lines)


def _read(content: bytes, rows: list[dict[str, Any]]) -> None:
    from ldm_export.recipes.train import DataRecipe
    from ldm_export.train.image_folder import load_images

    Path("pictures/captions.jsonl").write_bytes(content)
    split = load_images(DataRecipe(Path("pictures"), 8, where={"kind": ("square", "disc", "bar")}))[0]
    for images in split:
        for caption, tags in zip(images.captions, images.tags, strict=True):
            ", ".join([caption, *tags]).encode()


KINDS = [Kind("captions", _prepare, _make, _read)]
