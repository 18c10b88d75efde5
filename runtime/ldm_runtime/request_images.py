"""The images that a run starts from, and their pixels at the size that is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.notice import Notice
from ldm_runtime.request_values import check_share

if TYPE_CHECKING:
    from PIL import Image

IMAGE_STRENGTH, MASK_STRENGTH = 0.8, 1.0  # what is taken where none is given, as in diffusers
TRANSPARENT_IMAGE = Notice("image", "the image is transparent in parts; they were laid on white")
TRANSPARENT_MASK = Notice("mask", "the mask is transparent in parts; they count as black, so the image is kept there")


@dataclass(frozen=True)
class StartImages:
    """The images to start from, one for all or one for each, and the mask, in mode L, RGB or RGBA.

    strength: the share of the steps that is run.
    """

    images: "list[Image.Image]"
    mask: "Image.Image | None"
    strength: float

    def pixels(self, width: int, height: int, batch: int) -> np.ndarray:
        """Lay the images on white and scale them: float32 (B, 3, height, width) in [-1, 1]."""
        from ldm_runtime.image import pixels_of, scaled
        from ldm_runtime.image_modes import laid_on

        pixels = pixels_of([scaled(laid_on(one, "white"), width, height) for one in self.images])
        return np.broadcast_to(pixels, (batch, *pixels.shape[1:]))

    def inpainted(self, width: int, height: int) -> np.ndarray | None:
        """Return the pixels to inpaint, those at least half white: bool (height, width). Transparent ones are kept."""
        from ldm_runtime.image import scaled
        from ldm_runtime.image_modes import laid_on

        if self.mask is None:
            return None
        grey = scaled(laid_on(self.mask, "black"), width, height).convert("L")
        return np.asarray(np.asarray(grey, dtype=np.float32) / np.float32(255.0) >= 0.5)

    @property
    def notices(self) -> tuple[Notice, ...]:
        notices = [TRANSPARENT_IMAGE] if any(image.mode == "RGBA" for image in self.images) else []
        notices += [TRANSPARENT_MASK] if self.mask is not None and self.mask.mode == "RGBA" else []
        return tuple(notices)


def read_start_images(options: Mapping[str, Any], batch: int) -> StartImages | None:
    """Read the options image, mask and strength; None without an image. Raises InputError."""
    from ldm_runtime.image import listed
    from ldm_runtime.image_modes import settled

    image, mask, strength = (options.get(name) for name in ("image", "mask", "strength"))
    if image is None:
        for name, value in (("mask", mask), ("strength", strength)):
            if value is not None:
                raise InputError(
                    f"{name} was given without an image; give the image that it is for", code="request.image"
                )
        return None
    several = listed(image)
    if len(several) not in (1, batch):
        raise InputError(
            f"image has {len(several)} images for a batch of {batch}; give one, or one for each", code="request.image"
        )
    if strength is None:
        strength = IMAGE_STRENGTH if mask is None else MASK_STRENGTH
    return StartImages(
        [settled(one) for one in several],
        None if mask is None else settled(mask, "the mask"),
        check_share("strength", strength),
    )


def on_grid(inpainted: np.ndarray, step: int) -> np.ndarray:
    """Downsample a mask to the latent grid by its top-left pixels (nearest): float32 (1, 1, h, w)."""
    cells = inpainted[::step, ::step].astype(np.float32)
    if not cells.any():
        raise InputError(
            "the mask is black everywhere, so nothing would be inpainted; paint the part to inpaint white",
            code="request.image",
        )
    return cells[None, None]
