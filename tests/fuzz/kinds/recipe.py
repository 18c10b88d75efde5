"""Recipes in TOML: of `train` and of `build`."""

import tomllib
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.kind import RECIPES, Kind
from tests.fuzz.mutate import mutate_text, toml_input

BUILD: list[dict[str, Any]] = [
    {"name": "a", "targets": ["onnx"], "sampler": "dpmpp_2m", "steps": 20, "guidance": 3.0, "width": 64, "height": 64},
    {"targets": ["openvino"], "precision": "fp16", "sampler": "unipc:order=3"},
    {
        "targets": ["tensorrt"],
        "precision": "fp16",
        "tensorrt": {
            "compute_capabilities": ["8.6", "8.9"],
            "profiles": ["batch=1:1:2"],
            "refit": True,
            "flavour": "rtx",
        },
    },
]


def _texts(pattern: str) -> list[str]:
    return [file.read_text(encoding="utf-8") for file in sorted(RECIPES.glob(pattern))]


def _prepare_train(folder: Path) -> list[str]:
    import ldm_export.recipes.train  # noqa: F401  # what importing takes is no input's

    return [text for text in _texts("*.toml") if "[diffusion" in text]


def _prepare_build(folder: Path) -> list[Any]:
    import ldm_export.recipes.build  # noqa: F401  # what importing takes is no input's

    return [*BUILD, *_texts("*.build.toml")]


def _make(random: Random, seeds: list[Any]) -> bytes:
    """From the tree, or from the text with its comments."""
    seed = random.choice(seeds)
    if isinstance(seed, str) and random.random() < 0.3:
        return mutate_text(random, seed).encode("utf-8", "surrogatepass")
    return toml_input(random, tomllib.loads(seed) if isinstance(seed, str) else seed)


def _read_train(content: bytes, seeds: list[Any]) -> None:
    from ldm_export.recipes.train import load_train_recipe

    file = Path("recipe.toml")
    file.write_bytes(content)
    load_train_recipe(file)


def _read_build(content: bytes, seeds: list[Any]) -> None:
    from ldm_export.recipes.build import load_build_recipe

    file = Path("build.toml")
    file.write_bytes(content)
    load_build_recipe(file)


KINDS = [
    Kind("train_recipe", _prepare_train, _make, _read_train),
    Kind("build_recipe", _prepare_build, _make, _read_build),
]
