"""Noise: torch's without torch, CUDA's without a GPU, and which stream is read when."""

import numpy as np
import pytest
import torch

from ldm_runtime.errors import InputError
from ldm_runtime.noise import VAE_STREAM, Noise, check_noise
from ldm_runtime.noise.cuda import CudaGenerator
from ldm_runtime.noise.torch_cpu import TorchGenerator
from tests.runtime.noise.philox import initial_noise, row_noise

SHAPES = [(4, 8, 8), (4, 64, 64), (4, 9, 9), (1, 3, 5), (17,), (31,), (16,), (3,), (1,), (5,), (2, 2), (4, 7, 13)]


@pytest.mark.parametrize("seed", (0, 42, 2**32 - 1, 2**33 + 5, 2**64 - 1))
def test_torch_noise_is_that_of_torch_draw_after_draw(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours = TorchGenerator(seed)
    for shape in SHAPES:
        expected = torch.randn(shape, generator=generator).numpy()
        drawn = ours.normal(shape)
        assert drawn.dtype == np.float32
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-6)


def test_another_seed_or_order_of_torch_is_noticed() -> None:
    expected = torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(1)).numpy()
    assert np.abs(TorchGenerator(2).normal((4, 8, 8)) - expected).max() > 1
    generator = TorchGenerator(1)
    generator.normal((3,))
    assert np.abs(generator.normal((4, 8, 8)) - expected).max() > 1


def test_cuda_noise_starts_as_published() -> None:
    """torch.randn(…, generator=torch.Generator("cuda").manual_seed(0), device="cuda")"""
    drawn = CudaGenerator(0).normal((4, 8, 8)).reshape(-1)
    np.testing.assert_allclose(drawn[:4], [-0.92466, -0.42534, -2.64385, 0.14518], atol=1e-5)


def test_cuda_noise_is_normal_and_new_at_every_draw() -> None:
    generator = CudaGenerator(3)
    first, second = generator.normal((4, 64, 64)), generator.normal((4, 64, 64))
    for drawn in (first, second):
        assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.02
    assert abs(np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1]) < 0.03


def test_cuda_noise_of_many_numbers_depends_on_the_gpu_and_says_so() -> None:
    with pytest.raises(InputError, match=r"16896 numbers for one image depends on the GPU; give .* 'cuda:270336'"):
        CudaGenerator(0).normal((4, 64, 66))
    large = CudaGenerator(0, 270_336).normal((4, 64, 66)).reshape(-1)
    np.testing.assert_array_equal(large[:16384], CudaGenerator(0).normal((4, 64, 64)).reshape(-1))
    small = CudaGenerator(0, 8192).normal((4, 64, 66)).reshape(-1)
    np.testing.assert_array_equal(small[:8192], large[:8192])
    assert np.abs(small[8192:] - large[8192:]).max() > 1
    # a thread draws four numbers at once: its second is sqrt(-2 ln u) cos where its first is sin
    radius = np.hypot(small[:8192], small[8192:16384])
    assert np.allclose(small[0] / radius[0], np.sin(np.arctan2(small[0], small[8192])))


def test_philox_has_a_stream_for_each_purpose_whatever_was_drawn_before() -> None:
    noise = Noise("philox", [5, 6], (4, 3, 3))
    np.testing.assert_array_equal(noise.row(2), row_noise(5, 2, 2, (4, 3, 3)))
    np.testing.assert_array_equal(noise.initial(), initial_noise(5, 2, (4, 3, 3)))
    assert np.abs(noise.stream(VAE_STREAM) - noise.initial()).max() > 0.5


@pytest.mark.parametrize("mode", ("philox", "torch", "cuda"))
def test_a_batch_equals_its_singles_and_a_row_may_be_read_again(mode: str) -> None:
    batch = Noise(mode, [5, 9, 2**64 - 1], (4, 3, 5))
    drawn = [batch.initial(), batch.row(0), batch.row(1)]
    np.testing.assert_array_equal(batch.row(0), drawn[1])
    np.testing.assert_array_equal(batch.row(1), drawn[2])
    for image, seed in enumerate((5, 9, 2**64 - 1)):
        single = Noise(mode, [seed], (4, 3, 5))
        for together, alone in zip(drawn, [single.initial(), single.row(0), single.row(1)], strict=True):
            np.testing.assert_array_equal(together[image], alone[0])


@pytest.mark.parametrize("mode", ("", "numpy", "cuda:", "cuda:128", "cuda:-1", "cuda:1e5", "torch:1", "cuda:123456789"))
def test_an_unknown_noise_is_refused_with_the_known_ones(mode: str) -> None:
    with pytest.raises(InputError, match="expected philox, torch, cuda, cuda:RESIDENT_THREADS"):
        check_noise(mode, correlated=False, sampler="ddim")


def test_correlated_rows_need_streams() -> None:
    assert check_noise("philox", correlated=True, sampler="dpmpp_sde") == "philox"
    for mode in ("torch", "cuda", "cuda:4096"):
        with pytest.raises(InputError, match="'dpmpp_sde' reads one noise in several rows, which only noise 'philox'"):
            check_noise(mode, correlated=True, sampler="dpmpp_sde")
