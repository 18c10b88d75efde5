"""A single-file checkpoint draws what diffusers' pipeline draws with the models that the file was written from.

Torch stands in for engines. The schedulers are those that the models were published with.
"""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from ldm_export.checkpoint.clip_vocabulary import ClipVocabulary
from ldm_export.checkpoint.open import open_checkpoint
from tests.checkpoint.original_files import PIPELINES, write_files
from tests.families.sdxl_oracle import LONG, compare, levels
from tests.once import make_once
from tests.oracles import SCHEDULER
from tests.torch_pipeline import torch_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")]

SIZE, STEPS, SEED, GUIDANCE = (96, 64), 3, 5, 4.0
PADS = {"sd2": {"tokenizer": "!"}, "sdxl": {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"}}
SCHEDULERS = {"sd2": SCHEDULER["sd21"], "sdxl": SCHEDULER["sdxl"]}


def theirs(kind: str, folder: Path, work: Path) -> Any:
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        "vae": diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        "text_encoder": transformers.CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
    }
    if kind == "sdxl":
        second = transformers.CLIPTextModelWithProjection
        parts["text_encoder_2"] = second.from_pretrained(folder / "text_encoder_2", dtype=torch.float32)
        parts["add_watermarker"] = False
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    for name, pad in PADS[kind].items():
        (work / name).mkdir(parents=True)
        ClipVocabulary(pad).write(work / name)
        parts[name] = transformers.CLIPTokenizer.from_pretrained(work / name)
    config = SCHEDULERS[kind]
    parts["scheduler"] = getattr(diffusers, config["_class_name"]).from_config(config)
    pipe = getattr(diffusers, PIPELINES[kind])(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_a_single_file_draws_what_diffusers_draws(
    kind: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    files = make_once(tmp_path_factory, "single-files", write_files)
    oracle = theirs(kind, files[kind].parent / kind, tmp_path / "theirs")
    predicts: Any = "v_prediction" if kind == "sd2" else None
    (tmp_path / "ours").mkdir()
    with torch_pipeline(open_checkpoint(files[kind], prediction=predicts), tmp_path / "ours") as pipe:
        for prompt in ("a photo of a cat!", LONG):
            generator = torch.Generator().manual_seed(SEED)
            options = {"generator": generator, "guidance_scale": GUIDANCE, "size": SIZE, "steps": STEPS}
            expected = levels(oracle, prompt, None, **options)
            found = pipe(prompt, seed=SEED, noise="torch", guidance=GUIDANCE, size=SIZE, steps=STEPS)[0]
            compare(found, expected)
