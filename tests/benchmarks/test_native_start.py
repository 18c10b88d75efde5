"""The start of contenders is measured as they say, and what cannot draw is named."""

import sys

import pytest

from benchmarks import native_start
from benchmarks.native_start import Contender, Measured, measure, measure_all, render
from ldm_runtime.errors import InputError


def says(*lines: str, last: str = "") -> Contender:
    program = "".join(f"print({line!r}, flush=True)\n" for line in lines) + last
    return Contender([sys.executable, "-S", "-c", program], 1_000_000)


def test_the_first_step_is_the_first_that_is_said():
    measured = measure("one", says("loading", "step 1 of 20", last="import time; time.sleep(0.3)"))
    assert measured.first is not None and measured.first + 0.3 <= measured.image
    assert measured.processor > 0.0 and 1e6 < measured.peak < 1e9


def test_a_tenth_step_is_not_the_first():
    assert measure("one", says("step 10 of 20")).first is None


def test_a_contender_that_fails_is_named_with_its_last_line():
    with pytest.raises(InputError, match="^one cannot draw: no weights$"):
        measure("one", says("step 1", last="raise SystemExit('no weights')"))


def test_rounds_alternate_and_the_first_does_not_count(monkeypatch):
    order = []

    def note(title: str, contender: Contender) -> Measured:
        order.append(title)
        return Measured(0.1, float(len(order)), 0.1, 2_000_000)

    monkeypatch.setattr(native_start, "measure", note)
    measured = measure_all({"a": says(), "b": says()}, 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert [run.image for run in measured["a"]] == [3.0, 6.0]


def test_ratios_are_within_a_round():
    table = {"a": says(), "b": says()}
    own, other = Measured(0.1, 1.0, 0.1, 3_000_000), Measured(None, 3.0, 0.1, 3_000_000)
    rows = render(table, {"a": [own, own], "b": [other, other]}).splitlines()
    assert rows[-1].startswith("| b | – | 3 (3 to 3) ") and rows[-1].endswith("| 2 (2 to 2) | 3.00 |")
