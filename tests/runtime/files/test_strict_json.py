"""What no JSON of ours has is refused in one short sentence, whoever reads the file."""

import json
import time

import pytest

from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json

BAD = {
    "a key twice": ('{"a": 1, "a": 2}', "'a' is given twice"),
    "a long key twice": (f'{{"{"a" * 9999}": 1, "{"a" * 9999}": 2}}', "is given twice"),
    "NaN": ("[NaN]", "NaN is not a JSON number"),
    "a number beyond float64": ("[1e400]", "'1e400' is too large for a float64"),
    "a negative one": ("[-1e400]", "'-1e400' is too large"),
    "an integer of 5,000 digits": (f"[{'9' * 5000}]", "it has an integer of thousands of digits"),
    "half a surrogate pair": (r'["\ud800"]', "half of a character"),
    "the other half, in a key": (r'{"a": [{"\uDFFF": 1}]}', "half of a character"),
    "half a pair as it is": ('["\udc80"]', "half of a character"),
    "deep lists": ("[" * 65 + "]" * 65, "expected at most 64 levels"),
    "deep objects": ('{"a":' * 65 + "1" + "}" * 65, "expected at most 64 levels"),
    "very deep lists": ("[" * 200_000, "nests its JSON too deeply"),
    "no end": ('{"a": ', "not valid JSON at line 1, column 7"),
    "nothing": ("", "not valid JSON at line 1"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=f"^some.json .*{message}") as caught:
        strict_json.parse(text, "some.json")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [r'["\ud83c\udf4e"]', r'["\\ud800"]', f"[{'9' * 4000}]", "[1e308, 1e-400]", "[" * 64 + "]" * 64, '["\U0001f34e"]'],
    ids=["a whole pair", "an escaped backslash", "4,000 digits", "the largest float", "64 levels", "beyond 16 bits"],
)
def test_what_is_at_the_edge_is_read(text: str) -> None:
    assert strict_json.parse(text, "x") == json.loads(text)


def test_infinity_passes_only_where_it_is_asked_for() -> None:
    assert strict_json.parse("[-Infinity, 1e999]", "x", infinity=True) == [-float("inf"), float("inf")]
    with pytest.raises(FormatError, match="-Infinity is not a JSON number"):
        strict_json.parse("[-Infinity]", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}".encode("utf-16"), "not UTF-8 at byte 0"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"\xed\xa0\x80", "not UTF-8 at byte 0"),
        ("\ufeff{}".encode(), "begins with a byte order mark"),
    ],
    ids=["UTF-16", "Latin-1", "a surrogate", "a byte order mark"],
)
def test_bytes_that_are_no_utf8_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        strict_json.decode(content, "some.json")


def test_a_large_file_takes_a_moment() -> None:
    text = json.dumps({f"key {index}": [index, "\\ud800"] for index in range(50_000)})
    start = time.process_time()
    strict_json.parse(text, "x")
    assert time.process_time() - start < 3  # 0.1 s on a quiet machine


def test_where_a_value_stands_is_spelt_for_an_error_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match=r"x\['a'\]\[1\] must be an integer"):
        strict_json.read(dict[str, tuple[int, ...]], {"a": [1, "2"]}, "x")
    monkeypatch.setattr(strict_json, "shown", lambda value: pytest.fail(f"spelt {value}"))
    assert strict_json.read(dict[str, tuple[int, ...]], {"a": [1, 2]}, "x") == {"a": (1, 2)}


@pytest.mark.parametrize("text", ["[1 , ]", '{"a": 1, }'])
def test_trailing_commas_are_told_alike_by_every_python(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 and newer complain of the comma, older ones of what follows it."""
    with pytest.raises(FormatError) as older:
        strict_json.parse(text, "a.json")
    kind = "array" if text.startswith("[") else "object"
    newer = json.JSONDecodeError(f"Illegal trailing comma before end of {kind}", text, text.index(","))

    def complain(*arguments: object, **options: object) -> None:
        raise newer

    monkeypatch.setattr(json, "loads", complain)
    with pytest.raises(FormatError) as found:
        strict_json.parse(text, "a.json")
    assert str(found.value) == str(older.value) and "expected a" in str(found.value)
