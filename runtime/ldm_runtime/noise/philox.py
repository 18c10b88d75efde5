"""The `philox` noise: the same seed gives the same bits on every machine and in every language.

Sources: Philox4x32-10, Salmon et al., SC'11; AS 241, Wichura, Applied Statistics 37 (1988). The definition,
for a second implementation to follow to the bit (IEEE float64, no fused multiply-add, nothing of libm):

1. Element e (C order inside ONE image's (C, H, W) latent) is lane e mod 4 of Philox4x32-10 with
   counter = (e // 4, 0, stream, 0) and key = (seed mod 2^32, seed div 2^32).
2. u = (x + 0.5) * 2^-32 in float64, x the lane's 32-bit word.
3. AS 241's PPND16: q = u - 0.5.
   |q| <= 0.425:  r = 0.180625 - q*q,  z = q * A(r) / B(r)   (multiply, then divide).
   else:  r = sqrt(-ln(p)), p = u if q < 0 else 1 - u;
   r <= 5:  z = C(r - 1.6) / D(r - 1.6);  else  z = E(r - 5) / F(r - 5);  z = -z if q < 0.
   Polynomials by Horner from the highest term.
4. ln: frexp with m in [sqrt(1/2), sqrt(2)); f = (m - 1)/(m + 1); s = f*f; a = 1/23; then a = a*s + 1/k for
   k = 21, 19, ... 1; ln = (2*f)*a + e*ln2.
5. z is rounded once to float32.

Streams: 0 = initial noise, 1 + k = noise of plan row k, 0x80000000 and above are reserved (VAE sample, ...).
Image b of a batch uses seed + b mod 2^64, so a batch equals its singles.
"""

import math

import numpy as np

from ldm_runtime.checks import check_integer
from ldm_runtime.errors import InputError

INITIAL_STREAM = 0
RESERVED_STREAMS = 0x80000000  # the first stream that no plan row may use

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HIGH_SHIFT = np.uint64(32)

# AS 241, routine PPND16: coefficients from the constant term up.
# fmt: off
_A = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)
_B = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)
_C = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)
_D = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2,
    5.47593808499534494600e-4, 1.05075007164441684324e-9,
)
_E = (
    6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
    2.65321895265761230930e-2, 1.24266094738807843860e-3,
    2.71155556874348757815e-5, 2.01033439929228813265e-7,
)
_F = (
    1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
    7.86869131145613259100e-4, 1.84631831751005468180e-5,
    1.42151175831644588870e-7, 2.04426310338993978564e-15,
)
# fmt: on

_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476


def philox4x32(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Apply Philox4x32-10: uint32 counters (n, 4) and a key of two 32-bit words -> uint32 words (n, 4)."""
    c0, c1, c2, c3 = counters.astype(np.uint64).T
    k0, k1 = key
    for _ in range(10):
        p0 = c0 * _MULTIPLIER_0  # 32 x 32 -> 64 bits
        p1 = c2 * _MULTIPLIER_1
        c0 = (p1 >> _HIGH_SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (p0 >> _HIGH_SHIFT) ^ c3 ^ np.uint64(k1)
        c1 = p1 & _LOW
        c3 = p0 & _LOW
        k0 = (k0 + _WEYL_0) & 0xFFFFFFFF
        k1 = (k1 + _WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def inverse_normal(u: np.ndarray) -> np.ndarray:
    """Return the quantile of the standard normal at 0 < u < 1: float64 in, float64 out (AS 241, PPND16)."""
    q = u - 0.5
    z = np.empty_like(q)
    central = np.abs(q) <= 0.425
    r = 0.180625 - q[central] * q[central]
    z[central] = q[central] * _polynomial(_A, r) / _polynomial(_B, r)

    q = q[~central]
    p = np.where(q < 0, u[~central], 1.0 - u[~central])
    r = np.sqrt(-_log(p))
    near = r <= 5.0
    tail = np.empty_like(r)
    tail[near] = _polynomial(_C, r[near] - 1.6) / _polynomial(_D, r[near] - 1.6)
    tail[~near] = _polynomial(_E, r[~near] - 5.0) / _polynomial(_F, r[~near] - 5.0)
    z[~central] = np.where(q < 0, -tail, tail)
    return z


def philox_normal(seed: int, stream: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normal noise for one image.

    seed: 0 … 2^64-1. stream: 0 … 2^32-1. shape: of one image, for example (C, H, W).
    Returns float32 of that shape, the same bits on every machine. InputError for anything out of range.
    """
    seed = check_integer("seed", seed, 0, (1 << 64) - 1)
    stream = check_integer("stream", stream, 0, (1 << 32) - 1)
    count = math.prod(shape)
    if any(size < 0 for size in shape) or count > 1 << 34:
        raise InputError(f"shape {tuple(shape)} is not usable for noise: expected 2^34 elements at most")
    counters = np.zeros(((count + 3) // 4, 4), np.uint32)
    counters[:, 0] = np.arange(len(counters))
    counters[:, 2] = stream
    words = philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[:count]
    u = (words.astype(np.float64) + 0.5) * 2.0**-32
    return inverse_normal(u).astype(np.float32).reshape(shape)


def batch_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return the seeds of a batch's images: seed + b mod 2^64. Raises InputError for a seed out of range."""
    first = check_integer("seed", seed, 0, (1 << 64) - 1)
    return tuple((first + image) % (1 << 64) for image in range(count))


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def _log(x: np.ndarray) -> np.ndarray:
    m, e = np.frexp(x)  # m in [1/2, 1)
    small = m < _SQRT_HALF
    m = np.where(small, m * 2.0, m)
    e = np.where(small, e - 1, e).astype(np.float64)
    f = (m - 1.0) / (m + 1.0)
    s = f * f
    a = np.full_like(s, 1.0 / 23.0)
    for k in range(21, 0, -2):
        a = a * s + 1.0 / k
    return (2.0 * f) * a + e * _LN2
