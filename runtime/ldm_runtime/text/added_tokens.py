"""Tokens that stand for themselves wherever they are in a text, such as those of textual inversion."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ldm_runtime.text import characters

_SPACES = re.compile(f"[{characters.SPACES}]*")


@dataclass(frozen=True)
class AddedToken:
    """A string that is one token wherever it stands. The fields are those of `tokenizers`."""

    id: int
    content: str
    single_word: bool  # only where no letter or digit touches it
    lstrip: bool  # takes the white space before it
    rstrip: bool
    normalized: bool  # is looked for in the normalised text, in its own normalised form
    special: bool


class AddedTokens:
    """Looks for tokens in a text: the first, of several at one place the longest, and goes on behind it."""

    def __init__(self, tokens: Iterable[tuple[str, AddedToken]]) -> None:
        """tokens: with the text to look for; of equal texts the first counts."""
        self._tokens: dict[str, AddedToken] = {}
        for text, token in tokens:
            self._tokens.setdefault(text, token)
        lengths: dict[str, set[int]] = {}
        for text in self._tokens:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(each, reverse=True) for first, each in lengths.items()}
        self._first = re.compile("[" + "".join(map(re.escape, lengths)) + "]") if lengths else None

    def split(self, text: str) -> Iterator[tuple[int, int, int | None]]:
        """Yield the begin and end of each stretch of a text, and the id of a token there."""
        end = 0
        for start, stop, token in self._found(text):
            if token.single_word and _is_in_a_word(text, start, stop):
                continue
            if token.lstrip:
                start = max(len(text[:start].rstrip(characters.SPACES)), end)
            if token.rstrip:
                stop = _SPACES.match(text, stop).end()  # type: ignore[union-attr]
            if end < start:
                yield end, start, None
            if start < stop:  # not where the token before has taken all of it
                yield start, stop, token.id
            end = stop
        if end < len(text):
            yield end, len(text), None

    def _found(self, text: str) -> Iterator[tuple[int, int, AddedToken]]:
        match = self._first.search(text) if self._first else None
        while match is not None and self._first is not None:
            start = next_ = match.start()
            for length in self._lengths[match.group()]:
                found = text[start : start + length]  # shorter at the end of the text
                if found in self._tokens:
                    next_ = start + len(found)
                    yield start, next_, self._tokens[found]
                    break
            match = self._first.search(text, max(next_, start + 1))


def _is_in_a_word(text: str, start: int, stop: int) -> bool:
    return start > 0 and characters.is_word(text[start - 1]) or stop < len(text) and characters.is_word(text[stop])
