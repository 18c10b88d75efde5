"""The probe of inpainting models is an image that varies, read by the reference as a run reads it."""

import numpy as np
import pytest
from PIL import Image

from ldm_export.verify.inpainting_probe import probe_channels, probe_image, probe_mask
from ldm_runtime.request_images import StartImages, on_grid


@pytest.mark.parametrize(("size", "step"), [((32, 48), 8), ((16, 16), 2), ((24, 8), 8), ((8, 8), 8)])
def test_the_reference_reads_the_probe_as_a_run_does(size: tuple[int, int], step: int) -> None:
    mask = Image.fromarray(probe_mask(size, step)).convert("L")
    start = StartImages([Image.fromarray(probe_image(size))], mask, 1.0)
    inpainted = start.inpainted(*size)
    assert inpainted is not None
    cells, masked = probe_channels(size, step)
    np.testing.assert_array_equal(cells, on_grid(inpainted, step))
    np.testing.assert_array_equal(masked, np.where(inpainted, np.float32(0.0), start.pixels(*size, 1)))


def test_no_channel_of_the_probe_is_constant() -> None:
    _, masked = probe_channels((64, 64), 8)
    assert (masked[0, :, :, :32].std(axis=(1, 2)) > 0.5).all()
    assert 0 < probe_mask((64, 64), 8).mean() < 1
