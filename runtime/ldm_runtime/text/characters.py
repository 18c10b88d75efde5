"""What CLIP's tokenizer knows of Unicode: NFC, white space, lower case, and which characters make words.

The tables are those of the `tokenizers` library, which has several versions of Unicode, and not Python's, which differ
from one Python to the next. Text of ASCII needs none of them.
"""

import functools
import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
LONG_RUN = 100  # characters
_SPACES = re.compile(f"[{SPACES}]+")
# One ASCII or Latin-1 character stands for all others of its kind: a letter, a number, what is neither; see `kinds`.
LETTER, NUMBER, OTHER = "\xaa", "\xb2", "\xa1"


def normalise(text: str) -> str:
    """Return NFC of `text`, with single spaces and in lower case."""
    return lower(_SPACES.sub(" ", nfc(text)))


def nfc(text: str) -> str:
    """Return NFC as in Unicode 9.

    Versions agree on what both know; what came later neither joins nor moves, so that it parts a text.
    """
    if unicodedata.is_normalized("NFC", text):
        return text
    return _canonical().sub(lambda run: _composed_run(run.group()), text)


def _composed_run(text: str) -> str:
    """Return NFC of characters that both versions know."""
    return unicodedata.normalize("NFC", _ordered(text) if len(text) > LONG_RUN else text)


def _ordered(text: str) -> str:
    """Return NFD in the time of sorting: Python's own takes quadratic time for a letter with thousands of marks."""
    apart = "".join(unicodedata.normalize("NFD", character) for character in text)
    groups = itertools.groupby(apart, key=lambda character: unicodedata.combining(character) > 0)
    return "".join("".join(sorted(group, key=unicodedata.combining) if marks else group) for marks, group in groups)


def lower(text: str) -> str:
    """Return each character's lower case by itself: a sigma at the end of a word is one like any other."""
    return text.lower() if text.isascii() else text.translate(_lower_table())


def kinds(text: str) -> str:
    """Replace letters and numbers beyond ASCII by `LETTER` and `NUMBER`, white space by a space, others by `OTHER`."""
    return text if text.isascii() else text.translate(_kinds())


def is_word(character: str) -> bool:
    """Return whether a character is part of a word: letters, marks, digits, connectors, joiners."""
    if character.isascii():
        return character.isalnum() or character == "_"
    return _Ranges.named("WORDS").holds(ord(character))


def places(text: str) -> list[int]:
    """Return where in `text` each character of `normalise(text)` comes from; near that where marks change places."""
    found: list[int] = []
    is_space = False
    for character, place in _composed(text):
        was_space, is_space = is_space, _SPACES.match(character) is not None
        if not (was_space and is_space):
            found += [place] * len(lower(character))
    return found


def _composed(text: str) -> Iterator[tuple[str, int]]:
    """Yield the characters of NFC, each with its place in `text`."""
    end = 0
    for run in () if unicodedata.is_normalized("NFC", text) else _canonical().finditer(text):
        yield from zip(text[end : run.start()], range(end, run.start()), strict=True)
        end = run.end()
        apart = [at for at in range(run.start(), end) for _ in unicodedata.normalize("NFD", text[at])]
        place = 0
        for character in _composed_run(run.group()):
            yield character, apart[place]
            place += len(unicodedata.normalize("NFD", character))
    yield from zip(text[end:], range(end, len(text)), strict=True)


@functools.cache
def _canonical() -> re.Pattern[str]:
    """Return the expression of what NFC may change, move or join."""
    spans = (f"{chr(first)}-{chr(end - 1)}" for first, end in _Ranges.named("CANONICAL").spans())
    return re.compile(f"[{''.join(spans)}]+")


@functools.cache
def _lower_table() -> dict[int, int | str]:
    from ldm_runtime.text import unicode_tables

    table: dict[int, int | str] = dict(unicode_tables.LONG_LOWER)
    numbers = iter(map(int, unicode_tables.LOWER.split()))
    first = 0
    for gap, count, step, change in zip(numbers, numbers, numbers, numbers, strict=True):
        first += gap
        table |= {point: point + change for point in range(first, first + count * step, step)}
    return table


class _Kinds(dict[int, str]):
    """The kinds of characters, by code point; each is looked up once."""

    def __missing__(self, point: int) -> str:
        if _Ranges.named("LETTERS").holds(point):
            kind = LETTER
        elif _Ranges.named("NUMBERS").holds(point):
            kind = NUMBER
        else:
            kind = " " if _SPACES.match(chr(point)) else OTHER
        self[point] = kind
        return kind


@functools.cache
def _kinds() -> _Kinds:
    return _Kinds({point: chr(point) for point in range(128)})


class _Ranges:
    """Ranges of code points."""

    def __init__(self, text: str) -> None:
        self._ends: list[int] = []  # the first of a range, one behind its last, the first of the next, …
        place = 0
        for number in map(int, text.split()):
            place += number
            self._ends.append(place)

    @staticmethod
    @functools.cache
    def named(name: str) -> "_Ranges":
        from ldm_runtime.text import unicode_tables  # read where a text goes beyond ASCII

        return _Ranges(getattr(unicode_tables, name))

    def holds(self, point: int) -> bool:
        return bisect_right(self._ends, point) % 2 == 1

    def spans(self) -> Iterator[tuple[int, int]]:
        return zip(self._ends[::2], self._ends[1::2], strict=True)
