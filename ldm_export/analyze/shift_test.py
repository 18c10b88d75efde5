"""How far an autoencoder follows a shift of its image, by each number of pixels up to a whole cell.

Shifts are windows of one image, a cell smaller than it, so no edge is invented. What lies within a cell of a window's
border is not compared: padding changes it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldm_export.analyze.subject import Codec

BATCH = 8  # windows

Code = Callable[[Tensor], tuple[Tensor, Tensor]]  # windows (B, 3, H, W) -> their latents and reconstructions


@dataclass(frozen=True)
class ShiftTest:
    """Mean squares for offsets 0 … f along a row and along a column, together; (f + 1,) each.

    still: latents against those at offset 0, cell by cell. moved: the same, with the grid of offset 0 moved alike, by
    linear interpolation between two cells. decoded: the reconstructions, moved back, against that at offset 0.
    error: the reconstructions against their windows.
    """

    still: np.ndarray
    moved: np.ndarray
    decoded: np.ndarray
    error: np.ndarray


FEWEST_CELLS = 5  # along each side: a window has one less, and a border of one


def shift_test(codec: Codec, image: np.ndarray) -> ShiftTest:
    """Encode and decode the windows of an image, (3, H, W) in [-1, 1]."""

    def upright(windows: Tensor) -> tuple[Tensor, Tensor]:
        mean, _ = codec.encode(windows)
        return mean, codec.decode(mean)

    def transposed(windows: Tensor) -> tuple[Tensor, Tensor]:
        """See windows of a transposed image as they stand in the image: a network knows rows from columns."""
        latents, images = upright(windows.mT.contiguous())
        return latents.mT, images.mT

    pairs = ((upright, image), (transposed, image.transpose(0, 2, 1)))
    along = [_along_row(code, each, codec.downsample) for code, each in pairs]
    return ShiftTest(*(np.mean(parts, axis=0) for parts in zip(*along, strict=True)))


def _along_row(code: Code, image: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    height, width = image.shape[1] - side, image.shape[2] - side
    windows = np.stack([image[:, :height, offset : offset + width] for offset in range(side + 1)])
    latents, images = _coded(code, np.ascontiguousarray(windows, np.float32), side)
    rows = []
    for offset in range(side + 1):
        part = offset / side
        moved = (1 - part) * latents[0][..., 1:-2] + part * latents[0][..., 2:-1]
        here = latents[offset][..., 1:-2]
        back = images[offset][..., side : width - side - offset]
        rows.append(
            (
                _square(latents[offset][..., 1:-1] - latents[0][..., 1:-1]),
                _square(here - moved),
                _square(back - images[0][..., side + offset : width - side]),
                _square(images[offset][..., side:-side] - windows[offset][:, side:-side, side:-side]),
            )
        )
    return tuple(np.array(rows).T)


def _coded(code: Code, windows: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return latents and reconstructions of the windows, without the rows at their borders."""
    with torch.no_grad():
        parts = [code(torch.from_numpy(windows[start : start + BATCH])) for start in range(0, len(windows), BATCH)]
    latents, images = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    return latents[:, :, 1:-1], images[:, :, side:-side]


def _square(values: np.ndarray) -> float:
    return float(np.mean(np.square(values, dtype=np.float64)))
