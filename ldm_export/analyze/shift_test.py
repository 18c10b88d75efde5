"""How far an autoencoder follows a shift of its image, by each number of pixels up to a whole cell.

Shifts are windows of one image, a cell smaller than it, so no edge is invented. What lies within a cell of a window's
border is not compared: padding changes it.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ldm_export.analyze.subject import Codec

BATCH = 8  # windows


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
    along = [_along_row(codec, each) for each in (image, image.transpose(0, 2, 1))]
    return ShiftTest(*(np.mean(parts, axis=0) for parts in zip(*along, strict=True)))


def _along_row(codec: Codec, image: np.ndarray) -> tuple[np.ndarray, ...]:
    side = codec.downsample
    height, width = image.shape[1] - side, image.shape[2] - side
    windows = np.stack([image[:, :height, offset : offset + width] for offset in range(side + 1)])
    latents, images = _coded(codec, np.ascontiguousarray(windows, np.float32))
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


def _coded(codec: Codec, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return latents and reconstructions of the windows, without the rows at their borders."""
    latents, images = [], []
    with torch.no_grad():
        for start in range(0, len(windows), BATCH):
            mean, _ = codec.encode(torch.from_numpy(windows[start : start + BATCH]))
            latents.append(mean)
            images.append(codec.decode(mean))
    side = codec.downsample
    return torch.cat(latents).numpy()[:, :, 1:-1], torch.cat(images).numpy()[:, :, side:-side]


def _square(values: np.ndarray) -> float:
    return float(np.mean(np.square(values, dtype=np.float64)))
