"""How well a coarse map points at an object of which the mask is known."""

import numpy as np
from PIL import Image
from scipy import stats

LEAST_AREA = 0.02  # share of the image that an object and its ground take, to tell them apart
DIGITS = 5  # of a map's largest value, that are not rounding


def is_usable(mask: np.ndarray) -> bool:
    """Tell whether a mask has both an object and a ground."""
    return bool(LEAST_AREA <= mask.mean() <= 1 - LEAST_AREA)


def enlarged(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarge a map (h, w) to (H, W), linearly between the middles of its cells."""
    image = Image.fromarray(np.asarray(grid, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def settled(grid: np.ndarray) -> np.ndarray:
    """Return a map as float64 in which nothing is left of rounding: it does not make an even map uneven."""
    largest = np.abs(grid).max()
    return np.round(np.asarray(grid, np.float64) / largest, DIGITS) if largest > 0 else np.zeros(grid.shape)


def pooled(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mean of an image (H, W) over each cell of a grid (h, w)."""
    reduced = Image.fromarray(np.asarray(image, np.float32)).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(reduced)


def intersection_over_union(grid: np.ndarray, mask: np.ndarray) -> float:
    """Return the overlap of a mask (H, W) with as many pixels, those where a map (h, w) is largest.

    1 is the mask itself. No threshold is to be chosen: the area is given. Pixels that share the last value are taken in
    part, so that an even map overlaps as one by chance does.
    """
    values, area = enlarged(settled(grid), mask.shape), int(mask.sum())
    last = np.partition(values, -area, axis=None)[-area]
    above, tied = values > last, values == last
    both = (above & mask).sum() + (area - above.sum()) * (tied & mask).sum() / tied.sum()
    return float(both / (2 * area - both))


def by_chance(mask: np.ndarray) -> float:
    """Return the same for a map that is even, or that does not know of the mask."""
    area = float(mask.mean())
    return area / (2 - area)


def best_by_grid(mask: np.ndarray, shape: tuple[int, int]) -> float:
    """Return the same for the mask itself, seen through a grid: about what a map of that size could reach."""
    return intersection_over_union(pooled(mask, shape), mask)


def ranking(grid: np.ndarray, mask: np.ndarray) -> float:
    """Return how often a pixel of the object has more of a map (h, w) than one of the ground has: 0.5 is chance."""
    values = enlarged(settled(grid), mask.shape).ravel()
    ranks, inside = stats.rankdata(values), int(mask.sum())
    outside = mask.size - inside
    return float((ranks[mask.ravel()].sum() - inside * (inside + 1) / 2) / (inside * outside))


def share_inside(grid: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a map (h, w) that lies in the mask (H, W); NaN for a map of nothing.

    That of an even map is the mask's area.
    """
    total = grid.sum()
    return float((grid * pooled(mask, grid.shape)).sum() / total) if total > 0 else float("nan")


def agreement(fine: np.ndarray, coarse: np.ndarray) -> float:
    """Correlate two maps of one thing, on the coarser grid; NaN where one of them is even."""
    one, other = settled(pooled(fine, coarse.shape)).ravel(), settled(coarse).ravel()
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
