"""The error of runs is that of the worst, of bytes, after each evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ldm_export.lossy import measure
from ldm_export.lossy.measure import (
    Runs,
    Setting,
    calibration_setting,
    compare_runs,
    draw,
    draw_recorded,
    held_out_setting,
)
from ldm_export.lossy.method import Draft
from ldm_export.lossy.prompts import OWN
from ldm_export.verify import metrics
from ldm_export.verify.run_size import LARGE_DENOISER, LARGE_STEPS
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, Way
from tests.optimise.graphs import normal

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"


def test_recorded_runs_are_the_exact_ones_and_bring_what_was_read() -> None:
    manifest = read_manifest(BUILTIN)
    setting = Setting(("red apple", "a cat"), (1, 2), 3, (64, 64))
    exact = draw(BUILTIN, manifest, setting)
    recorded, feeds = draw_recorded(BUILTIN, manifest, setting)
    np.testing.assert_array_equal(recorded.images, exact.images)
    np.testing.assert_array_equal(recorded.latents, exact.latents)
    assert {name: len(each) for name, each in feeds.items()} == {"unet": 2 * len(exact.latents[0]), "vae_decoder": 2}


def runs(evaluations: int = 3, *, image: np.ndarray | None = None, noise: float = 0.0) -> Runs:
    latents = tuple(normal(evaluations, 4, 8, 8, seed=seed) for seed in (1, 2))
    latents = tuple(each * np.float32(1 + noise * np.arange(1, 1 + len(each)))[:, None, None, None] for each in latents)
    images = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), np.uint8)
    if image is not None:
        images[1] = image
    return Runs(latents, images, (1.0, 1.0))


def ssim_of(exact: np.ndarray, other: np.ndarray) -> float:
    """Of bytes (H, W, 3)."""
    return metrics.ssim(other.transpose(2, 0, 1), exact.transpose(2, 0, 1), 255)


def test_the_worst_image_counts_in_bytes() -> None:
    exact = runs()
    changed = exact.images[1] // 2
    found = compare_runs(exact, runs(image=changed))
    assert found.worst == 1
    assert found.psnr is not None
    error = np.mean((exact.images[1].astype(np.float64) - changed) ** 2)
    np.testing.assert_allclose(found.psnr, 10 * np.log10(255**2 / error))
    assert found.ssim == min(ssim_of(*pair) for pair in zip(exact.images, [exact.images[0], changed], strict=True)) < 1


def own_bytes(manifest: Manifest, artefact: str) -> int:
    draft = Draft("a", ("bf16",), {"unet": Way("openvino", artefact, "bf16", ())}, WHOLE_RUN)
    return measure._own_bytes(manifest, measure.provisional(draft))


def test_only_files_that_no_exact_artefact_has_are_a_variant_s_own() -> None:
    manifest = read_manifest(BUILTIN)
    unet = manifest.components["unet"]
    assert own_bytes(manifest, "canonical") == own_bytes(manifest, "ort_cpu") == 0
    lossy = tuple(replace(each, exactness="lossy") if each.name == "ort_cpu" else each for each in unet.artefacts)
    changed = replace(manifest, components={**manifest.components, "unet": replace(unet, artefacts=lossy)})
    assert own_bytes(changed, "ort_cpu") == manifest.files["unet/model.ort_cpu.onnx"].size > 0
    assert own_bytes(changed, "canonical") == 0


def test_equal_runs_have_no_psnr() -> None:
    found = compare_runs(runs(), runs())
    assert found.psnr is None and found.ssim == 1.0 and found.latents == (0.0, 0.0, 0.0)


def test_the_drift_is_that_after_each_evaluation() -> None:
    np.testing.assert_allclose(compare_runs(runs(), runs(noise=0.01)).latents, (0.01, 0.02, 0.03), rtol=1e-4)


def test_of_runs_with_other_numbers_of_evaluations_the_last_latents_are_compared() -> None:
    assert len(compare_runs(runs(3), runs(2)).latents) == 1


@pytest.mark.parametrize(
    ("weights", "own", "steps", "counts"),
    [
        (LARGE_DENOISER, 50, 50, (8, 12)),
        (LARGE_DENOISER + 1, 50, LARGE_STEPS, (4, 8)),
        (LARGE_DENOISER + 1, 4, 4, (4, 8)),
        (1, 1, 1, (8, 12)),
    ],
)
def test_a_large_denoiser_is_measured_in_no_more_steps_than_its_own(
    monkeypatch: pytest.MonkeyPatch, weights: int, own: int, steps: int, counts: tuple[int, int]
) -> None:
    """A model of four steps has nothing to do with its images in ten."""
    known = read_manifest(BUILTIN)
    defaults = replace(known.contract.defaults, steps=own)
    manifest = replace(known, contract=replace(known.contract, defaults=defaults))
    monkeypatch.setattr(measure, "denoiser_weights", lambda *args: weights)
    calibrating, held_out = (make(BUILTIN, manifest, OWN) for make in (calibration_setting, held_out_setting))
    assert calibrating.steps == held_out.steps == steps
    assert (len(calibrating.prompts), len(held_out.prompts)) == counts
    assert not {*calibrating.prompts} & {*held_out.prompts} and not {*calibrating.seeds} & {*held_out.seeds}
