"""What published models of SDXL's kind differ in: schedules, cut and inpainting UNets. Torch in place of engines."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.replaced import with_parts
from tests.families.sdxl_oracle import LONG, SIZE, compare, levels, opened
from tests.models.test_sdxl import VARIATIONS
from tests.oracles import build_tiny_sd, randomise
from tests.torch_pipeline import torch_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}

# scheduler_config.json as it is published, the steps and the guidance of the model's card.
SCHEDULES: dict[str, tuple[dict[str, Any], int, float]] = {
    "SDXL-Turbo": (
        {
            "_class_name": "EulerAncestralDiscreteScheduler",
            **BETAS,
            "clip_sample": False,
            "interpolation_type": "linear",
            "prediction_type": "epsilon",
            "sample_max_value": 1.0,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "timestep_spacing": "trailing",
            "trained_betas": None,
            "use_karras_sigmas": False,
        },
        2,
        0.0,
    ),
    "SDXL-Lightning": (
        {"_class_name": "EulerDiscreteScheduler", **BETAS, "steps_offset": 1, "timestep_spacing": "trailing"},
        4,
        0.0,
    ),
    "v-prediction, zero terminal SNR": (
        {
            "_class_name": "EulerDiscreteScheduler",
            **BETAS,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "steps_offset": 1,
            "timestep_spacing": "trailing",
        },
        5,
        4.0,
    ),
    "the same by DDIM": (
        {
            "_class_name": "DDIMScheduler",
            **BETAS,
            "clip_sample": False,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "set_alpha_to_one": False,
            "timestep_spacing": "trailing",
        },
        5,
        4.0,
    ),
    # Their constructors patch neither: an absent offset is 0, an absent clip is on.
    "nothing is patched in DDIM": ({"_class_name": "DDIMScheduler", **BETAS, "set_alpha_to_one": False}, 5, 5.0),
    "nothing is patched in Euler": (
        {"_class_name": "EulerDiscreteScheduler", **BETAS, "timestep_spacing": "leading"},
        5,
        5.0,
    ),
    "nothing is patched in PNDM": (
        {"_class_name": "PNDMScheduler", **BETAS, "skip_prk_steps": True, "set_alpha_to_one": False},
        6,
        5.0,
    ),
    "LCM merged": (
        {"_class_name": "LCMScheduler", **BETAS, "original_inference_steps": 50, "timestep_spacing": "leading"},
        4,
        1.0,
    ),
    "TCD merged": ({"_class_name": "TCDScheduler", **BETAS, "original_inference_steps": 50}, 4, 1.0),
    "Juggernaut's DPM++ 2M Karras": (
        {
            "_class_name": "DPMSolverMultistepScheduler",
            **BETAS,
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "solver_type": "midpoint",
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "use_karras_sigmas": True,
        },
        6,
        5.0,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_run_as_the_pipeline_runs_it(sdxl: Path, tmp_path: Path, name: str) -> None:
    config, steps, guidance = SCHEDULES[name]
    folder = shutil.copytree(sdxl, tmp_path / "source")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    file = folder / "model_index.json"
    file.write_text(file.read_text().replace("EulerDiscreteScheduler", config["_class_name"]))
    theirs = opened(folder)
    (tmp_path / "work").mkdir()
    with torch_pipeline(folder, tmp_path / "work") as pipe:
        for prompt, negative in (("a red apple", None), (LONG, "blue")):
            noise = {"generator": torch.Generator().manual_seed(7)}
            expected = levels(theirs, prompt, negative, steps=steps, guidance_scale=guidance, **noise)
            found = pipe(prompt, negative=negative, steps=steps, guidance=guidance, size=SIZE, seed=7, noise="torch")
            compare(found[0], expected)


@pytest.mark.parametrize("name", ["SSD-1B", "KOALA-700M", "KOALA-1B"])
def test_a_unet_that_was_cut_is_diffusers(tmp_path: Path, name: str) -> None:
    folder = build_tiny_sd(tmp_path / "source", "sdxl", unet=VARIATIONS[name])
    theirs = opened(folder)
    (tmp_path / "work").mkdir()
    with torch_pipeline(folder, tmp_path / "work") as pipe:
        for prompt, negative in (("a red apple", None), (LONG, "blue")):
            expected = levels(theirs, prompt, negative, generator=torch.Generator().manual_seed(7))
            found = pipe(prompt, negative=negative, steps=4, guidance=5.0, size=SIZE, seed=7, noise="torch")[0]
            compare(found, expected)


@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_an_embedded_guidance_scale_is_diffusers(tmp_path: Path, guidance: float) -> None:
    """LCM-SDXL: a UNet with `time_cond_proj_dim` beside the parts of a base."""
    lcm = {"_class_name": "LCMScheduler", **BETAS, "original_inference_steps": 50}
    folder = build_tiny_sd(tmp_path / "source", "sdxl", unet={"time_cond_proj_dim": 32}, scheduler=lcm)
    theirs = opened(folder)
    (tmp_path / "work").mkdir()
    with torch_pipeline(folder, tmp_path / "work") as pipe:
        assert pipe.contract.embeds_guidance
        for prompt in ("a red apple", LONG):
            generator = torch.Generator().manual_seed(7)
            expected = levels(theirs, prompt, None, guidance_scale=guidance, generator=generator)
            found = pipe(prompt, steps=4, guidance=guidance, size=SIZE, seed=7, noise="torch")[0]
            compare(found, expected)


def test_a_tiny_autoencoder_is_diffusers(sdxl: Path, tmp_path: Path) -> None:
    """TAESDXL in place of the autoencoder, from text and from an image."""
    blocks = {"num_encoder_blocks": (1, 2), "num_decoder_blocks": (2, 1)}
    widths = {"encoder_block_out_channels": (16, 16), "decoder_block_out_channels": (16, 16)}
    vae = randomise(diffusers.AutoencoderTiny(**blocks, **widths), 4)
    vae.save_pretrained(tmp_path / "taesdxl")
    checkpoint = with_parts(open_checkpoint(sdxl), {"vae": tmp_path / "taesdxl"})
    random = np.random.default_rng(2)
    image = Image.fromarray(random.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))
    theirs = diffusers.StableDiffusionXLPipeline.from_pretrained(sdxl, vae=vae, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    changing = diffusers.StableDiffusionXLImg2ImgPipeline(**theirs.components, add_watermarker=False)
    changing.set_progress_bar_config(disable=True)
    (tmp_path / "work").mkdir()
    with torch_pipeline(checkpoint, tmp_path / "work") as pipe:
        options: dict[str, Any] = {"steps": 4, "guidance": 5.0, "seed": 7, "noise": "torch"}
        expected = levels(theirs, LONG, None, generator=torch.Generator().manual_seed(7))
        compare(pipe(LONG, size=SIZE, **options)[0], expected)
        settings = {"num_inference_steps": 4, "guidance_scale": 5.0, "strength": 0.5, "output_type": "np"}
        made = changing("a red apple", image=image, generator=torch.Generator().manual_seed(7), **settings).images[0]
        compare(pipe("a red apple", image=image, strength=0.5, **options)[0], np.asarray(255.0 * made, np.float64))


@pytest.mark.parametrize(("strength", "negative"), [(1.0, None), (0.7, "blue")])
def test_an_inpainting_unet_is_diffusers(tmp_path: Path, strength: float, negative: str | None) -> None:
    folder = build_tiny_sd(tmp_path / "source", "sdxl_inpaint")
    theirs = opened(folder, "StableDiffusionXLInpaintPipeline")
    random = np.random.default_rng(2)
    image = Image.fromarray(random.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))
    stroke = np.zeros(SIZE[::-1], np.uint8)
    stroke[8:24, 8:28] = 255
    mask = Image.fromarray(stroke)
    made = theirs(
        "a red apple",
        negative_prompt=negative,
        image=image,
        mask_image=mask,
        width=SIZE[0],
        height=SIZE[1],
        strength=strength,
        num_inference_steps=5,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    )
    (tmp_path / "work").mkdir()
    with torch_pipeline(folder, tmp_path / "work") as pipe:
        assert pipe.contract.inpaints
        options: dict[str, Any] = {"steps": 5, "guidance": 5.0, "seed": 7, "noise": "torch"}
        found = pipe("a red apple", negative=negative, image=image, mask=mask, strength=strength, **options)[0]
    compare(found, np.asarray(255.0 * made.images[0], np.float64))


def test_four_channels_may_be_named_as_an_inpainting_pipeline(sdxl: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sdxl, tmp_path / "source")
    file = folder / "model_index.json"
    file.write_text(file.read_text().replace("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"))
    assert open_checkpoint(folder).family.name == "sdxl"
