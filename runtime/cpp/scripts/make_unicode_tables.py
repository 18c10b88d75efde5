"""Write the Unicode tables of both runtimes: `python runtime/cpp/scripts/make_unicode_tables.py`.

CLIP's token ids are those of the `tokenizers` library, and that library holds several versions of Unicode: NFC is that
of Unicode 9, letters, numbers and white space are of Unicode 16, lower case is of Unicode 17 (tokenizers 0.22.2). What
it knows is asked of it here, for every code point; decompositions and combining classes, which Unicode never changes,
are Python's own for the characters that the library knows. So the tables do not depend on the version of Python.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "runtime" / "ldm_runtime" / "text" / "unicode_tables.py"
CPP = ROOT / "runtime" / "cpp" / "core" / "text" / "unicode_tables.cpp"

# All planes with characters but for private ones; the other planes are empty in every version so far.
POINTS = [point for point in (*range(0x40000), *range(0xE0000, 0xE1000)) if not 0xD800 <= point < 0xE000]
HANGUL, JAMO = range(0xAC00, 0xD7A4), (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
BLOCK = 128  # code points in a block of the two-level table


@dataclass(frozen=True)
class Unicode:
    """What the library knows. lower: where it differs. pairs: canonical decompositions of one level, not Hangul's."""

    letters: set[int]
    numbers: set[int]
    spaces: set[int]
    words: set[int]  # what a token of a single word must not touch
    lower: dict[int, tuple[int, ...]]
    combining: dict[int, int]
    pairs: dict[int, tuple[int, ...]]
    composed: set[int]  # of `pairs`: those that NFC makes

    @property
    def canonical(self) -> set[int]:
        """Return all characters that NFC may change, move, or make of or join to others."""
        joined = {part for point in self.composed for part in self.pairs[point]}
        return {*self.combining, *self.pairs, *joined, *HANGUL, *JAMO}


def ask() -> Unicode:
    """Ask the library."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    lines = _mapped(nfd)
    changed = {point: text for point, text in zip(POINTS, lines, strict=True) if text != chr(point)}
    pairs = {point: _decomposition(point) for point in changed if point not in HANGUL}
    for point, text in changed.items():
        assert unicodedata.normalize("NFD", chr(point)) == text
    composed = {
        point for point, pair in pairs.items() if nfc.normalize_str("".join(map(chr, pair))) == chr(point) and pair[1:]
    }
    everything = "".join(map(chr, POINTS))
    words, spaces = _words(everything)
    assert spaces == _matched(r"\s+", everything)
    return Unicode(
        letters=_matched(r"\p{L}+", everything),
        numbers=_matched(r"\p{N}+", everything),
        spaces=spaces,
        words=words,
        lower={
            point: tuple(map(ord, text))
            for point, text in zip(POINTS, _mapped(normalizers.Lowercase()), strict=True)
            if text != chr(point)
        },
        combining=_combining(nfc),
        pairs=pairs,
        composed=composed,
    )


def _mapped(normalizer: normalizers.Normalizer) -> Iterator[str]:
    """Yield what becomes of each code point, alone in its line."""
    for start in range(0, len(POINTS), 4096):
        some = POINTS[start : start + 4096]
        lines = normalizer.normalize_str("\n".join("x" if point == 10 else chr(point) for point in some)).split("\n")
        yield from ("\n" if point == 10 else line for point, line in zip(some, lines, strict=True))


def _decomposition(point: int) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in unicodedata.decomposition(chr(point)).split())


def _combining(nfc: normalizers.Normalizer) -> dict[int, int]:
    """Return combining classes other than 0: the library moves such a character behind one of a smaller class."""
    known = {}
    for probe, classes in (("\u0334", range(2, 256)), ("\u0345", range(1, 2))):  # of class 1, of class 240
        for start in range(0, len(POINTS), 4096):
            some = [point for point in POINTS[start : start + 4096] if point != 10]
            text = [chr(point) + probe if classes[0] > 1 else probe + chr(point) for point in some]
            lines = nfc.normalize_str("\n".join("|" + each for each in text)).split("\n")
            for point, each, line in zip(some, text, lines, strict=True):
                if line == "|" + each[::-1] and unicodedata.combining(chr(point)) in classes:
                    known[point] = unicodedata.combining(chr(point))
    return known


def _matched(pattern: str, text: str) -> set[int]:
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return {ord(each) for piece, _ in split.pre_tokenize_str(text) for each in piece}


def _words(text: str) -> tuple[set[int], set[int]]:
    r"""Return \w and \s of the expressions that look for added tokens, which are of another library again."""
    pieces = [piece for piece, _ in pre_tokenizers.Whitespace().pre_tokenize_str("".join(f"{each}a " for each in text))]
    words = {ord(piece[0]) for piece in pieces if len(piece) == 2}
    return words, {ord(each) for each in text} - {ord(each) for piece in pieces for each in piece}


def ranges(points: Iterable[int]) -> list[tuple[int, int]]:
    """Return ranges of code points: the first, and one behind the last."""
    found: list[list[int]] = []
    for point in sorted(points):
        if found and found[-1][1] == point:
            found[-1][1] += 1
        else:
            found.append([point, point + 1])
    return [(first, end) for first, end in found]


# --- Python ---


def python_module(known: Unicode) -> str:
    """Return the module's text. Numbers are differences to the one before: read it with `unicode_data`."""
    lines = [
        '"""Unicode as CLIP\'s tokenizer knows it: written by runtime/cpp/scripts/make_unicode_tables.py.',
        "",
        "Ranges: the gap from the last one's end to the first character, then the number of characters. LOWER: runs of",
        "the gap from the last one's start, the number of characters, the step between them, and what lower case adds.",
        '"""',
    ]
    for name, points in (
        ("LETTERS", known.letters),
        ("NUMBERS", known.numbers),
        ("WORDS", known.words),
        ("CANONICAL", known.canonical),
    ):
        numbers, before = [], 0
        for first, end in ranges(points):
            numbers += [first - before, end - first]
            before = end
        lines += ["", f"{name} = (", *_wrapped(numbers), ")"]
    lines += ["", "LOWER = (", *_wrapped(list(_lower_runs(known.lower))), ")"]
    long = {point: text for point, text in known.lower.items() if len(text) > 1}
    texts = [f"0x{point:X}: {json.dumps(''.join(map(chr, text)))}" for point, text in long.items()]
    return "\n".join([*lines, f"LONG_LOWER = {{{', '.join(texts)}}}", ""])


def _lower_runs(lower: dict[int, tuple[int, ...]]) -> Iterator[int]:
    runs: list[list[int]] = []  # first, count, step, delta
    for point, text in sorted(lower.items()):
        if len(text) > 1:
            continue
        delta = text[0] - point
        if runs:
            first, count, step, same = runs[-1]
            gap = point - (first + (count - 1) * step)
            if same == delta and (gap == step if count > 1 else gap <= 2):
                runs[-1] = [first, count + 1, gap, delta]
                continue
        runs.append([point, 1, 1, delta])
    before = 0
    for first, count, step, delta in runs:
        yield from (first - before, count, step, delta)
        before = first


def _wrapped(numbers: list[int]) -> Iterator[str]:
    line = ""
    for number in numbers:
        if len(line) + len(str(number)) > 110:
            yield f'    "{line}"'
            line = ""
        line += f"{number} "
    yield f'    "{line}"'


# --- C++ ---

HEAD = """// Unicode as CLIP's tokenizer knows it: written by runtime/cpp/scripts/make_unicode_tables.py.
#include "core/text/unicode_tables.h"

namespace ldm::unicode {
"""


def cpp_file(known: Unicode) -> str:
    """Return the source: a record for each code point by two levels, and the canonical pairs."""
    records: dict[tuple[int, int, int], int] = {(0, 0, 0): 0}
    pairs = {point: pair for point, pair in sorted(known.pairs.items())}
    seconds = {known.pairs[point][1] for point in known.composed}
    firsts = {known.pairs[point][0] for point in known.composed}
    flags = (
        (known.letters, 1), (known.numbers, 2), (known.spaces, 4), (known.words, 8), ({*pairs}, 16), (firsts, 32),
        (seconds, 64),
    )  # fmt: skip
    blocks: dict[tuple[int, ...], int] = {}
    index = []
    for start in range(0, 0x110000, BLOCK):
        block = []
        for point in range(start, start + BLOCK):
            lower = known.lower.get(point, (point,))
            delta = lower[0] - point if len(lower) == 1 else 0
            bits = sum(bit for points, bit in flags if point in points) + 128 * (len(lower) > 1)
            record = (bits, known.combining.get(point, 0), delta)
            block.append(records.setdefault(record, len(records)))
        index.append(blocks.setdefault(tuple(block), len(blocks)))
    assert len(records) <= 256 and len(blocks) <= 256
    while index[-1] == index[-2]:
        index.pop()
    composed = sorted(known.composed, key=lambda point: pairs[point])
    place = {point: at for at, point in enumerate(pairs)}
    lines = [HEAD]
    lines += _array("const Record records[]", [f"{{{b}, {c}, {d}}}" for b, c, d in records])
    lines += [f"const std::size_t blocks = {len(index)};", ""]
    lines += _array("const std::uint8_t block_of[]", index)
    lines += _array("const std::uint8_t record_of[]", [record for block in blocks for record in block])
    lines += [f"const std::size_t pair_count = {len(pairs)};", ""]
    lines += _array("const Pair pairs[]", [f"{{{p}, {v[0]}, {v[1] if v[1:] else 0}}}" for p, v in pairs.items()])
    lines += [f"const std::size_t composed_count = {len(composed)};", ""]
    lines += _array("const std::uint16_t composed[]", [place[point] for point in composed])
    return "\n".join([*lines, "}  // namespace ldm::unicode", ""])


def _array(head: str, values: Iterable[object]) -> list[str]:
    lines, line = [], "   "
    for value in values:
        if len(line) + len(str(value)) + 2 > 120 and line.strip():
            lines.append(line)
            line = "   "
        line += f" {value},"
    return [f"{head} = {{", *lines, line, "};", ""]


def main() -> None:
    """Write both."""
    known = ask()
    PYTHON.write_text(python_module(known), encoding="ascii")
    CPP.write_text(cpp_file(known), encoding="ascii")


if __name__ == "__main__":
    main()
