"""The start of contenders is measured as they say, and what cannot draw is named."""

import sys
from pathlib import Path

import pytest

from benchmarks.start import measure as measuring
from benchmarks.start.contenders import Contender
from benchmarks.start.measure import Measured, measure, measure_all
from ldm_runtime.errors import InputError

SIZE = (2, 1)
IMAGE = b"P6 2 1 255\n" + bytes(range(6))


def says(out: Path, *lines: str, last: str = "", image: bytes = IMAGE, is_ours: bool = True) -> Contender:
    program = f"open({str(out)!r}, 'wb').write({image!r})\n"
    program += "".join(f"print({line!r}, flush=True)\n" for line in lines) + last
    return Contender([sys.executable, "-S", "-c", program], (), out, is_ours=is_ours)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "image.ppm"


def test_the_first_step_is_the_first_that_is_said(out):
    measured = measure("one", says(out, "loading", "step 1 of 20", last="import time; time.sleep(0.3)"), SIZE)
    assert measured.first is not None and 0 < measured.first < measured.image
    assert measured.processor > 0.0 and 1e6 < measured.peak < 1e9


def test_a_tenth_step_is_not_the_first(out):
    assert measure("one", says(out, "step 10 of 20"), SIZE).first is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process has mapped")
def test_code_is_what_the_process_runs_without_the_system_s_libraries(out):
    code = measure("one", says(out, "loading", last="import time; time.sleep(0.2); print('step 1')"), SIZE).code
    assert code[Path(sys.executable).resolve().name] == Path(sys.executable).resolve().stat().st_size
    assert not [name for name in code if name.startswith(("libc.", "libm.", "ld-linux"))]


def test_a_contender_that_fails_is_named_with_its_last_line(out):
    with pytest.raises(InputError, match="^one cannot draw: no weights$"):
        measure("one", says(out, "step 1", last="raise SystemExit('no weights')"), SIZE)


def test_an_image_of_before_is_not_taken_for_its_own(out):
    out.write_bytes(IMAGE)
    contender = Contender([sys.executable, "-S", "-c", "print('step 1')"], (), out)
    with pytest.raises(InputError, match="^one wrote no image$"):
        measure("one", contender, SIZE)


@pytest.mark.parametrize(
    "image, said",
    [
        (IMAGE.replace(b"2 1", b"1 2"), "one drew 1x2 pixels, expected 2x1"),
        (b"P6 2 1 255\n" + bytes(6), "one drew one colour: its numbers may be NaN"),
        (b"P6", "one wrote no image"),
    ],
)
def test_what_is_no_image_of_this_size_is_said(out, image, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        measure("one", says(out, "step 1", image=image), SIZE)


def test_rounds_alternate_and_the_first_does_not_count(out, monkeypatch):
    order = []

    def note(title: str, contender: Contender, size: tuple[int, int]) -> Measured:
        order.append(title)
        return Measured(0.1, float(len(order)), 0.1, 2_000_000, {})

    monkeypatch.setattr(measuring, "measure", note)
    first, second = measure_all({"a": says(out), "b": says(out)}, SIZE, 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert (first.title, [run.image for run in first.runs]) == ("a", [3.0, 6.0])
    assert (second.title, [run.image for run in second.runs]) == ("b", [4.0, 5.0])


def test_another_s_that_cannot_draw_is_left_out_and_ours_is_an_error(out):
    fails = "raise SystemExit('no weights')"
    table = {
        "ours": says(out, "step 1"),
        "theirs": says(out, last=fails, is_ours=False),
        "absent": "it is not installed",
    }
    rows = measure_all(table, SIZE, 1)
    assert [row.reason for row in rows] == [None, "theirs cannot draw: no weights", "it is not installed"]
    assert [len(row.runs) for row in rows] == [1, 0, 0]
    with pytest.raises(InputError, match="^ours cannot draw: no weights$"):
        measure_all({"ours": says(out, last=fails)}, SIZE, 1)
