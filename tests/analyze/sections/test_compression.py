"""What a UNet on pixels would cost, on the built-in model's own shapes."""

from pathlib import Path

import pytest

from ldm_export.analyze.features import Extractor
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.pictures import load_pictures
from ldm_export.analyze.sections import compression
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import open_subject

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    from tests.analyze.conftest import mean_colour, write_images

    folder = tmp_path_factory.mktemp("compression")
    write_images(folder / "images", 1)
    with pytest.MonkeyPatch.context() as patch, open_subject(None) as subject:
        patch.setattr(compression, "SIDES", (1, 2))
        patch.setattr(compression, "ROUNDS", 2)
        pictures = load_pictures(folder / "images", 1, subject.size, 0, [])
        extractor = Extractor("mean colour", mean_colour)
        return compression.measure(Study(subject, pictures, extractor, 0, True, Path(folder), lambda text: None))


def test_ratios_are_those_of_the_shapes(findings: Findings) -> None:
    assert findings.value("ratio") == 128 * 128 * 3 / (16 * 16 * 4)
    assert findings.value("downsample") == 8 and findings.value("numbers") == 16 * 16 * 4


def test_work_on_pixels_grows_with_the_area_at_least(findings: Findings) -> None:
    twin = next(table for table in findings.tables if table.name == "twin")
    assert [row[0] for row in twin.rows] == ["8x8", "16x16"]
    small, large = ([cell for cell in row if isinstance(cell, float)] for row in twin.rows)
    latent, pixel, ratio = large[:3]
    assert pixel > latent and ratio == pytest.approx(pixel / latent)
    assert 3.5 < pixel / small[1] < 16  # four times the pixels; attention's part sixteen times


def test_the_total_is_the_steps_and_the_decoder(findings: Findings) -> None:
    rows = {row[0]: row for row in next(table for table in findings.tables if table.name == "components").rows}
    unet, decoder = rows["unet"][2], rows["vae_decoder"][2]
    assert isinstance(unet, float) and isinstance(decoder, float)
    assert findings.value("total") == pytest.approx(20 * 2 * unet + decoder)
    assert findings.value("codec_share") == pytest.approx(decoder / (40 * unet + decoder))
