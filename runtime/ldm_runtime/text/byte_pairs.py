"""Byte-pair encoding of one word (Sennrich et al. 2016), over the bytes of its UTF-8 as GPT-2 makes them visible.

Of all neighbours that merge, the pair of the lowest rank is merged first, of equal ones the first in the word. A heap
finds it, so that a word of n letters takes n log n steps.
"""

import heapq
from collections.abc import Mapping

END_OF_WORD = "</w>"


def byte_alphabet() -> list[str]:
    """Return GPT-2's visible character of each of the 256 bytes, the printable bytes first, as in CLIP."""
    return [chr(byte) for byte in _printable()] + [chr(256 + index) for index in range(256 - len(_printable()))]


def _printable() -> list[int]:
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


def _visible() -> dict[int, str]:
    printable = _printable()
    return dict(
        zip([*printable, *(byte for byte in range(256) if byte not in printable)], byte_alphabet(), strict=True)
    )


_VISIBLE = _visible()
_CONTINUATIONS = frozenset(_VISIBLE[byte] for byte in range(0x80, 0xC0))


def visible(word: str) -> str:
    """Return one character for each byte of a word's UTF-8."""
    return word.encode().decode("latin-1").translate(_VISIBLE)


def is_continuation(character: str) -> bool:
    """Return whether a visible character stands for a byte of UTF-8 that begins no character."""
    return character in _CONTINUATIONS


def merge(symbols: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merge neighbours by their rank until none of them is a pair of `ranks`."""
    count = len(symbols)
    following, before = list(range(1, count + 1)), list(range(-1, count - 1))
    merged: list[str | None] = list(symbols)
    heap = [(ranks[pair], index) for index, pair in enumerate(zip(symbols, symbols[1:], strict=False)) if pair in ranks]
    heapq.heapify(heap)

    def rank(left: int) -> int | None:
        right = following[left] if left >= 0 else count
        return ranks.get((merged[left], merged[right])) if right < count else None  # type: ignore[arg-type]

    while heap:
        lowest, left = heapq.heappop(heap)
        if merged[left] is None or rank(left) != lowest:
            continue  # one of the two was merged in the meantime
        right = following[left]
        merged[left], merged[right] = f"{merged[left]}{merged[right]}", None
        following[left] = following[right]
        if following[left] < count:
            before[following[left]] = left
        for place in (before[left], left):
            new = rank(place)
            if new is not None:
                heapq.heappush(heap, (new, place))
    return [symbol for symbol in merged if symbol is not None]
