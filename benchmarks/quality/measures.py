"""The measures themselves, on arrays alone: nearest concepts, diversity, colours, interpolation.

Sources: binomial interval, Wilson 1927; CIELAB and its Delta E, CIE 1976, with sRGB's primaries and white point D65
(IEC 61966-2-1).
"""

import math

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95 % of the standard normal
_XYZ_OF_LINEAR_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def unit(features: np.ndarray) -> np.ndarray:
    """Scale rows (N, D) to length 1, so that a product of two is their cosine; a row of zeros stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def concept_ranks(queries: np.ndarray, gallery: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Count the gallery rows nearer to each query than its nearest right one: 0 means that the nearest is right.

    queries: unit rows (Q, D). gallery: unit rows (G, D). right: bool (Q, G), at least one per row. Returns int (Q,).
    """
    if not right.any(axis=1).all():
        raise ValueError("a query has no right row in the gallery")
    cosine = queries @ gallery.T  # (Q, G)
    best = np.where(right, cosine, -np.inf).max(axis=1, keepdims=True)
    return (cosine > best).sum(axis=1)


def close_pairs(rows: np.ndarray, distance: float) -> int:
    """Count the pairs of unit rows (N, D) whose cosine distance is below `distance`."""
    return int(np.triu(1 - rows @ rows.T < distance, k=1).sum())


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a share of `hits` out of `count`."""
    share, z2 = hits / count, Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def distances_within(groups: np.ndarray) -> np.ndarray:
    """Return the mean cosine distance between the members of each group: unit rows (G, K, D) to (G,)."""
    members = groups.shape[1]
    cosine = groups @ groups.transpose(0, 2, 1)  # (G, K, K)
    upper = np.triu_indices(members, k=1)
    return (1 - cosine[:, upper[0], upper[1]]).mean(axis=1)


def distance_between(groups: np.ndarray, kinds: np.ndarray) -> float | None:
    """Return the mean cosine distance between members of different groups of one kind: unit rows (G, K, D), kinds (G,).

    None if no two groups share a kind.
    """
    count, members, width = groups.shape
    rows, owner, kind = groups.reshape(-1, width), np.repeat(np.arange(count), members), np.repeat(kinds, members)
    compared = (owner[:, None] != owner) & (kind[:, None] == kind)
    return float((1 - rows @ rows.T)[compared].mean()) if compared.any() else None


def border_colours(images: np.ndarray, width: int) -> np.ndarray:
    """Return the median colour of each image's border of `width` pixels: uint8 (N, H, W, 3) to float64 (N, 3)."""
    ring = np.ones(images.shape[1:3], dtype=bool)
    ring[width:-width, width:-width] = False
    return np.median(images[:, ring], axis=1)


def lab_of_rgb(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB colours in 0…255 (…, 3) to CIELAB."""
    encoded = np.asarray(rgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_XYZ_OF_LINEAR_RGB / _XYZ_OF_LINEAR_RGB.sum(axis=1, keepdims=True)).T
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_differences(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Compute Delta E (CIE 1976) of sRGB colours (N, 3) from each colour of a palette (P, 3): (N, P)."""
    return np.linalg.norm(lab_of_rgb(colours)[:, None] - lab_of_rgb(palette), axis=2)
