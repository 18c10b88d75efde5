"""The tuning: what is measured is in the report and the profile, and whatever comes between leaves the old profile."""

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from ldm_export.cli.main import verbs
from ldm_export.tune import field, tuner
from ldm_export.tune.candidates import DEFAULT, Candidate
from ldm_export.tune.race import ROUNDS, Timing
from ldm_export.tune.tuner import tune_package
from ldm_runtime.budget import read_budget
from ldm_runtime.engines import profile as profiles
from ldm_runtime.engines.profile import Best, read_profile
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError, OutputError
from ldm_runtime.package.open import open_package
from tests.runtime import tiny_package
from tests.runtime.package.varied_package import add_variants

ENGINES_BY_NAME = dict.fromkeys(("text_encoder", "unet", "vae_decoder"), "ort")
Seconds = Callable[[Candidate], float]


@pytest.fixture(autouse=True)
def two_engines(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines and one core: few candidates, on any machine."""
    monkeypatch.setattr(field, "exact_engines", lambda package: (["openvino", "ort"], ()))
    here = profiles.Machine("Xeon", ("avx512_bf16", "avx512_vnni"), 1, (), {"ldm-runtime": "0.1.0"})
    monkeypatch.setattr("ldm_runtime.engines.units.cpu_units", lambda: frozenset(here.units))
    for module in (tuner, profiles):
        monkeypatch.setattr(module, "this_machine", lambda: here)


def takes(monkeypatch: pytest.MonkeyPatch, seconds: Seconds) -> list[Candidate]:
    """Let candidates take what they are told; return those that were measured, in their order."""
    measured: list[Candidate] = []

    def measure(path: Path, size: tuple[int, int], candidate: Candidate) -> Timing:
        measured.append(candidate)
        parts = {"text": 0.0, "denoiser": seconds(candidate), "decoder": 0.0}
        return Timing(parts, 0.25, 123_000_000, {**ENGINES_BY_NAME, **candidate.engines})

    monkeypatch.setattr(tuner, "measure", measure)
    return measured


def half_with_openvino(candidate: Candidate) -> float:
    return 0.5 if "openvino" in candidate.engines.values() else 1.0


def kept(package: Path) -> profiles.Profile | None:
    opened = open_package(package)
    found, notices = read_profile(opened.identity, opened.manifest.components, "ldm-export tune")
    assert notices == ()
    return found


def test_what_wins_is_the_profile_of_this_package_on_this_machine(tiny, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    report = tune_package(tiny)
    whole = dict.fromkeys(open_package(tiny).manifest.contract.components, "openvino")
    assert report.chosen == (Best("", whole, None, 0.5),) and report.default_seconds == 1.0
    profile = kept(tiny)
    assert (
        profile is not None
        and profile.chosen == report.chosen
        and str(profiles.place_of(profile.package, profile.machine)) == report.profile
    )
    assert [each.name for each in profile.measured] == [row.configuration for row in report.rows]
    assert profile.measured[0].seconds == (1.0,) * ROUNDS and profile.size == (64, 48)


def test_without_a_winner_the_default_is_the_profile_s_choice(tiny, monkeypatch):
    takes(monkeypatch, lambda candidate: 1.0)
    report = tune_package(tiny)
    assert report.chosen == (Best("", {}, None, 1.0),)
    assert "exact images: the default; nothing else was faster in 3 rounds by more than both spreads" in report.table()


def test_a_tuning_again_replaces_the_profile(tiny, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    tune_package(tiny)
    takes(monkeypatch, lambda candidate: 1.0)
    again = tune_package(tiny)
    profile = kept(tiny)
    assert profile is not None and profile.chosen == again.chosen == (Best("", {}, None, 1.0),)


def test_two_packages_keep_a_profile_each(tiny, tmp_path, monkeypatch):
    other = tiny_package.make(tmp_path / "other")
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"tiny"', '"other"', 1), encoding="utf-8")
    takes(monkeypatch, half_with_openvino)
    tune_package(tiny)
    takes(monkeypatch, lambda candidate: 1.0)
    tune_package(other)
    first, second = kept(tiny), kept(other)
    assert first is not None and second is not None and first.package != second.package
    assert first.chosen[0].seconds == 0.5 and second.chosen[0].seconds == 1.0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(143), ZeroDivisionError])
def test_a_tuning_that_is_interrupted_leaves_the_old_profile(tiny, cache, monkeypatch, error):
    takes(monkeypatch, half_with_openvino)
    tune_package(tiny)
    before = {file: file.read_bytes() for file in (cache / profiles.FOLDER).rglob("*")}

    def interrupt(*arguments: object) -> Timing:
        raise error

    monkeypatch.setattr(tuner, "measure", interrupt)
    with pytest.raises(BaseException) as raised:
        tune_package(tiny)
    assert raised.type is (error if isinstance(error, type) else type(error))
    assert {file: file.read_bytes() for file in (cache / profiles.FOLDER).rglob("*")} == before


def test_where_nothing_runs_there_is_one_sentence_and_no_profile(tiny, cache, monkeypatch):
    def refuse(*arguments: object) -> Timing:
        raise EngineUnavailable("no memory is left")

    monkeypatch.setattr(tuner, "measure", refuse)
    with pytest.raises(LdmError, match="nothing could be measured: no memory is left"):
        tune_package(tiny)
    assert list((cache / profiles.FOLDER).iterdir()) == []


def test_an_engine_that_does_not_open_is_a_row_with_its_sentence(tiny, monkeypatch):
    def seconds(candidate: Candidate) -> float:
        if candidate.engines:
            raise EngineUnavailable("openvino has no device here")
        return 1.0

    takes(monkeypatch, seconds)
    report = tune_package(tiny)
    assert report.rows[1].trouble == "openvino has no device here" and report.rows[1].seconds is None
    assert "exact, openvino: openvino has no device here" in report.table()


def hurry(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """Let the race's clock go on by so many seconds each time that it is read."""
    now = iter(range(10**6))
    real = tuner.race
    monkeypatch.setattr(tuner, "race", lambda *rest, **more: real(*rest, clock=lambda: step * next(now), **more))


def test_a_time_that_is_too_short_to_choose_is_said_and_the_profile_of_before_stays(tiny, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    tune_package(tiny)
    before = kept(tiny)
    hurry(monkeypatch, 100.0)
    report = tune_package(tiny, minutes=5.0)
    assert report.chosen[0].engines == {} and report.profile is None and "profile: " not in report.table()
    begun = sum(row.seconds is not None for row in report.rows)
    assert 0 < begun < len(report.rows)
    assert report.notices == (
        f"in this time {begun} of {len(report.rows)} configurations had a turn and nothing had 3, which a choice "
        "needs, so that no profile is written; give more --minutes",
    )
    assert report.rows[-1].trouble == "the time was over before its turn"
    assert report.rows[-1].configuration not in report.table()
    assert f"{len(report.rows) - begun} more: the time was over before its turn" in report.table()
    assert kept(tiny) == before and before is not None and before.chosen[0].seconds == 0.5


def test_a_race_that_is_decided_after_a_round_has_a_profile_and_asks_for_no_more_time(tiny, monkeypatch):
    takes(monkeypatch, lambda candidate: 3.0 if candidate != DEFAULT else 1.0)
    report = tune_package(tiny)
    assert report.notices == () and len(kept(tiny).measured[0].seconds) == 1
    assert report.chosen == (Best("", {}, None, 1.0),)


def test_the_least_time_still_measures_the_default(tiny, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    hurry(monkeypatch, 1.0)
    report = tune_package(tiny, minutes=1e-9)
    assert report.default_seconds == 1.0 and report.profile is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minutes": 0.0}, "minutes is 0; expected more than 0 and at most 1440"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"minutes": 1e9}, "minutes is 1e\\+09"),
        ({"size": (33, 32)}, "the size is 33x32"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_work(tiny, monkeypatch, arguments, message):
    measured = takes(monkeypatch, lambda candidate: 1.0)
    with pytest.raises(InputError, match=message):
        tune_package(tiny, **arguments)
    assert measured == []


def test_a_cache_folder_that_takes_no_files_is_refused_before_the_work(tiny, cache, monkeypatch):
    measured = takes(monkeypatch, lambda candidate: 1.0)
    shutil.rmtree(cache, ignore_errors=True)  # what opened the package first may have kept its hashes there
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(b"a file")
    with pytest.raises(OutputError, match="no profile can be kept: the folder .* takes no files; set XDG_CACHE_HOME"):
        tune_package(tiny)
    assert measured == []


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (Path.mkdir, "a folder has that name; choose another output"),
        (lambda place: place.symlink_to("elsewhere"), "it is a link to elsewhere; give the place itself as output"),
        pytest.param(
            lambda place: os.mkfifo(place),
            "what has that name is not a regular file; choose another output",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes"),
        ),
    ],
)
def test_what_no_profile_can_replace_is_said_before_the_work(tiny, monkeypatch, put, message):
    measured = takes(monkeypatch, lambda candidate: 1.0)
    place = profiles.place_of(open_package(tiny).identity, tuner.this_machine())
    assert place is not None
    place.parent.mkdir(parents=True)
    put(place)
    with pytest.raises(OutputError) as refused:
        tune_package(tiny)
    assert str(refused.value).startswith("no profile can be kept: cannot write ")
    assert str(refused.value).endswith(f"{message}, or remove {place}") and measured == []


def test_a_profile_that_cannot_be_written_in_the_end_loses_nothing_that_was_measured(tiny, tmp_path, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    tune_package(tiny)
    before = kept(tiny)

    @contextlib.contextmanager
    def full(path: Path, **more: object) -> Iterator[Path]:
        raise OutputError(f"cannot write {path}: No space left on device; free space and run again")
        yield path

    monkeypatch.setattr(tuner, "atomic_file", full)
    result = CliRunner().invoke(verbs, ["tune", str(tiny), "--out", str(tmp_path / "tuned")])
    assert result.exit_code == 1
    assert "error: no profile is kept: cannot write " in result.stderr and "No space left on device" in result.stderr
    assert "0.50 of the default's 1 s" in result.stdout and "profile: " not in result.stdout
    facts = json.loads((tmp_path / "tuned/tune.json").read_text(encoding="utf-8"))
    assert facts["profile"] is None and facts["unkept"].startswith("no profile is kept: ") and facts["rows"]
    assert kept(tiny) == before and before is not None


# --- variants ---


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    return add_variants(tiny_package.make(tmp_path / "varied"))


def names(candidates: list[Candidate]) -> set[str]:
    return {each.variant for each in candidates}


def test_variants_that_run_here_take_part_and_the_others_are_said(varied, monkeypatch):
    measured = takes(monkeypatch, lambda candidate: 0.2 if candidate.variant else 1.0)
    report = tune_package(varied)
    assert names(measured) == {"", "int8-bf16", "cached", "merged"}
    assert report.chosen[0] == Best("", {}, None, 1.0)
    assert {each.variant: each.seconds for each in report.chosen} == {"": 1.0} | dict.fromkeys(
        names(measured) - {""}, 0.2
    )
    (notice,) = [each for each in report.notices if "mixed" in each]
    assert notice.startswith("mixed is left out: ort:cuda does not run here: ")
    row = next(each for each in report.rows if each.configuration == "int8-bf16")
    assert (row.psnr, row.ssim, row.relative_rms, row.is_exact) == (34.1, 0.981, 0.031, False)
    files = open_package(varied).manifest.files
    own = ("unet/int8.onnx", "unet/model.int8.safetensors", "unet/model.safetensors")
    others = [
        f"{name}/{file}" for name in ("text_encoder", "vae_decoder") for file in ("model.onnx", "model.safetensors")
    ]
    assert row.file_bytes == sum(files[name].size for name in (*own, *others))


def test_a_budget_limits_the_variants_and_says_what_they_reach(varied, monkeypatch):
    measured = takes(monkeypatch, lambda candidate: 1.0)
    report = tune_package(varied, budget=read_budget("psnr=40"))
    assert names(measured) == {"", "cached"}  # whose images were equal
    assert "int8-bf16 is left out: it is not within psnr=40: 34.1 dB" in report.notices
    measured.clear()
    report = tune_package(varied, budget=read_budget("exact"))
    assert names(measured) == {""}
    assert "int8-bf16 is left out: the budget exact takes nothing lossy" in report.notices


def test_a_variant_without_its_units_is_left_out(varied, monkeypatch):
    here = profiles.Machine("Xeon", ("avx512_vnni",), 1, (), {})
    for module in (tuner, profiles):
        monkeypatch.setattr(module, "this_machine", lambda: here)
    measured = takes(monkeypatch, lambda candidate: 1.0)
    report = tune_package(varied)
    assert "int8-bf16" not in names(measured)
    (notice,) = [each for each in report.notices if "int8-bf16" in each]
    assert notice == "int8-bf16 is left out: it needs a CPU with AVX512-BF16; this one has AVX512-VNNI"


def test_a_variant_that_is_slower_than_the_default_is_not_in_the_profile(varied, monkeypatch):
    takes(monkeypatch, lambda candidate: {"cached": 0.3, "int8-bf16": 1.5}.get(candidate.variant, 1.0))
    tune_package(varied)
    profile = kept(varied)
    assert profile is not None
    assert profile.seconds() == {"": 1.0, "cached": 0.3, "int8-bf16": float("inf"), "merged": float("inf")}


# --- the verb ---


def test_the_verb_prints_a_table_or_json_and_keeps_existing_files(tiny, tmp_path, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    out = tmp_path / "tuned"
    result = CliRunner().invoke(verbs, ["tune", str(tiny), "--minutes", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "exact, openvino" in result.stdout and "0.50 of the default's 1 s" in result.stdout
    assert "tune: round 1 of 5, 2 of" in result.stderr and "profile: " in result.stdout
    rows = list(csv.DictReader((out / "frontier.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["configuration"] for row in rows][:2] == ["exact, auto", "exact, openvino"]
    assert json.loads((out / "tune.json").read_text(encoding="utf-8"))["default_seconds"] == 1.0
    with Image.open(out / "frontier.png") as plot:
        assert plot.size[0] == 720 and plot.info["package"] == "tiny"
    again = CliRunner().invoke(verbs, ["tune", str(tiny), "--out", str(out)])
    assert again.exit_code == 1 and "exists already" in again.stderr
    as_json = CliRunner().invoke(verbs, ["tune", str(tiny), "--json", "--out", str(out), "--force"])
    facts = json.loads(as_json.stdout)
    assert facts["chosen"][0]["seconds"] == 0.5 and Path(facts["profile"]).is_file()


def test_the_table_is_printed_though_the_files_cannot_be_written(tiny, tmp_path, monkeypatch):
    takes(monkeypatch, half_with_openvino)
    out = tmp_path / "tuned"

    def full(*arguments: object, **more: object) -> None:
        raise OutputError("no space is left")

    monkeypatch.setattr("ldm_export.tune.report.write_results", full)
    result = CliRunner().invoke(verbs, ["tune", str(tiny), "--out", str(out)])
    assert result.exit_code == 1 and "no space is left" in result.stderr
    assert "0.50 of the default's 1 s" in result.stdout


def test_the_verb_ends_with_130_at_ctrl_c_and_1_at_an_error(tiny, monkeypatch):
    def interrupt(*arguments: object) -> Timing:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "measure", interrupt)
    stopped = CliRunner().invoke(verbs, ["tune", str(tiny)])
    assert stopped.exit_code == 130 and stopped.stderr.endswith("interrupted\n")
    wrong = CliRunner().invoke(verbs, ["tune", str(tiny), "--budget", "psnr=abc"])
    assert wrong.exit_code == 1 and "budget is 'psnr=abc'; expected exact, psnr=DB" in wrong.stderr


@pytest.mark.slow
def test_a_real_package_is_tuned(tiny):
    report = tune_package(tiny, budget=read_budget("exact"), minutes=0.5)
    assert report.rows[0].seconds is not None and report.rows[0].peak_bytes is not None
    assert (kept(tiny) is None) is (report.profile is None)
    assert report.profile is not None or any("give more --minutes" in each for each in report.notices)  # a busy machine
