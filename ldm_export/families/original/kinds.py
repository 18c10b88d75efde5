"""The kinds of single-file checkpoints, one table each."""

from typing import Any

from ldm_export.families.original.layout import OriginalLayout
from ldm_export.families.original.text_encoders import clip, open_clip
from ldm_export.families.original.unet import unet
from ldm_export.families.original.vae import vae
from ldm_runtime.text.clip_tokenizer import EOS

EXCLAMATION = "!"

_BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_PNDM = {**_BETAS, "_class_name": "PNDMScheduler", "set_alpha_to_one": False, "skip_prk_steps": True}
_DDIM = {**_BETAS, "_class_name": "DDIMScheduler", "set_alpha_to_one": False, "clip_sample": False}
_EULER = {**_BETAS, "_class_name": "EulerDiscreteScheduler"}
_OF_VELOCITY = {"prediction_type": "v_prediction"}

SD1 = OriginalLayout(
    name="Stable Diffusion 1.x",
    parts={
        "text_encoder": clip("cond_stage_model.transformer."),
        "unet": unet(heads=8),
        "vae": vae(scaling_factor=0.18215),
    },
    schedulers={"epsilon": _PNDM, "v_prediction": {**_DDIM, **_OF_VELOCITY}},
    sizes={"epsilon": 64, "v_prediction": 64},
    pads={"tokenizer": EOS},
    prediction="epsilon",
)
SD2 = OriginalLayout(
    name="Stable Diffusion 2.x",
    parts={
        "text_encoder": open_clip("cond_stage_model.model.", projects=False),
        "unet": unet(heads=None),
        "vae": vae(scaling_factor=0.18215),
    },
    schedulers={"epsilon": _PNDM, "v_prediction": {**_DDIM, **_OF_VELOCITY}},
    sizes={"epsilon": 64, "v_prediction": 96},
    pads={"tokenizer": EXCLAMATION},
    prediction=None,
)
SDXL = OriginalLayout(
    name="SDXL",
    parts={
        "text_encoder": clip("conditioner.embedders.0.transformer."),
        "text_encoder_2": open_clip("conditioner.embedders.1.model.", projects=True),
        "unet": unet(heads=None),
        "vae": vae(scaling_factor=0.13025),
    },
    schedulers={"epsilon": _EULER, "v_prediction": {**_EULER, **_OF_VELOCITY}},
    sizes={"epsilon": 128, "v_prediction": 128},
    pads={"tokenizer": EOS, "tokenizer_2": EXCLAMATION},
    prediction="epsilon",
)
