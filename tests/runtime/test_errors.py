"""The sentence of an error commands no terminal, has bytes in UTF-8, and survives the way between processes."""

import pickle

import pytest

from ldm_runtime import errors
from ldm_runtime.errors import MAX_MESSAGE, InputError, LdmError, PackageError, printable

HOSTILE = "a\x1b[2J\x00\r\x7f\x9b\u061c\u200f\u2028\u202e\u2066\ud800\udcff"
ESCAPED = r"a\x1b[2J\x00\x0d\x7f\x9b\u061c\u200f\u2028\u202e\u2066\ud800\udcff"


def test_what_commands_a_terminal_is_escaped():
    assert printable(HOSTILE) == ESCAPED
    assert printable(ESCAPED) == ESCAPED  # once is enough


@pytest.mark.parametrize("text", ["", "two\nlines\tand a tab", "naïve 日本語 עברית 👩\u200d🚀", r"C:\x1b"])
def test_other_text_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    "kind", [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, LdmError)]
)
def test_every_error_is_printable_and_picklable(kind):
    error = kind(f"{HOSTILE} is wrong")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == str(error) == f"{ESCAPED} is wrong"
    str(error).encode("utf-8")


def test_what_is_no_text_is_left_as_it_is():
    assert PackageError("x", 3).args == ("x", 3)


def test_a_long_message_keeps_its_beginning_and_end():
    sentence = str(InputError(f"the key {'x' * 100_000} is unknown; known are a, b"))
    assert len(sentence) <= MAX_MESSAGE
    assert sentence.startswith("the key xxx") and sentence.endswith("is unknown; known are a, b")
    assert "characters left out" in sentence


def test_a_message_that_fits_is_whole():
    assert str(InputError("y" * MAX_MESSAGE)) == "y" * MAX_MESSAGE
