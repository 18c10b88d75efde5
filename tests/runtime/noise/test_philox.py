"""philox noise: published vectors, fixed bits, the normal distribution, streams and batches."""

import hashlib
import math
import statistics
import time

import numpy as np
import pytest

from ldm_runtime.errors import InputError
from ldm_runtime.noise.philox import (
    RESERVED_STREAMS,
    batch_seeds,
    inverse_normal,
    philox4x32,
    philox_normal,
)
from tests.runtime.noise.philox import initial_noise, row_noise

SHAPE = (4, 8, 8)

# Random123's kat_vectors for philox4x32, 10 rounds: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(counter: str, key: str, result: str) -> None:
    def words(text: str) -> list[int]:
        return [int(word, 16) for word in text.split()]

    k0, k1 = words(key)
    counters = np.array([words(counter)] * 3, np.uint32)
    np.testing.assert_array_equal(philox4x32(counters, (k0, k1)), [words(result)] * 3)


@pytest.mark.parametrize(
    ("seed", "first", "digest"),
    [
        (
            0,
            (-0.25581598, 1.1775912, 0.63018364, 0.26756224),
            "a1c01fe7565a54177ecbdb511ca6d4e469ce4046e752c3b37344389add79e827",
        ),
        (
            42,
            (0.2870419, -0.07882347, -1.4521371, -0.41011295),
            "7d65583de57b636d8fb0dbfab0aed7aa8c35898d9aba2ecd86c79f6f98ae50a3",
        ),
    ],
)
def test_the_bits_of_a_seed_are_fixed(seed: int, first: tuple[float, ...], digest: str) -> None:
    noise = philox_normal(seed, 0, (4, 64, 64))
    assert noise.dtype == np.float32 and noise.shape == (4, 64, 64)
    np.testing.assert_array_equal(noise.reshape(-1)[:4], np.array(first, np.float32))
    assert hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest() == digest


def reference_normal(seed: int, stream: int, element: int) -> float:
    """The definition in `rng`'s docstring, one element at a time in plain Python integers."""
    c = [element // 4, 0, stream, 0]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return statistics.NormalDist().inv_cdf((c[element % 4] + 0.5) * 2.0**-32)


@pytest.mark.parametrize("seed", (1, 0xFFFFFFFF, 1 << 32, 0x0123456789ABCDEF, (1 << 64) - 1))
@pytest.mark.parametrize("stream", (0, 1, 77, RESERVED_STREAMS, 0xFFFFFFFF))
def test_any_seed_and_stream_follow_the_definition(seed: int, stream: int) -> None:
    expected = [reference_normal(seed, stream, element) for element in range(33)]
    np.testing.assert_allclose(philox_normal(seed, stream, (33,)), expected, rtol=1e-7, atol=0)


def test_the_quantile_is_accurate_to_sixteen_digits_in_the_middle_and_both_tails() -> None:
    smallest = 0.5 * 2.0**-32
    u = np.concatenate([np.linspace(0.0005, 0.9995, 4001), np.geomspace(smallest, 0.1, 500)])
    u = np.concatenate([u, 1.0 - u[4001:], [0.5, 0.075, 0.925, math.exp(-25.0), math.nextafter(0.075, 0)]])
    expected = np.array([statistics.NormalDist().inv_cdf(float(p)) for p in u])
    np.testing.assert_allclose(inverse_normal(u), expected, rtol=1e-14, atol=1e-16)
    # and independently of AS 241: the distribution function takes it back
    back = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in inverse_normal(u)])
    np.testing.assert_allclose(back, u, rtol=1e-13)


def test_no_word_gives_infinity() -> None:
    extremes = (np.array([0, 0xFFFFFFFF], np.float64) + 0.5) * 2.0**-32
    z = inverse_normal(extremes)
    assert np.isfinite(z).all() and z[0] == -z[1] and 6.2 < z[1] < 6.4


def test_noise_is_standard_normal() -> None:
    noise = philox_normal(7, 0, (400_000,)).astype(np.float64)
    error = 1.0 / math.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error
    assert abs(noise.var() - 1.0) < 4 * math.sqrt(2) * error
    assert abs((noise**4).mean() - 3.0) < 4 * math.sqrt(96) * error
    assert abs((noise[1:] * noise[:-1]).mean()) < 4 * error


def test_streams_and_seeds_are_uncorrelated() -> None:
    noise = [philox_normal(seed, stream, (50_000,)) for seed in (0, 1, 1 << 32) for stream in (0, 1, 2)]
    correlation = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlation).max() < 5 / math.sqrt(50_000)


def test_the_shape_only_folds_the_sequence() -> None:
    flat = philox_normal(3, 5, (257,))
    np.testing.assert_array_equal(philox_normal(3, 5, (1, 16, 16)).reshape(-1), flat[:256])
    np.testing.assert_array_equal(philox_normal(3, 5, (3,)), flat[:3])
    assert philox_normal(3, 5, (0, 8)).shape == (0, 8)


@pytest.mark.parametrize("seed", (0, 5, (1 << 64) - 2))
def test_a_batch_equals_its_singles(seed: int) -> None:
    batch = initial_noise(seed, 3, SHAPE)
    rows = row_noise(seed, 3, 9, SHAPE)
    assert batch.shape == rows.shape == (3, *SHAPE)
    for image in range(3):
        single = (seed + image) % (1 << 64)
        np.testing.assert_array_equal(batch[image], initial_noise(single, 1, SHAPE)[0])
        np.testing.assert_array_equal(batch[image], philox_normal(single, 0, SHAPE))
        np.testing.assert_array_equal(rows[image], philox_normal(single, 10, SHAPE))


def test_every_row_has_its_own_noise() -> None:
    noise = [initial_noise(1, 1, SHAPE), *(row_noise(1, 1, row, SHAPE) for row in range(5))]
    assert len({array.tobytes() for array in noise}) == 6


def test_integers_of_numpy_are_seeds() -> None:
    np.testing.assert_array_equal(philox_normal(np.uint64(42), 0, SHAPE), philox_normal(42, 0, SHAPE))


@pytest.mark.parametrize("seed", (-1, 1 << 64, 1.0, "1", None, True))
def test_an_unusable_seed_is_refused(seed: object) -> None:
    for draw in (lambda: philox_normal(seed, 0, SHAPE), lambda: batch_seeds(seed, 1)):  # type: ignore[arg-type]
        with pytest.raises(InputError, match="seed .* from 0 to 18446744073709551615"):
            draw()


@pytest.mark.parametrize("stream", (-1, 1 << 32))
def test_an_unusable_stream_is_refused(stream: int) -> None:
    with pytest.raises(InputError, match="stream"):
        philox_normal(0, stream, SHAPE)


@pytest.mark.parametrize("shape", ((-1, 4), (1 << 20, 1 << 20)))
def test_an_unusable_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        philox_normal(0, 0, shape)


def test_a_latent_takes_milliseconds() -> None:
    durations = []
    for seed in range(5):
        start = time.perf_counter()
        philox_normal(seed, 0, (4, 64, 64))
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.02
