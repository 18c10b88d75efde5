"""The files of a tiny pipeline, changes to them, and whether two have the same weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION

PARTS = STABLE_DIFFUSION.parts
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
FILES = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def rename_keys(path: Path, pattern: str, replacement: str) -> None:
    """Renames at least one tensor of the file."""

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        found = [name for name in tensors if re.search(pattern, name)]
        assert found
        for name in found:
            tensors[re.sub(pattern, replacement, name)] = tensors.pop(name)

    edit_tensors(path, rename)


def assert_same_weights(got: Checkpoint, wanted: Path, dtype: torch.dtype = torch.float32) -> None:
    for component, file in FILES.items():
        expected = load_file(wanted / file)
        state = got.load(component, dtype).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value.to(dtype)) for name, value in expected.items()), component
