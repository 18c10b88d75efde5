"""Text to the token ids of CLIP's fast tokenizer, as the `tokenizers` library makes them.

1. Added tokens that are not `normalized` are looked for in the text as it is.
2. What stands between them is normalised (NFC, single spaces, lower case), and the other added tokens are looked for
   there, in their own normalised form.
3. The rest is split into words: the endings of English contractions, runs of letters, single numbers, runs of what is
   neither; white space is dropped.
4. Each word is encoded as byte pairs, its last byte with `</w>`.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ldm_runtime.text.added_tokens import AddedTokens
from ldm_runtime.text.byte_pairs import END_OF_WORD, is_continuation, merge, visible
from ldm_runtime.text.characters import LETTER, NUMBER, kinds, normalise, places
from ldm_runtime.text.clip_tokenizer import ClipTokenizer

# In what `characters.kinds` makes of a text.
_WORDS = f"'s|'t|'re|'ve|'m|'ll|'d|[A-Za-z{LETTER}]+|[0-9{NUMBER}]|[^ A-Za-z0-9{LETTER}{NUMBER}]+"
_WORD = re.compile(_WORDS)
# The marks that begin and end a text, in capitals for instance, are split as a text of their own.
_SPECIAL = re.compile(rf"(<\|)(startoftext|endoftext)(\|>)|{_WORDS}")


def words(text: str, pattern: re.Pattern[str] = _WORD) -> Iterator[tuple[int, str]]:
    """Yield the words of a normalised text with their places."""
    for match in pattern.finditer(kinds(text)):
        for group in (1, 2, 3) if match.lastindex == 3 else (0,):
            first, last = match.span(group)
            yield first, text[first:last]


@dataclass(frozen=True)
class _Span:
    """Tokens of a word, or an added token."""

    ids: list[int]
    start: int  # in the text: of the stretch that was normalised
    stretch: str
    place: int  # in the stretch's normal form
    symbols: list[str]


class ClipEncoder:
    """Encodes texts. It holds no state of a text: threads share it."""

    def __init__(self, clip: ClipTokenizer) -> None:
        self._ids = clip.vocabulary
        self._unknown = clip.unknown
        self._ranks = dict(zip(clip.merges, itertools.count(), strict=False))
        self._pattern = _SPECIAL if clip.splits_special else _WORD
        ordered = sorted(clip.added, key=lambda token: not token.special)
        self._added = AddedTokens((token.content, token) for token in ordered if not token.normalized)
        self._normalised = AddedTokens((normalise(token.content), token) for token in ordered if token.normalized)

    def encode(self, text: str) -> Iterator[int]:
        """Yield the ids of a text, without begin and end."""
        for span in self._spans(text):
            yield from span.ids

    def place_of(self, text: str, index: int) -> int:
        """Return where in the text token number `index` begins."""
        for span in self._spans(text):
            if index < len(span.ids):
                origin = places(span.stretch)
                place = span.place + (_begun(span.symbols, index) if span.symbols else 0)
                return span.start + origin[min(place, len(origin) - 1)]
            index -= len(span.ids)
        return len(text)

    def _spans(self, text: str) -> Iterator[_Span]:
        for start, end, token in self._added.split(text):
            stretch = text[start:end]
            if token is not None:
                yield _Span([token], start, stretch, 0, [])
                continue
            normal = normalise(stretch)
            for first, last, token in self._normalised.split(normal):
                if token is not None:
                    yield _Span([token], start, stretch, first, [])
                    continue
                for place, word in words(normal[first:last], self._pattern):
                    symbols = self._symbols(word)
                    yield _Span([self._ids[symbol] for symbol in symbols], start, stretch, first + place, symbols)

    def _symbols(self, word: str) -> list[str]:
        symbols = list(visible(word))
        symbols[-1] += END_OF_WORD
        if not all(map(self._ids.__contains__, symbols)):
            symbols = [known for each in symbols if (known := each if each in self._ids else self._unknown) is not None]
        return merge(symbols, self._ranks) if len(symbols) > 1 else symbols


def _begun(symbols: list[str], index: int) -> int:
    """Return at which character of a word symbol number `index` begins, or begins within."""
    text = "".join(symbols[:index]) + symbols[index][:1]
    return max(sum(not is_continuation(each) for each in text) - 1, 0)
