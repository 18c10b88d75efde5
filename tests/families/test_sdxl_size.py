"""SDXL's published sizes: what a package carries to prove itself stays small."""

import math

from ldm_export.configs.sdxl import ProjectingTextEncoderConfig, SDXLUNetConfig
from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.families.sdxl import SDXL
from ldm_export.families.spec import ComponentSpec, Sizes
from ldm_export.verify.reference import PROMPTS
from ldm_export.verify.reference_file import MAX_BYTES
from ldm_export.verify.run_size import LARGE_LARGEST_SIDE
from tests import published_configs


def case_bytes(spec: ComponentSpec, sizes: Sizes) -> int:
    """What one case holds: its inputs, and the outputs that are compared."""
    tensors = [*spec.inputs, *(output for output in spec.outputs if output.name not in spec.unread)]
    return sum(math.prod(spec.shape(each, sizes)) * (8 if each.dtype == "int64" else 4) for each in tensors)


def test_the_reference_of_the_published_model_fits_into_a_package() -> None:
    unet = {**published_configs.UNET["sdxl"], "upcast_attention": False}
    configs = {
        "text_encoder": TextEncoderConfig.from_dict(published_configs.TEXT_ENCODER["sdxl"]),
        "text_encoder_2": ProjectingTextEncoderConfig.from_dict(published_configs.TEXT_ENCODER["sdxl_2"]),
        "unet": SDXLUNetConfig.from_dict(unet),
        "vae": VAEConfig.from_dict(published_configs.VAE["sdxl"]),
    }
    SDXL.check(configs)
    side = {"height": LARGE_LARGEST_SIDE, "width": LARGE_LARGEST_SIDE}
    total = 0
    for spec in SDXL.specs(configs).values():
        is_text = spec.inputs[0].dtype == "int64"
        total += sum(case_bytes(spec, sizes) for sizes in spec.probes) * (1 if is_text else 2)  # and quiet ones
        captured = {"batch": len(PROMPTS), "tokens": 77} if is_text else {"batch": 1, **side}
        if spec.part == "unet":
            captured = {"batch": 6, **side, "context_tokens": 77}  # three steps with guidance
        total += case_bytes(spec, captured)
    assert total < 0.9 * MAX_BYTES
