"""Parallelism on the built-in model, and the sentences that are made of known figures."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ldm_export.analyze.features import Extractor
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.keeping import write_array
from ldm_export.analyze.pictures import load_pictures
from ldm_export.analyze.rounds import Outcome
from ldm_export.analyze.sections import (
    parallelism,
    parallelism_picard,
    parallelism_stages,
    parallelism_strips,
    work_budget,
)
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import open_subject
from ldm_export.analyze.workers import Speed
from ldm_runtime.errors import NonFiniteError
from tests.analyze.checkpoints import CHECKPOINTS
from tests.analyze.conftest import mean_colour, write_images
from tests.analyze.tables import number, table

STEPS = 10


def measured(folder: Path) -> tuple[Findings, Path]:
    """The findings on the built-in model with few steps, and where their arrays are kept."""
    write_images(folder / "images", 4)
    with pytest.MonkeyPatch.context() as patch, open_subject(None) as subject:
        subject.contract = replace(subject.contract, defaults=replace(subject.contract.defaults, steps=STEPS))
        patch.setattr(parallelism, "ROUNDS", (1, 1))
        patch.setattr(parallelism_picard, "OTHERS", ())
        patch.setattr(parallelism_picard, "WINDOW", 4)
        patch.setattr(parallelism_strips, "OVERLAPS", (0, 2))
        patch.setattr("ldm_export.analyze.workers.usable_cores", lambda: 2)
        patch.setattr("ldm_export.analyze.sections.parallelism_picard.usable_cores", lambda: 2)
        pictures = load_pictures(folder / "images", 4, subject.size, 0, [])
        extractor = Extractor("mean colour", mean_colour)
        study = Study(subject, pictures, extractor, 0, True, folder, lambda text: None)
        findings = parallelism.measure(study)
        findings.require_finite()
        return findings, folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Path]:
    return measured(tmp_path_factory.mktemp("parallelism"))


@pytest.fixture(scope="module")
def findings(kept: tuple[Findings, Path]) -> Findings:
    return kept[0]


@pytest.mark.slow
def test_what_is_divided_is_timed_beside_what_is_predicted(findings: Findings) -> None:
    findings.require_finite()
    rows = table(findings, "speeds").rows
    assert [str(row[0]) for row in rows] == [
        "decoding in 2 strips, overlap 0",
        "decoding in 2 strips, overlap 2",
        "Picard iteration, window 4, tolerance 0.01",
        "2 images in 2 stages",
        "2 images, each whole on a worker",
    ]
    for place, row in enumerate(rows):
        ends = [row[each] for each in (3, 4, 8, 9)]  # fastest and slowest, of one worker and of all
        workers, alone, law, expected, seconds, *others = (number(row[each]) for each in (1, 2, 5, 6, 7, 10, 11, 12))
        speedup, efficiency, communication = others
        if place < 2:  # strips have three rounds
            low, high, fastest, slowest = map(number, ends)
            assert 0 < fastest <= seconds <= slowest and low <= alone <= high
        else:
            assert ends == [None] * 4, "of one round no spread is known"
        assert workers == 2 and seconds > 0
        assert speedup == pytest.approx(alone / seconds) and efficiency == pytest.approx(speedup / 2)
        assert 0 <= communication < law and expected > 0
    timed = [figure for figure in findings.figures if figure.name.endswith(("_speedup", "_efficiency", "_beside_law"))]
    assert len(timed) == 3 * 5
    for figure in timed:
        assert bool(figure.interval) == (figure.low is not None) == figure.name.startswith("strips"), figure.name
        assert figure.interval or "A single value" in figure.note
    names = {figure.name for figure in findings.figures}
    assert {f"{name}_{kind}" for name in parallelism.KEYS for kind in ("speedup", "efficiency", "beside_law")} <= names


@pytest.mark.slow
def test_strips_of_a_decoder_that_normalises_differ_everywhere(findings: Findings) -> None:
    apart, overlapped = (list(map(number, row)) for row in table(findings, "strips").rows)
    assert apart[0] == 0 and apart[3] == 1.0 and overlapped[0] == 2 and overlapped[3] == 1.25
    assert apart[1] > overlapped[1] > overlapped[2] > 0.1 and apart[1] > apart[2]
    assert any("Overlap does not end the difference" in sentence for sentence in findings.sentences)


@pytest.mark.slow
def test_picard_iteration_saves_rounds_and_costs_evaluations(findings: Findings) -> None:
    rows = table(findings, "picard").rows
    assert [row[:4] for row in rows] == [("dpmpp_2m", STEPS, 4, 0.01), ("dpmpp_2m", STEPS, 4, 0.1)]
    tight, loose = (list(map(number, row[1:10])) for row in rows)
    for _, window, tolerance, usual, rounds, evaluations, difference, *_ in (tight, loose):
        assert rounds <= usual == STEPS < evaluations <= rounds * window and difference < tolerance
    assert loose[4] < tight[4] and loose[6] > tight[6]
    assert findings.value("picard_rounds") == tight[4]
    assert findings.value("picard_saved") == pytest.approx(1 - tight[4] / STEPS)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures_and_what_was_kept_is_not_measured_again(
    kept: tuple[Findings, Path],
) -> None:
    first, folder = kept
    (folder / "strips on 2.npy").unlink()
    (folder / "picard 1.npy").unlink()
    array = np.load(folder / "picard 0.npy")
    array[:, 0] = 0.5
    with open(folder / "picard 0.npy", "w+b") as file:
        write_array(array, file)
    again, _ = measured(folder)
    assert table(first, "strips").rows == table(again, "strips").rows
    assert table(first, "picard").rows[1] == table(again, "picard").rows[1]
    assert table(again, "picard").rows[0][7] == 0.5


@pytest.mark.slow
def test_a_model_that_makes_nan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"sample": np.full((1, 3, 128, 128), np.nan, np.float32)}

    monkeypatch.setattr("ldm_export.analyze.workers.ClockedEngine.run", broken)
    with pytest.raises(NonFiniteError):
        measured(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_every_kind_with_no_more_than_the_least(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch evaluates them, in threads; a budget of nothing leaves what the estimators take at least."""
    write_images(tmp_path / "images", 4)
    monkeypatch.setattr(work_budget, "QUICK", 1.0)
    with open_subject(CHECKPOINTS[kind](tmp_path / "source")) as subject:
        pictures = load_pictures(tmp_path / "images", 4, subject.size, 0, [])
        extractor = Extractor("mean colour", mean_colour)
        findings = parallelism.measure(Study(subject, pictures, extractor, 0, True, tmp_path, lambda text: None))
    findings.require_finite()
    ((name, steps, *_),) = table(findings, "picard").rows
    assert name == subject.contract.defaults.sampler
    assert steps == min(subject.contract.defaults.steps, parallelism.FEWEST_STEPS)
    assert {"picard_beside_law", "stages_beside_law", "images_beside_law"} <= {each.name for each in findings.figures}
    assert any("To stay near" in sentence and "rounds of timing: 1 of 2" in sentence for sentence in findings.sentences)


# --- sentences ---


def outcome(*sizes: int) -> Outcome:
    padded = np.array([[*sizes, *([0] * (8 - len(sizes)))]], float)
    return Outcome(8, padded, np.array([0.003]), np.array([0.2]))


def test_what_picard_iteration_gains_is_said_of_its_rounds() -> None:
    setting = parallelism_picard.Setting("ddim", 8, 4, 0.01)
    gains = parallelism_picard._sentence(setting, outcome(4, 4, 4))
    assert "settles 8 rows in 3 rounds, for 1.5 times the evaluations, and ends 0.003 from" in gains
    assert "faster from 2 workers on, and with 4 at most 2.7 times as fast" in gains
    assert "faster with no number of workers" in parallelism_picard._sentence(setting, outcome(*[4] * 8))
    exact = Outcome(8, np.array([[8.0] + [0.0] * 7]), np.zeros(1), np.zeros(1))
    assert "in 1 round, for 1 times" in parallelism_picard._sentence(setting, exact)
    assert "and ends with the usual latents." in parallelism_picard._sentence(setting, exact)


def test_workers_that_do_not_disturb_one_another() -> None:
    alike = parallelism._slowdown_sentence(4, {"denoiser": 0.98, "decoder": 1.0})
    assert alike.endswith("4 evaluations at once take as long as one.")


def test_workers_that_disturb_one_another_do_so_by_what_they_evaluate() -> None:
    said = parallelism._slowdown_sentence(4, {"denoiser": 0.9, "decoder": 2.0})
    assert "take 0.9 times (the denoiser) and 2 times (the decoder) as long as one" in said
    assert "4 workers of this machine do the work of 4 and 2, before" in said


@pytest.mark.parametrize(
    ("found", "said", "unsaid"),
    (
        (
            {0: (9.0, 0.0), 2: (0.4, 0.0)},
            "an overlap of 2 rows of latents by 0.4 beside it, less than a grey level",
            "not end",
        ),
        ({0: (9.0, 0.0), 1: (0.4, 0.0)}, "an overlap of one row of latents by 0.4 beside it", "1 rows"),
        (
            {0: (9.0, 2.0), 2: (3.0, 1.5)},
            "no overlap up to 2 rows of latents brings it below a grey",
            "less than a grey",
        ),
        ({0: (9.0, 2.0), 2: (3.0, 1.5)}, "with 2 rows it is 1.5 levels away from the seam", "less than a grey level"),
        ({0: (9.0, 0.0), 2: (0.0, 0.0)}, "With 2 rows of overlap there is no difference", "not end"),
        ({0: (0.0, 0.0), 2: (0.0, 0.0)}, "With 2 rows of overlap there is no difference", "less than a grey level"),
    ),
)
def test_what_strips_change_is_said_of_their_overlap(
    found: dict[int, tuple[float, float]], said: str, unsaid: str
) -> None:
    enough = next((each for each, (near, _) in found.items() if near <= 1), max(found))
    text = parallelism_strips._sentence(found, enough, 2, 16)
    assert said in text and unsaid not in text


def speed(
    name: str, seconds: float, *, compute: float = 8.0, communication: float = 0.1, expected: float = 4.2
) -> Speed:
    return Speed(name, 2, compute, communication, expected, (compute,) * 3, (seconds,) * 3)


def test_the_law_is_said_to_hold_only_where_it_does() -> None:
    assert "predicts all 2 times" in parallelism._sentence([speed("a", 4.0), speed("b", 4.5)])
    text = parallelism._sentence([speed("a", 4.0), speed("b", 12.0), speed("c", 6.0)])
    assert "a lower bound: 2 of 3 ways take over 15% longer, most of all b, 3 times as long" in text
    assert "Communication is at most 2.5% of the time" in text
    assert "a prediction that counts them is within 15% of 1 of the 3 times" in text


def test_the_slowest_stage_sets_the_bound() -> None:
    findings = Findings()
    taken = [(0.1, 0.1, 0.1), (0.6, 0.3, 0.9), (0.3, 0.3, 0.3)]
    parallelism_stages._add_shares(findings, taken, (range(0, 2), range(2, 3)))
    (bound,) = findings.figures
    assert (bound.value, bound.low, bound.high) == pytest.approx((1 / 0.7, 1.3 / 1.0, 0.7 / 0.4))
    assert "the denoiser takes 60% of an image's time" in findings.sentences[0]
    assert "more than 1.67 times of one" in findings.sentences[0]
    assert [row[5] for row in findings.tables[0].rows] == [1, 1, 2]


def test_an_image_of_few_rows_is_not_cut(tmp_path: Path) -> None:
    contract = SimpleNamespace(sample=SimpleNamespace(dims=(0, 0, "height", 0)), range_of=lambda dim: (5, 64))
    study = SimpleNamespace(subject=SimpleNamespace(contract=contract))
    assert parallelism_strips._possible(study, 3, 2) == ()  # type: ignore[arg-type]
    assert parallelism_strips._possible(study, 8, 2) == (1, 2)  # type: ignore[arg-type]
    assert parallelism_strips._possible(study, 16, 2) == (0, 1, 2, 4)  # type: ignore[arg-type]
