"""The probe of inpainting models is an image that varies, read by the reference as a run reads it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_export.verify import reference_file
from ldm_export.verify.inpainting_probe import CAPTURED, probe_channels, probe_image, probe_mask, require_same_probe
from ldm_runtime.errors import PackageError
from ldm_runtime.package.open import read_manifest
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


@pytest.mark.slow
def test_the_reference_of_an_earlier_build_says_to_build_again(proven: Callable[[str], Path]) -> None:
    """An earlier probe inpainted all of the image: verifying would tell of a drift."""
    package = proven("inpaint")
    reference, contract = reference_file.read(package / reference_file.FILE), read_manifest(package).contract
    require_same_probe(reference, contract)
    role = contract.denoiser
    (case,) = [each for each in reference.cases_of(role.component) if each.name == CAPTURED]
    sample = np.array(case.inputs[role.sample])
    sample[:, contract.latent.channels] = 1.0
    earlier = replace(case, inputs={**case.inputs, role.sample: sample})
    others = [each for each in reference.cases if each is not case]
    with pytest.raises(PackageError, match="another image to inpaint than this program uses; build the package again"):
        require_same_probe(replace(reference, cases=(*others, earlier)), contract)
    require_same_probe(replace(reference, cases=(*others, earlier)), replace(contract, concat=()))
