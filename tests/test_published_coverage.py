"""docs/models.md says of every published checkpoint what happens to it now: none stops to open unnoticed."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.published_checkpoints import PUBLISHED
from tests.published_coverage import PAGE, Outcome, covered, lay_out, outcome, outcomes, written

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """diffusers logs each key of a config that it ignores."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return list(outcomes(tmp_path_factory.mktemp("published")))


def test_the_page_says_what_happens(found: list[Outcome]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, found) == page, "run: python -m tests.published_coverage --write"


def test_every_refusal_is_one_sentence_and_the_uses_are_189(found: list[Outcome]) -> None:
    assert sum(row.use for row in PUBLISHED) == 189
    assert covered(found) == sum(each.row.use for each in found if each.weights)
    for each in found:
        assert "\n" not in each.refused and "Traceback" not in each.refused


def test_a_checkpoint_that_stops_to_open_is_noticed(found: list[Outcome], tmp_path: Path) -> None:
    row = PUBLISHED[0]
    changed = replace(row, parts={**row.parts, "unet": {**row.parts["unet"], "center_input_sample": True}})
    lay_out(changed, tmp_path / "row", _tokenizer(tmp_path))
    refused = outcome(changed, tmp_path / "row")
    assert (
        refused.refused == "unet/config.json has center_input_sample = True, which is not supported: it must be False"
    )
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, [replace(refused, row=row), *found[1:]]) != page


def _tokenizer(work: Path) -> Path:
    from tests.oracles import build_tiny_tokenizer

    build_tiny_tokenizer(work / "tokenizer")
    return work / "tokenizer"
