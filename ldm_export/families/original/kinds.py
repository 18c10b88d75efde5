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
# Latents and images of 512, 768 and 1,024 pixels.
_512, _768, _1024 = ({"unet": side, "vae": 8 * side} for side in (64, 96, 128))

SD1 = OriginalLayout(
    name="Stable Diffusion 1.x",
    parts={
        "text_encoder": clip("cond_stage_model.transformer."),
        "unet": unet(),
        "vae": vae(scaling_factor=0.18215),
    },
    schedulers={"epsilon": _PNDM, "v_prediction": {**_DDIM, **_OF_VELOCITY}},
    sizes={"epsilon": _512, "v_prediction": _512},
    pads={"tokenizer": EOS},
    prediction="epsilon",
)
SD2 = OriginalLayout(
    name="Stable Diffusion 2.x",
    parts={
        "text_encoder": open_clip("cond_stage_model.model.", projects=False),
        "unet": unet(),
        "vae": vae(scaling_factor=0.18215),
    },
    schedulers={"epsilon": _PNDM, "v_prediction": {**_DDIM, **_OF_VELOCITY}},
    sizes={"epsilon": _512, "v_prediction": _768},
    pads={"tokenizer": EXCLAMATION},
    prediction=None,
)
SDXL = OriginalLayout(
    name="SDXL",
    parts={
        "text_encoder": clip("conditioner.embedders.0.transformer."),
        "text_encoder_2": open_clip("conditioner.embedders.1.model.", projects=True),
        "unet": unet(),
        "vae": vae(scaling_factor=0.13025),
    },
    schedulers={"epsilon": _EULER, "v_prediction": {**_EULER, **_OF_VELOCITY}},
    sizes={"epsilon": _1024, "v_prediction": _1024},
    pads={"tokenizer": EOS, "tokenizer_2": EXCLAMATION},
    prediction="epsilon",
)
