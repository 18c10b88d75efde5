"""Orders for methods whose trials draw nothing: the runs and their errors are made up."""

from pathlib import Path

import numpy as np

from ldm_export.lossy.caching import EXACT_ENGINE
from ldm_export.lossy.measure import Runs, Setting, calibration_setting
from ldm_export.lossy.method import Draft, Order
from ldm_export.lossy.prompts import OWN
from ldm_runtime.budget import read_budget
from ldm_runtime.package.open import read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, Way


def exact_draft(artefact: str = "ort_cpu") -> Draft:
    return Draft("", (), {"unet": Way(EXACT_ENGINE, artefact, "fp32", ())}, WHOLE_RUN)


def order(folder: Path, budget: str = "psnr=30", *made: Draft) -> Order:
    manifest = read_manifest(folder)
    setting = calibration_setting(folder, manifest, OWN)
    return Order(folder, manifest, read_budget(budget), setting, made_up_runs(setting, 0.0), ("caching",), made)


def made_up_runs(setting: Setting, level: float) -> Runs:
    """Runs whose images differ from those of level 0 by so many levels of 255."""
    count = len(setting.prompts)
    images = np.full((count, 16, 16, 3), round(100 + level), np.uint8)
    return Runs((np.ones((setting.steps, 4, 2, 2), np.float32),) * count, images, (1.0,) * count)


def say(text: str) -> None:
    assert text
