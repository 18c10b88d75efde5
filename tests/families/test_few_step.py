"""A distilled UNet beside a base draws what diffusers' pipeline draws when it is called as the model card says."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.replaced import with_parts
from ldm_export.package.choices import FEW_STEP
from ldm_export.package.few_step import as_few_step
from tests.families.sdxl_oracle import LONG, SIZE, compare, levels, opened
from tests.oracles import randomise
from tests.torch_pipeline import torch_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

# Of each kind: the scheduler that its card makes of the base's, with which changes, and how the pipeline is called.
Card = tuple[str, dict[str, Any], dict[str, Any]]
TRAILING = {"timestep_spacing": "trailing"}
CARDS: dict[str, Card] = {
    "turbo": ("EulerAncestralDiscreteScheduler", TRAILING, {"steps": 1}),
    "lightning": ("EulerDiscreteScheduler", TRAILING, {"steps": 4}),
    "lightning-1step": ("EulerDiscreteScheduler", {**TRAILING, "prediction_type": "sample"}, {"steps": 1}),
    "hyper": ("DDIMScheduler", TRAILING, {"steps": 4}),
    "hyper-1step": ("LCMScheduler", {}, {"steps": 1, "timesteps": [800]}),
    "lcm": ("LCMScheduler", {}, {"steps": 4}),
    "tcd": ("TCDScheduler", {}, {"steps": 4, "eta": 0.3}),
    "dmd2": ("LCMScheduler", {}, {"steps": 4, "timesteps": [999, 749, 499, 249]}),
    "dmd2-1step": ("LCMScheduler", {}, {"steps": 1, "timesteps": [399]}),
}


@pytest.fixture(scope="module")
def distilled(sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names of diffusers and no config, as such UNets are published."""
    unet = randomise(diffusers.UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet"), 11)
    file = tmp_path_factory.mktemp("distilled") / "unet.safetensors"
    save_file(unet.state_dict(), file)
    return file


def test_every_kind_has_a_card() -> None:
    assert CARDS.keys() == FEW_STEP.keys()


@pytest.mark.parametrize("kind", CARDS)
def test_the_defaults_of_a_kind_draw_what_its_card_draws(
    sdxl: Path, distilled: Path, tmp_path: Path, kind: str
) -> None:
    scheduler, changes, call = CARDS[kind]
    theirs = opened(sdxl)
    theirs.unet.load_state_dict(load_file(distilled))
    theirs.scheduler = getattr(diffusers, scheduler).from_config(theirs.scheduler.config, **changes)
    checkpoint = as_few_step(with_parts(open_checkpoint(sdxl), {"unet": distilled}), kind)
    with torch_pipeline(checkpoint, tmp_path) as pipe:
        for prompt in ("a red apple", LONG):
            noise = {"generator": torch.Generator().manual_seed(7)}
            expected = levels(theirs, prompt, None, guidance_scale=0.0, **call, **noise)
            compare(pipe(prompt, size=SIZE, seed=7, noise="torch")[0], expected)
        if kind == "tcd":
            with pytest.raises(AssertionError):  # another eta is noticed
                compare(pipe(LONG, sampler="tcd", size=SIZE, seed=7, noise="torch")[0], expected)
