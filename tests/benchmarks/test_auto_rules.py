"""The table of the rules of "auto": ratios, and the steps from which a slower start pays, from made-up rounds."""

import pytest
from click.testing import CliRunner

from benchmarks import auto_rules
from benchmarks.auto_rules import Result
from ldm_export.tune.candidates import Candidate
from ldm_export.tune.race import Timing
from tests.runtime import tiny_package


def timing(denoiser: float, load: float) -> Timing:
    return Timing({"text": 0.1, "denoiser": denoiser, "decoder": 1.0}, load, 2_000_000_000, {})


def result(openvino: float) -> Result:
    ort = [timing(80.0, 2.0), timing(800.0, 2.0), timing(80.0, 2.0)]  # one of three is disturbed
    return Result("sd15", 859_520_964, (512, 512), 20, {"ort": ort, "openvino": [timing(openvino, 8.0)] * 3})


def test_a_slower_start_pays_after_as_many_steps_as_save_it():
    assert result(60.0).pays_from == pytest.approx(6.0)  # 6 s, at 1 s a step
    assert result(100.0).pays_from is None and result(80.0).pays_from is None


def test_the_table_has_medians_and_their_ratio():
    page = auto_rules.page([result(60.0), result(100.0)], 3)
    assert "| sd15 | 860 M | 512x512 | 4 s | 3 s | 0.75 | 2.00 s | 8.00 s | 6 steps | 2.00 GB | 2.00 GB |" in page
    assert "| 1.25 |" in page and "| never |" in page and "134,217,728 weights or more" in page


def test_engines_take_turns_in_processes_and_the_page_is_written_where_it_is_asked_for(tmp_path, monkeypatch):
    turns: list[str] = []

    def measure(path, size, candidate: Candidate) -> Timing:
        assert candidate.engines["vae_decoder"] == "ort" and size == (64, 48)
        turns.append(candidate.engines["unet"])
        return timing(1.0, 1.0)

    monkeypatch.setattr(auto_rules, "measure", measure)
    monkeypatch.setattr(auto_rules, "TABLE", auto_rules.ROOT / "benchmarks" / "never.md")
    package = tiny_package.make(tmp_path / "tiny")
    done = CliRunner().invoke(auto_rules.main, [str(package), "--rounds", "2"])
    assert done.exit_code == 0, done.output
    assert turns == ["ort", "openvino", "openvino", "ort"] and not auto_rules.TABLE.exists()
    monkeypatch.setattr(auto_rules, "TABLE", tmp_path / "table.md")
    assert CliRunner().invoke(auto_rules.main, [str(package), "--rounds", "1", "--write"]).exit_code == 0
    assert (tmp_path / "table.md").read_text(encoding="utf-8").startswith("# What `--engine auto` rests on")
