"""Which pixels a latent cell depends on, and which it acts on, by gradients (Luo et al. 2016, arXiv 1701.04128).

An energy is a sum of squared derivatives over the channels at both ends. Small noise in the inputs comes out with a
variance in proportion to it.
"""

from collections.abc import Callable

import numpy as np

Place = tuple[int, int]  # row and column
REACH = 3  # cells around a cell that are looked at
SHOWN_PIXELS = 168  # of what is around a cell, about


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


def square(cell: Place, side: int, reach: int = 0) -> tuple[slice, slice]:
    """Return where the square of a cell, and of `reach` cells around it, lies in an image of `side` pixels a cell."""
    row, column = (slice(max(0, (at - reach) * side), (at + reach + 1) * side) for at in cell)
    return row, column


def window(energy: np.ndarray, cell: Place, side: int, reach: int) -> np.ndarray:
    """Return the energy around a cell, with `reach` cells on each side; zeros outside of the image."""
    margin = reach * side
    padded = np.pad(energy, margin)
    return padded[square((cell[0] + reach, cell[1] + reach), side, reach)]


def pick_cells(image: np.ndarray, side: int, count: int, random: np.random.Generator) -> list[Place]:
    """Choose cells with squares that are not plain, away from the border where there are enough. image: (3, H, W)."""
    height, width = image.shape[1] // side, image.shape[2] // side
    margin = min(2, (min(height, width) - 1) // 3)
    contrast = image.reshape(3, height, side, width, side).std(axis=(0, 2, 4))
    places = [(row, column) for row in range(margin, height - margin) for column in range(margin, width - margin)]
    places.sort(key=lambda place: -contrast[place])
    lively = places[: max(count, len(places) // 2)]
    return [lively[each] for each in random.permutation(len(lively))[:count]]


def outlined(image: np.ndarray, cell: Place, side: int) -> np.ndarray:
    """Return an image (3, H, W) in [-1, 1] with a red line around the square of a cell."""
    rows, columns = (slice(max(0, each.start - 1), each.stop + 1) for each in square(cell, side))
    inner = (slice(None), *square(cell, side))
    marked = np.clip(image, -1, 1)
    marked[:, rows, columns] = np.array([1.0, -1.0, -1.0])[:, None, None]
    marked[inner] = np.clip(image, -1, 1)[inner]
    return marked


def enlarged(image: np.ndarray) -> np.ndarray:
    """Return an image (3, H, W) of what is around a cell, large enough to be looked at."""
    scale = max(1, SHOWN_PIXELS // image.shape[1])
    return np.kron(image, np.ones((1, scale, scale)))
