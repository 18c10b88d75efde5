"""What a build would be refused for at its end is refused before its first export, in one sentence that names it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_export import build as builds
from ldm_export.checkpoint.stored import StoredTensor
from ldm_export.checkpoint.tensors import require_finite
from ldm_export.errors import CheckpointError
from ldm_export.lossy.table import LOSSY
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import EngineUnavailable, LdmError
from ldm_runtime.package import safetensors
from tests.oracles import build_tiny_sd

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("early") / "sd15")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def put(folder: Path, value: float) -> None:
    """One weight of the UNet replaced."""
    info = safetensors.read_header(folder / UNET).tensors["mid_block.resnets.0.conv1.weight"]
    with open(folder / UNET, "r+b") as file:
        file.seek(info.offset + info.length - 4)
        file.write(np.float32(value).tobytes())


def put_zero_snr(folder: Path) -> None:
    edit(folder / "scheduler/scheduler_config.json", **ZERO_SNR)
    edit(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
EARLY: dict[str, tuple[Callable[[Path], object], BuildRecipe, str]] = {
    "NaN": (lambda folder: put(folder, np.nan), BuildRecipe(), r"holds nan in 'mid_block\.resnets\.0\.conv1\.weight'"),
    "infinity": (lambda folder: put(folder, -np.inf), BuildRecipe(), "holds -inf in 'mid_block"),
    "no JSON": (write("tokenizer/tokenizer.json", "{"), BuildRecipe(), "tokenizer.json is not valid JSON"),
    "deep JSON": (write("tokenizer/vocab.json", "[" * 9999), BuildRecipe(), "vocab.json nests its JSON too deeply"),
    "a merge of nothing": (write("tokenizer/merges.txt", "q q"), BuildRecipe(), r"merges.txt\[0\] needs the token"),
    "a tokenizer of another model": (
        lambda folder: edit(folder / "tokenizer/tokenizer.json", model={"type": "BPE"}),
        BuildRecipe(),
        "tokenizer.json: model.end_of_word_suffix",
    ),
    "epsilon at zero signal": (
        put_zero_snr,
        BuildRecipe(),
        r"defaults\.sampler is not usable: .* zero signal with epsilon prediction .*, or set sampler or steps in a",
    ),
    "an odd size": (
        lambda folder: None,
        BuildRecipe(width=33),
        r"image\.width is 33, not a multiple of 2; change width in the recipe$",
    ),
    "an immense size": (
        lambda folder: None,
        BuildRecipe(height=60_000),
        r"image\.height is 60000; expected .*; change height in the recipe$",
    ),
    "too many steps": (
        lambda folder: edit(folder / "scheduler/scheduler_config.json", num_train_timesteps=500),
        BuildRecipe(steps=501),
        r"steps is 501; expected 1 to 500; change steps in the recipe$",
    ),
    "immense guidance": (
        lambda folder: None,
        BuildRecipe(guidance=1e30),
        r"guidance is 1e\+30; expected 0 to 1000; change guidance in the recipe$",
    ),
    "a sampler for another model": (
        lambda folder: None,
        BuildRecipe(sampler="flow_euler"),
        "flow_euler.*; change sampler in the recipe$",
    ),
    "an added token that the text encoder lacks": (
        lambda folder: edit(folder / "tokenizer/tokenizer_config.json", pad_token="<cat>"),
        BuildRecipe(),
        "tokens up to 544 .'<cat>'., but the text encoder's vocab_size is 544",
    ),
    "a sample_size of 300": (
        lambda folder: edit(folder / "unet/config.json", sample_size=300),
        BuildRecipe(),
        r"image\.width is 600; expected 2 to 512; change the checkpoint, or set width in a recipe$",
    ),
    "prompts of its own that are too few": (
        write("prompts.txt", "a cat\na dog\n"),
        BuildRecipe(budget="psnr=35", lossy=("int8",)),
        "prompts.txt has 2 of the 16 different prompts that calibrating and measuring need, half of them for each",
    ),
    "layers beyond bounds": (
        lambda folder: edit(folder / "unet/config.json", layers_per_block=10**9),
        BuildRecipe(),
        "layers_per_block = 1000000000, .* from 1 to 32",
    ),
}


@pytest.mark.parametrize(("damage", "recipe", "message"), EARLY.values(), ids=EARLY)
def test_a_build_is_refused_before_its_first_export(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, recipe: BuildRecipe, message: str
) -> None:
    source = Path(shutil.copytree(tiny, tmp_path / "source"))
    damage(source)
    monkeypatch.setattr(builds, "_export", lambda *_: pytest.fail("an export has begun"))
    with pytest.raises(LdmError, match=message):
        builds.build_package(source, tmp_path / "out", recipe=recipe)
    assert not (tmp_path / "out").exists()


def test_prompts_without_a_budget_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(LdmError, match="the prompts .* are for a budget; add --budget, such as psnr=35"):
        builds.build_package(tiny, tmp_path / "out", recipe=BuildRecipe(), prompts=tmp_path / "prompts.txt")


def test_a_budget_whose_method_needs_another_cpu_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "bf16 needs a CPU with AVX512-BF16"
    monkeypatch.setitem(LOSSY, "bf16", replace(LOSSY["bf16"], missing=lambda: reason))
    with pytest.raises(EngineUnavailable, match=f"bf16 cannot be measured here: {reason}"):
        builds.build_package(tiny, tmp_path / "out", recipe=BuildRecipe(budget="psnr=35", lossy=("bf16",)))


def test_a_sound_build_reaches_its_first_export(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ExportBegun(Exception):
        pass

    def begin(*_: object) -> None:
        raise ExportBegun

    monkeypatch.setattr(builds, "_export", begin)
    with pytest.raises(ExportBegun):
        builds.build_package(tiny, tmp_path / "out", recipe=BuildRecipe())


LARGEST = {"F16": 65504.0, "F32": np.finfo(np.float32).max, "F64": float(np.finfo(np.float32).max)}


@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_one_value_among_a_million_is_found_in_every_precision(tmp_path: Path, dtype: str, bad: float | None) -> None:
    values = np.full(1_200_001, LARGEST.get(dtype, 3e38), np.float64)
    values[1::2] *= -1
    values[-1] = 0.0 if bad is None else bad
    if dtype == "BF16":
        array = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    else:
        array = values.astype(safetensors.DTYPES[dtype])
    path = tmp_path / "t.safetensors"
    safetensors.write(path, {"a": array[:3], "b": array})
    header = safetensors.read_header(path).tensors
    stored = {name: StoredTensor(path, path, name, dtype, info.shape, info.offset) for name, info in header.items()}
    if bad is None:
        require_finite(stored, "unet")
        return
    with pytest.raises(CheckpointError, match=f"t.safetensors holds {bad:g} in 'b', a weight of the unet"):
        require_finite(stored, "unet")


def test_a_float64_beyond_float32_is_found(tmp_path: Path) -> None:
    info = safetensors.write(tmp_path / "t", {"a": np.array([1.0, 1e300])}).tensors["a"]
    with pytest.raises(CheckpointError, match=r"holds 1e\+300 in 'a'"):
        require_finite({"a": StoredTensor(tmp_path / "t", tmp_path / "t", "a", "F64", (2,), info.offset)}, "vae")
