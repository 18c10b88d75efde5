"""What the constructors of diffusers' pipelines change in the configs that they are given, whatever the files say.

Checked against diffusers 0.39, `StableDiffusionPipeline.__init__` and `StableDiffusionInpaintPipeline.__init__`. Their
other changes, of safety checkers and of a scheduler's `_internal_dict`, reach nothing that is exported.
"""

import re
from collections.abc import Mapping
from typing import Any

from ldm_export.checkpoint.scheduler import knows_steps_offset

PIPELINE_CLASS, INPAINT_CLASS = "StableDiffusionPipeline", "StableDiffusionInpaintPipeline"
NATIVE_SIZE = 64  # of the latents of Stable Diffusion 1.x, whose first configs said 32
_CLIPS = ("DDIMScheduler", "DDPMScheduler")  # where the file is silent


def scheduler_as_run(config: Mapping[str, Any], pipeline_class: str) -> dict[str, Any]:
    """scheduler_config.json as the pipeline runs it."""
    name = config.get("_class_name")
    changed = dict(config)
    if "steps_offset" in changed or (isinstance(name, str) and knows_steps_offset(name)):
        changed["steps_offset"] = 1
    if pipeline_class == INPAINT_CLASS:
        if changed.get("skip_prk_steps", name != "PNDMScheduler") is False:
            changed["skip_prk_steps"] = True
    elif changed.get("clip_sample", name in _CLIPS) is True:
        changed["clip_sample"] = False
    return changed


def unet_as_run(config: object) -> object:
    """The UNet's config.json as both pipelines run it: a `sample_size` below 64 from before diffusers 0.9 means 64."""
    if not isinstance(config, dict):
        return config
    size, version = config.get("sample_size"), config.get("_diffusers_version")
    if type(size) is int and 0 < size < NATIVE_SIZE and isinstance(version, str) and _is_before_0_9(version):
        return {**config, "sample_size": NATIVE_SIZE}
    return config


def _is_before_0_9(version: str) -> bool:
    """Of versions such as "0.8.1" or "0.6.0.dev0"; what is no version is not before it."""
    numbers = re.match(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?![\d!])", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2] or 0)) < (0, 9)
