"""What a server in the hub's place lists of a repository: read by the library, then by us, and files chosen of it."""

import json
from pathlib import Path
from random import Random
from typing import Any

import huggingface_hub

from ldm_export.checkpoint.hub.choice import of_part, of_pipeline, weights_of_pipeline
from ldm_export.checkpoint.hub.client import explained, read_info
from ldm_export.checkpoint.hub.names import HubName
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import json_input
from tests.hub_server import Repository

NAME = HubName("someone/something")
STEM = "diffusion_pytorch_model"
FILES = ["model_index.json", "README.md", "unet/config.json", "vae/config.json", "tokenizer/merges.txt"]
FILES += [f"vae/{STEM}.{ending}" for ending in ("safetensors", "fp16.safetensors", "bin")]
FILES += [f"unet/{STEM}{each}" for each in (".safetensors.index.json", "-00001-of-00001.safetensors")]


def _prepare(folder: Path) -> list[dict[str, Any]]:
    """A pipeline with shards and variants, a part alone, and a single file."""
    whole = dict.fromkeys(FILES, b"x")
    kinds = (whole, {"config.json": b"{}", f"{STEM}.safetensors": b"x"}, {"model.safetensors": b"x"})
    more = {"tags": ["diffusers"], "lastModified": "2024-01-01T00:00:00.000Z", "gated": False, "cardData": {"a": 1}}
    return [{**more, **Repository(files).listing()} for files in kinds]


def _make(random: Random, seeds: list[dict[str, Any]]) -> bytes:
    return json_input(random, random.choice(seeds))


def _read(content: bytes, seeds: list[dict[str, Any]]) -> None:
    with explained(NAME):
        listing = read_info(NAME, lambda: huggingface_hub.ModelInfo(**json.loads(content)))
        if "model_index.json" in listing.sizes:
            of_pipeline(NAME, listing)
            weights_of_pipeline(NAME, listing, {"unet": STEM}, "fp16")
        of_part(NAME, listing, "vae", "fp16")


KINDS = [Kind("hub_listing", _prepare, _make, _read)]
