"""The sizes that a run tells a model which reads them, and their checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldm_runtime.checks import check_integer
from ldm_runtime.errors import InputError
from ldm_runtime.package.manifest import Contract
from ldm_runtime.request_values import check_pair

MOST = 2**20  # pixels of a side


@dataclass(frozen=True)
class ImageSizes:
    """What the rule "image_sizes" says of an image, in pixels.

    It was cut from an original of size `original` at `crop_top_left` to `target`. Sizes are (width, height).
    """

    original: tuple[int, int]
    crop_top_left: tuple[int, int]
    target: tuple[int, int]

    def metadata(self, own: tuple[int, int]) -> dict[str, str]:
        """Describe what is not the default of an image of size `own`."""
        width, height = self.original
        facts = {"original size": f"{width}x{height}"} if self.original != own else {}
        if self.crop_top_left != (0, 0):
            facts["crop top left"] = "{}:{}".format(*self.crop_top_left)
        width, height = self.target
        return facts | ({"target size": f"{width}x{height}"} if self.target != own else {})

    def row(self) -> np.ndarray:
        """Return the numbers, float32 (6,), in the order of diffusers' `_get_add_time_ids`: heights come first."""
        return np.array([*self.original[::-1], *self.crop_top_left, *self.target[::-1]], np.float32)


def read_sizes(contract: Contract, options: Mapping[str, Any], own: tuple[int, int]) -> ImageSizes:
    """Return what the options of a run say; `own`: (width, height) of its images, the default of sizes.

    Raises InputError for a value that is no size, and for any where the model reads none.
    """
    for name in ("original_size", "crop_top_left", "target_size"):
        if options.get(name) is not None and not contract.reads_sizes:
            raise InputError(f"{name} was given, but this model does not read it; leave it out", code="request.size")
    return ImageSizes(
        original=_pair("original_size", options, ("width", "height"), 1, own),
        crop_top_left=_pair("crop_top_left", options, ("top", "left"), 0, (0, 0)),
        target=_pair("target_size", options, ("width", "height"), 1, own),
    )


def _pair(
    name: str, options: Mapping[str, Any], sides: tuple[str, str], low: int, default: tuple[int, int]
) -> tuple[int, int]:
    if options.get(name) is None:
        return default
    first, second = check_pair(name, options[name], f"({', '.join(sides)}) in pixels")
    return (
        check_integer(f"the {sides[0]} of {name}", first, low, MOST, "request.size"),
        check_integer(f"the {sides[1]} of {name}", second, low, MOST, "request.size"),
    )
