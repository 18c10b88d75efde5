"""captions.jsonl of a folder of pictures to learn from."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.kind import Kind
from tests.fuzz.mutate import json_input


def _prepare(folder: Path) -> list[dict[str, Any]]:
    import ldm_export.train.image_folder  # noqa: F401  # what importing takes is no input's
    from tests.train.conftest import write_pictures

    write_pictures(folder / "pictures", size=8)
    lines = (folder / "pictures" / "captions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _make(random: Random, rows: list[dict[str, Any]]) -> bytes:
    place = random.randrange(4)
    lines = [json.dumps(row).encode() for row in rows[:4]]
    lines[place] = json_input(random, rows[place])
    return b"\n".join(lines)


def _read(content: bytes, rows: list[dict[str, Any]]) -> None:
    from ldm_export.recipes.train import DataRecipe
    from ldm_export.train.image_folder import load_pictures

    Path("pictures/captions.jsonl").write_bytes(content)
    trained, held_out = load_pictures(DataRecipe(Path("pictures"), 8, where={"kind": ("square", "disc", "bar")}))
    for pictures in (trained, held_out):
        for caption, tags in zip(pictures.captions, pictures.tags, strict=True):
            ", ".join([caption, *tags]).encode()


KINDS = [Kind("captions", _prepare, _make, _read)]
