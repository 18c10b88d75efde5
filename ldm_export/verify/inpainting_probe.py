"""The image and the mask with which a sampling run of an inpainting model is compared.

An image that is grey all over would be ill-conditioned: where a norm has one channel per group, its variance is 0, and
the rounding of a sum becomes a hundredth of the output. So one half of the image is kept, and it is noise.
"""

from typing import Any

import numpy as np
from PIL import Image

from ldm_export.verify.reference_file import Reference
from ldm_runtime.errors import PackageError
from ldm_runtime.image import from_levels
from ldm_runtime.package.manifest import Contract
from ldm_runtime.request_images import on_grid

SEED = 7
CAPTURED = "captured at step 1"  # the reference's case of the denoiser with the first inputs of the sampling run


def probe_image(size: tuple[int, int]) -> np.ndarray:
    """Return the image: uint8 (height, width, 3)."""
    width, height = size
    return np.random.default_rng(SEED).integers(0, 256, (height, width, 3), np.uint8)


def probe_mask(size: tuple[int, int], step: int) -> np.ndarray:
    """Return the pixels to inpaint, about the right half and never none: bool (height, width).

    step: pixels of the image per pixel of the latents, of which `size` is a multiple.
    """
    width, height = size
    mask = np.zeros((height, width), bool)
    mask[:, width // step // 2 * step :] = True
    return mask


def probe_channels(size: tuple[int, int], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a run makes of both: the mask (1, 1, h, w), the masked image (1, 3, height, width) in [-1, 1]."""
    mask = probe_mask(size, step)
    pixels = np.where(mask, np.float32(0.0), from_levels(probe_image(size)[None]))
    return on_grid(mask, step), np.ascontiguousarray(pixels, np.float32)


def probe_task(contract: Contract, size: tuple[int, int]) -> dict[str, Any]:
    """Return the options of a run that an inpainting model needs, image and mask of `size`; none for others."""
    if not contract.inpaints:
        return {}
    mask = Image.fromarray(probe_mask(size, contract.latent.downsample))
    return {"image": Image.fromarray(probe_image(size)), "mask": mask.convert("L")}


def require_same_probe(reference: Reference, contract: Contract) -> None:
    """Raise PackageError if an inpainting model's reference was computed with another mask: by an earlier build.

    The inputs that were captured from its sampling run have the mask.
    """
    if not contract.inpaints:
        return
    role = contract.denoiser
    channel = contract.latent.channels  # of the mask, which follows the latents
    captured = [case.inputs[role.sample] for case in reference.cases_of(role.component) if case.name == CAPTURED]
    for sample in captured:  # (B, C, h, w)
        if sample.ndim == 4 and sample.shape[1] > channel:
            mask = probe_mask(sample.shape[:1:-1], 1)
            if (sample[:, channel] != mask).any():
                raise PackageError(
                    "the reference was computed with another image to inpaint than this program uses; build the package"
                    " again",
                    code="proof.invalid",
                )
