"""Attention of the built-in model, and of the same with its attention broken."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm_export.analyze.caption_errors import NONE
from ldm_export.analyze.features import Extractor
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.pictures import load_pictures
from ldm_export.analyze.sections import SECTIONS, attention_cost
from ldm_export.analyze.sections.attention_drawn import draw, tile
from ldm_export.analyze.sections.attention_images import GROUPS, measure_maps, record_layers
from ldm_export.analyze.sections.attention_overlap import add_overlap
from ldm_export.analyze.sections.text_captions import CaptionRuns, measure_captions
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import Subject, open_subject
from ldm_export.errors import AnalysisError
from ldm_export.models.layers import Attention
from ldm_runtime.errors import NonFiniteError
from tests.analyze.checkpoints import CHECKPOINTS
from tests.analyze.conftest import mean_colour
from tests.oracles import build_tiny_sd

pytestmark = pytest.mark.slow  # opens the built-in model


@pytest.fixture
def subject() -> Iterator[Subject]:
    with open_subject(None) as opened:
        yield opened


@pytest.fixture
def study(subject: Subject, images: Path, tmp_path: Path) -> Study:
    return study_of(subject, images, tmp_path)


def study_of(subject: Subject, images: Path, tmp_path: Path) -> Study:
    pictures = load_pictures(images, 8, subject.size, 0, ())
    (tmp_path / "kept").mkdir()
    extractor = Extractor("mean colour", mean_colour)
    return Study(subject, pictures, extractor, 0, True, tmp_path / "kept", lambda text: None)


def cross_attentions(study: Study) -> list[Attention]:
    blocks = study.subject.model("unet").named_modules()
    return [module for name, module in blocks if name.endswith("attn2") and isinstance(module, Attention)]


def measured(study: Study) -> Findings:
    findings = SECTIONS["attention"].measure(study)
    findings.require_finite()
    return findings


def test_the_built_in_model(study: Study) -> None:
    findings = measured(study)
    for size in ("8x8", "4x4"):
        entropy, words = findings.value(f"entropy_{size}"), findings.value(f"words_{size}")
        assert entropy is not None and 0 < entropy < math.log(32)
        assert words is not None and 0 < words < 1
        overlap, grid = findings.value(f"overlap_{size}"), findings.value(f"overlap_grid_{size}")
        assert overlap is not None and grid is not None and overlap < grid < 1
    grids = [findings.value(f"overlap{name}") for name in ("_grid_8x8", "_grid_4x4")]
    control = [findings.value(f"overlap_{name}") for name in ("pixels", "pixels_8x8", "pixels_4x4", "chance")]
    for falling in (grids, control):
        assert falling == sorted(falling, reverse=True) and len(set(falling)) == len(falling)
    share = findings.value("cost_share")
    assert share is not None and 0.01 < share < 0.2
    to_text, to_self = findings.value("cost_text"), findings.value("cost_self")
    assert to_text is not None and to_self is not None and to_self > to_text > 1
    (tokens,) = [each for each in findings.tables if each.name == "tokens"]
    for row in tokens.rows:
        shares = row[2:]
        assert sum(share for share in shares if isinstance(share, float)) == pytest.approx(1, abs=1e-4)
    assert len(findings.pictures) == 4


def test_queries_that_ask_nothing_attend_evenly(study: Study) -> None:
    for module in cross_attentions(study):
        module.to_q.weight.zero_()
    findings = measured(study)
    for size in ("8x8", "4x4"):
        assert findings.value(f"entropy_{size}") == pytest.approx(math.log(32), abs=1e-4)
        assert findings.value(f"ranking_{size}") == 0.5
        assert findings.value(f"overlap_{size}") == pytest.approx(findings.value("overlap_chance"))
        less, pixels = findings.value(f"precision_{size}"), findings.value("overlap_pixels")
        assert less is not None and pixels is not None and -pixels < less < 0
    (agreement,) = [each for each in findings.figures if each.name == "agreement_8x8_4x4"]
    assert agreement.value is None and "even for all images" in agreement.note
    said = [each for each in findings.sentences if each.startswith("At ")]
    assert len(said) == 2 and all(
        each.endswith("does not tell the object from other images' for sure.") for each in said
    )


def test_maps_of_the_same_images_are_the_same(study: Study) -> None:
    first = measure_maps(study, [(8, 8), (4, 4)], 8)
    for kept in study.folder.iterdir():
        kept.unlink()
    again = measure_maps(study, [(8, 8), (4, 4)], 8)
    assert first.numbers == again.numbers and len(first.levels) == 3
    for size, maps in first.maps.items():
        assert maps.shape == (8, 3, len(GROUPS) + 1, *size)
        assert np.array_equal(maps, again.maps[size])
        assert maps[:, :, :-1].sum(axis=2) == pytest.approx(np.ones((8, 3, *size)), abs=1e-4)


def test_what_is_drawn_is_what_a_run_draws(study: Study) -> None:
    drawn = draw(study, "red apple, 3d style", 7, 20)
    steps = list(study.subject.pipe.sample("red apple, 3d style", seed=7))
    assert len(drawn.maps) == len(steps) == 20
    assert drawn.latents == pytest.approx(steps[-1].latents[0], abs=0.02)
    assert [word.text for word in drawn.words] == ["red", "apple", "3d", "style"]
    assert drawn.maps[0][8, 8].shares.shape == (1, 8, 8, 32)


def test_without_transparency_overlap_has_no_value(study: Study) -> None:
    object.__setattr__(study.pictures, "alpha", None)
    findings = Findings()
    add_overlap(study, findings, measure_maps(study, [(8, 8), (4, 4)], 8), WorkBudget(1e9, 1e9, 1e12))
    assert [each.name for each in findings.figures] == ["overlap_8x8", "overlap_4x4", "overlap_pixels"]
    assert all(each.value is None and "transparent ground: 0; it takes 4" in each.note for each in findings.figures)


def test_a_denoiser_without_attention_to_text_is_refused(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldm_export.analyze.attention_maps.Recorder.see", lambda *arguments: None)
    with pytest.raises(AnalysisError, match="no attention to the text"):
        measured(study)


def test_captions_without_words_are_refused(study: Study) -> None:
    object.__setattr__(study.pictures, "captions", (",",) * 8)
    with pytest.raises(AnalysisError, match="captions of 0 images have words"):
        measured(study)


def test_nan_is_refused(study: Study) -> None:
    cross_attentions(study)[0].to_q.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="NaN"):
        measured(study)


@pytest.mark.parametrize("kind", ["sdxl", "inpaint"])
def test_errors_under_captions_of_checkpoints_of_other_kinds(images: Path, tmp_path: Path, kind: str) -> None:
    """Pooled text, sizes and concat channels reach the denoiser."""
    with open_subject(build_tiny_sd(tmp_path / "source", kind)) as subject:
        errors = measure_captions(study_of(subject, images, tmp_path), CaptionRuns(8, 8, ""), [])
    assert errors.gain.shape == (8, 3, 8) and np.isfinite(errors.gain).all()
    assert (errors.gain[:, 0] == 0).all() and (errors.distance[:, NONE] > 0).all()


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_other_kinds(images: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cost, "SECONDS", (1.0, 1.0))
    with open_subject(CHECKPOINTS[kind](tmp_path / "source")) as subject:
        study = study_of(subject, images, tmp_path)
        sizes = {f"{layer.size[0]}x{layer.size[1]}" for layer in record_layers(study)}
        findings = measured(study)
    names = {each.name for each in findings.figures}
    for kind_of_figure in ("entropy", "overlap", "ranking", "precision"):
        assert {f"{kind_of_figure}_{size}" for size in sizes} <= names
    pixels, chance = findings.value("overlap_pixels"), findings.value("overlap_chance")
    assert pixels is not None and chance is not None and 0 < pixels < 1 and 0 < chance < 1
    assert len(findings.pictures) == 4


def test_tiles_are_red_where_a_map_is_most() -> None:
    image = np.zeros((3, 64, 32), np.float32)
    heat = np.zeros((4, 2))
    heat[0, 0] = 1
    shown = tile(image, heat)
    assert shown.shape == (3, 128, 64)
    assert shown[0, 0, 0] > 0.5 > 0 > shown[1, 0, 0]
    assert shown[:, -1, -1] == pytest.approx(np.full(3, shown[0, -1, -1]))
    assert np.isfinite(tile(image, np.ones((4, 2)))).all()
    assert torch.tensor(tile(image, None)).abs().max() == 0
