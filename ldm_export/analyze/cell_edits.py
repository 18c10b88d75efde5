"""What changes in an image when one cell of its latents is changed."""

from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.receptive_field import Place, square

EDITS = ("zeroed", "replaced", "exchanged")


@dataclass(frozen=True)
class Edit:
    """A change of one cell, or of two that are exchanged. Squares are those of these cells.

    inside, outside: root mean square of the change in the squares and elsewhere, in 8-bit levels; outside is NaN where
    the squares are the whole image. share: of the squared change that lies in the squares. near: the same with one cell
    more around them. Both are NaN where nothing changed.
    """

    inside: float
    outside: float
    share: float
    near: float


def edited(latents: np.ndarray, cell: Place, partner: Place, other: np.ndarray) -> np.ndarray:
    """Return latents (C, h, w) with a cell zeroed, replaced by `other`'s, exchanged with a partner: (3, C, h, w)."""
    changed = np.repeat(latents[None], len(EDITS), axis=0)
    at, there = (slice(None), *cell), (slice(None), *partner)
    changed[0][at] = 0
    changed[1][at] = other[at]
    changed[2][at], changed[2][there] = latents[there], latents[at]
    return changed


def measure_edits(before: np.ndarray, after: np.ndarray, cell: Place, partner: Place, side: int) -> list[Edit]:
    """Compare the images of `edited` latents, (3, 3, H, W), with the image before, (3, H, W)."""
    found = []
    for name, image in zip(EDITS, after, strict=True):
        cells = [cell, partner] if name == "exchanged" else [cell]
        change = np.square(np.asarray(image, np.float64) - before).mean(axis=0)
        masks = [_mask(change.shape, cells, side, reach) for reach in (0, 1)]
        total = float(change.sum())
        inside, near = (float(change[mask].sum()) / total if total != 0 else float("nan") for mask in masks)
        within, elsewhere = (_level(change[each]) for each in (masks[0], ~masks[0]))
        found.append(Edit(within, elsewhere, inside, near))
    return found


def followed(before: np.ndarray, after: np.ndarray, cell: Place, partner: Place, side: int) -> float:
    """Return how far the pixels of two cells change places with them: 1 is all the way, 0 no nearer than before.

    1 - ‖after - goal‖ / ‖before - goal‖ over both squares; the goal is that the pixels have changed places. NaN where
    the squares are the same.
    """
    here, there = (slice(None), *square(cell, side)), (slice(None), *square(partner, side))
    left = np.stack([after[here] - before[there], after[there] - before[here]])
    whole = np.stack([before[here] - before[there]] * 2)
    distance = float(np.linalg.norm(whole))
    return 1 - float(np.linalg.norm(left)) / distance if distance != 0 else float("nan")


def _level(squares: np.ndarray) -> float:
    """Return the root mean square of changes in 8-bit levels; NaN of none."""
    return 127.5 * float(np.sqrt(squares.mean())) if squares.size else float("nan")


def _mask(shape: tuple[int, ...], cells: list[Place], side: int, reach: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for cell in cells:
        mask[square(cell, side, reach)] = True
    return mask
