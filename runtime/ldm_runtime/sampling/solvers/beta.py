"""The quantile of a symmetric beta distribution, which "beta" noise levels are spaced by, without SciPy."""

import functools
import math

SMALL = 1e-300
HALVINGS = 1100  # float64 has no number between the ends after that


@functools.lru_cache(maxsize=1024)  # half a millisecond each; a package's defaults are checked, then drawn with
def beta_quantile(share: float, shape: float) -> float:
    """x with I_x(shape, shape) = share, for 0 <= share <= 1 (I: the regularised incomplete beta function)."""
    if share in (0.0, 1.0):
        return share
    if share > 0.5:
        return 1.0 - beta_quantile(1.0 - share, shape)
    low, high = 0.0, 0.5
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _incomplete_beta(middle, shape) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _incomplete_beta(x: float, shape: float) -> float:
    """I_x(shape, shape) for 0 < x <= 1/2 by its continued fraction (DLMF 8.17.22), modified Lentz's method."""
    log_front = math.lgamma(2.0 * shape) - 2.0 * math.lgamma(shape) + shape * (math.log(x) + math.log1p(-x))
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - 2.0 * shape * x / (shape + 1.0))
    fraction = d
    for m in range(1, 500):
        even = m * (shape - m) * x / ((shape + 2 * m - 1.0) * (shape + 2 * m))
        odd = -(shape + m) * (2.0 * shape + m) * x / ((shape + 2 * m) * (shape + 2 * m + 1.0))
        for step in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + step * d)
            c = _away_from_zero(1.0 + step / c)
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return math.exp(log_front) * fraction / shape


def _away_from_zero(value: float) -> float:
    return value if abs(value) > SMALL else SMALL
