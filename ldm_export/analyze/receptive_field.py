"""Which pixels a latent cell depends on, and which it acts on, by gradients (Luo et al. 2016, arXiv 1701.04128).

An energy is a sum of squared derivatives over the channels at both ends. Small noise in the inputs comes out with a
variance in proportion to it.
"""

from collections.abc import Callable

import numpy as np

Place = tuple[int, int]  # row and column


def energy_map(
    product: Callable[[np.ndarray], np.ndarray], place: Place, start: tuple[int, int, int], end: tuple[int, int, int]
) -> np.ndarray:
    """Return the energy between one place of `start` (C, H, W) and every place of `end` (C, H, W): (H, W).

    product: of the Jacobian (from the place's changes to the outputs) or its transpose (from the inputs to the place)
    with a flat vector of `start`.
    """
    total = np.zeros(end[1:])
    for channel in range(start[0]):
        unit = np.zeros(start)
        unit[(channel, *place)] = 1
        total += np.square(product(unit.reshape(-1)).reshape(end)).sum(axis=0)
    return total


def share_within(energy: np.ndarray, cell: Place, side: int, reach: int) -> float:
    """Return the share of an energy (H, W) in the square of a cell, side x side, and `reach` cells around it."""
    return float(energy[square(cell, side, reach)].sum() / energy.sum())


def square(cell: Place, side: int, reach: int = 0) -> tuple[slice, slice]:
    """Return where the square of a cell, and of `reach` cells around it, lies in an image of `side` pixels a cell."""
    row, column = (slice(max(0, (at - reach) * side), (at + reach + 1) * side) for at in cell)
    return row, column


def window(energy: np.ndarray, cell: Place, side: int, reach: int) -> np.ndarray:
    """Return the energy around a cell, with `reach` cells on each side; zeros outside of the image."""
    margin = reach * side
    padded = np.pad(energy, margin)
    return padded[square((cell[0] + reach, cell[1] + reach), side, reach)]
