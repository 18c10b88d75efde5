"""Sections on a model of every family: each measures, or says in a sentence why it cannot.

Those that start processes or draw many images, compression, parallelism and transport, have tests of their own.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from ldm_export.analyze import run
from ldm_export.analyze.features import Extractor
from ldm_export.checkpoint.open import open_checkpoint
from tests.analyze.conftest import write_images
from tests.once import make_once
from tests.oracles import build_tiny_sd, with_tiny_autoencoder

COUNT = 64  # images: the most that a section needs
SCHEDULER = {"_class_name": "LCMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "original_inference_steps": 50}
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd21": lambda folder: build_tiny_sd(folder, "sd21"),
    "sdxl": lambda folder: build_tiny_sd(folder, "sdxl"),
    "inpaint": lambda folder: build_tiny_sd(folder, "inpaint"),
    "lcm": lambda folder: build_tiny_sd(folder, unet={"time_cond_proj_dim": 32}, scheduler=SCHEDULER),
    "tiny": lambda folder: with_tiny_autoencoder(build_tiny_sd(folder)),
}
LIGHT = ("information", "regularity", "correspondence", "attention", "text", "preservation", "quality")
OF_CODECS = ("geometry", "semantics")  # of two kinds of autoencoder
# kind -> section -> how its sentence begins, where a family has nothing to measure
UNMEASURED = {"lcm": {"text": "the model was distilled with guidance: "}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return kind -> a tiny checkpoint of that kind, saved by diffusers."""

    def make(kind: str) -> Path:
        return make_once(tmp_path_factory, f"analyzed-{kind}", lambda folder: FAMILIES[kind](folder / kind))

    return make


def problems(checkpoint: Path, folder: Path, make_extractor: Callable[[], Extractor], only: tuple[str, ...]) -> dict:
    """Analyse a checkpoint and return why sections could not be measured, by name."""
    image = open_checkpoint(checkpoint).defaults.image
    write_images(folder / "images", COUNT, (image.width, image.height))
    analysis = run.analyze(
        checkpoint, data=folder / "images", out=folder / "out", only=only, quick=True, make_extractor=make_extractor
    )
    return {each.section.name: each.problem for each in analysis.results if each.problem is not None}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_sections_measure_every_family_or_say_why_not(kind: str, source, tmp_path: Path, make_extractor) -> None:
    only = (*LIGHT, *OF_CODECS) if kind in ("sdxl", "tiny") else LIGHT
    found, expected = problems(source(kind), tmp_path, make_extractor, only), UNMEASURED.get(kind, {})
    assert list(found) == list(expected), found
    for name, beginning in expected.items():
        assert found[name].startswith(beginning)
