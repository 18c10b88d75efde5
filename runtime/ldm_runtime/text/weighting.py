r"""The weighted prompt syntax: `(word:1.3)`, `(word)`, `[word]`, BREAK, and prompts longer than a window.

The definition, for a second implementation to follow:

1. `(text:w)` multiplies the weight of text by w, a decimal number from 0 to 10; `(text)` by 1.1; `[text]` by 1/1.1.
   They nest, and then multiply; a product is 0, or from 0.000001 to 100, and anything else is refused. `\(`, `\)`,
   `\[`, `\]`, `\\` are the characters themselves. A bracket that is never closed reaches to the end of the part; a
   closing one that was never opened is a character like any other, and so is a colon without a number and `)` after it.
2. The word BREAK, with white space or an end of the prompt on both sides, outside and inside of brackets, ends a part.
   A bracket open at BREAK is closed there.
3. Each stretch of text with one weight is tokenised by itself; a part is the tokens of its stretches in order. It
   fills as many windows of max_length - 2 tokens as it needs, at least one. Where a window is full, the next token is
   no comma and the last comma is among the window's last 20 tokens, what stands after that comma moves to the next
   window; a comma that comes when the window before is full does not count. The tokens of one textual inversion stay
   in one window. Each window is begin token, tokens, end token, padding, and is encoded alone; the windows of a
   prompt are joined along the token axis. A prompt all of whose tokens have weight 0 is refused.
4. In a window with a weight that is not 1, the embedding of each token is multiplied by its weight (begin, end and
   padding have 1), and then the whole window by a factor that restores its root mean square. Products are
   float32, the mean squares float64.
5. In a batch, and between a prompt and its negative, shorter ones are followed by windows of the empty prompt.
"""

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError
from ldm_runtime.text.tokenizer import Tokenizer

ROUND, SQUARE = 1.1, 1 / 1.1
MOST = 10.0  # one weight
LEAST_PRODUCT, MOST_PRODUCT = 1e-6, 100.0  # the weights of nested brackets, unless it is 0
COMMA_BACKTRACK = 20  # tokens that may move to the next window, as in AUTOMATIC1111's web UI
SYNTAXES = ("plain", "weighted")

_TOKENS = re.compile(r"\\[()\[\]\\]|:\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*\)|[()\[\]]|(?<!\S)BREAK(?!\S)", re.ASCII)


@dataclass(frozen=True)
class Piece:
    """A stretch of text with one weight."""

    text: str
    weight: float


@dataclass
class _Opening:
    """An opening bracket; its factor is another one if it closes with a number."""

    bracket: str
    factor: float


@dataclass(frozen=True)
class Window:
    """One window: ids, int64 (max_length,), and the weight of each, float64 (max_length,)."""

    ids: np.ndarray
    weights: np.ndarray


def parse_prompt(prompt: str, name: str = "the prompt") -> list[list[Piece]]:
    """Split a prompt at its BREAKs into parts, each a list of pieces.

    name: what an error calls the prompt. Raises InputError for a weight, or a product of them, that is out of range.
    """
    return [_parse_part(text, name) for text in _split(prompt)]


def windows(prompt: str, tokenizer: Tokenizer, name: str = "the prompt") -> list[Window]:
    """Return all windows of a prompt, at least one.

    Raises InputError for a prompt that cannot be read, is too long, or has weight 0 everywhere.
    """
    if tokenizer.room < 1:
        raise InputError(
            "the package's text encoder has windows without room for words; use the plain syntax", code="request.prompt"
        )
    filled = []
    for part in parse_prompt(tokenizer.check(prompt, name), name):
        units = ((unit, piece.weight) for piece in part for unit in tokenizer.units(piece.text, name))
        filled += list(_fill(units, tokenizer.room, tokenizer.comma))
    weights = [weight for _, kept in filled for weight in kept]
    if weights and not any(weights):
        raise InputError(f"every word of {name} has weight 0; leave at least one that counts", code="request.prompt")
    return [_window(ids, kept, tokenizer) for ids, kept in filled]


def _fill(
    units: Iterator[tuple[Sequence[int], float]], room: int, comma: int | None
) -> Iterator[tuple[list[int], list[float]]]:
    """Fill windows of at most `room` tokens and their weights, at least one.

    units: tokens that stay together, mostly one, with their weight.
    """
    ids: list[int] = []
    weights: list[float] = []
    last = -1  # where the last comma of this window is
    for unit, weight in units:
        if len(ids) < room and unit[0] == comma:
            last = len(ids)
        elif len(ids) == room and unit[0] != comma and last != -1 and room - last <= COMMA_BACKTRACK:
            cut, last = last + 1, -1
            yield ids[:cut], weights[:cut]
            ids, weights = ids[cut:], weights[cut:]
        for tokens in (unit,) if len(unit) <= room else [(token,) for token in unit]:
            if len(ids) + len(tokens) > room:
                yield ids, weights
                ids, weights, last = [], [], -1
            ids += tokens
            weights += [weight] * len(tokens)
    yield ids, weights


def _window(ids: list[int], weights: list[float], tokenizer: Tokenizer) -> Window:
    row = tokenizer.window(ids)
    return Window(row, np.array([1.0, *weights, *[1.0] * (len(row) - 1 - len(weights))]))


def weigh(embedding: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply a window's embedding, float32 (T, D), by the weights of its tokens (T,); return it if all are 1."""
    if (weights == 1.0).all():
        return embedding
    weighted = embedding * weights.astype(np.float32)[:, None]
    before, after = (float(np.mean(np.square(array, dtype=np.float64))) for array in (embedding, weighted))
    if after == 0.0:  # nothing to restore
        return weighted
    restored: np.ndarray = weighted * np.float32(np.sqrt(before / after))
    return restored


def pad_windows(embeddings: Sequence[np.ndarray], most: int, empty: np.ndarray) -> list[np.ndarray]:
    """Append windows of the empty prompt, (T, D), to each of the embeddings (W_b, T, D), up to `most` windows."""
    return [np.concatenate([one, *[empty[None]] * (most - len(one))]) for one in embeddings]


def _split(prompt: str) -> list[str]:
    """Split at the word BREAK; an escaped character cannot be part of it."""
    parts, start = [], 0
    for match in _TOKENS.finditer(prompt):
        if match.group() == "BREAK":
            parts.append(prompt[start : match.start()])
            start = match.end()
    return [*parts, prompt[start:]]


def _parse_part(text: str, name: str) -> list[Piece]:
    """Read texts and brackets in order, each opening one with its factor once that is known; then multiply factors."""
    marks: list[str | _Opening | None] = []  # a text, an opening bracket, or None for a closing one
    opened: list[_Opening] = []

    def close(factor: float) -> None:
        opened.pop().factor = factor
        marks.append(None)

    place = 0
    for match in _TOKENS.finditer(text):
        marks.append(text[place : match.start()])
        place = match.end()
        token = match.group()
        innermost = opened[-1].bracket if opened else ""
        if token in ("(", "["):
            opened.append(_Opening(token, ROUND if token == "(" else SQUARE))
            marks.append(opened[-1])
        elif (innermost, token) in (("(", ")"), ("[", "]")):
            close(opened[-1].factor)
        elif token.startswith(":") and innermost == "(":
            close(_weight(match.group(1), name))
        else:
            marks.append(token[1:] if token.startswith("\\") else token)
    marks.append(text[place:])
    pieces: list[tuple[str, float]] = []
    weights = [1.0]  # the current text's, and those outside of each open bracket
    for mark in marks:
        if isinstance(mark, _Opening):
            weights.append(_product(weights[-1], mark.factor))
        elif mark is None:
            weights.pop()
        else:
            pieces.append((mark, weights[-1]))
    joined = _joined(pieces)
    for piece in joined:
        _check_product(piece, name)
    return joined


def _joined(pieces: list[tuple[str, float]]) -> list[Piece]:
    """Join neighbours of one weight to one piece; drop empty ones."""
    filled = [(text, weight) for text, weight in pieces if text != ""]
    groups = itertools.groupby(filled, key=lambda piece: piece[1])
    return [Piece("".join(text for text, _ in group), weight) for weight, group in groups]


def _weight(text: str, name: str) -> float:
    value = float(text)
    if not 0.0 <= value <= MOST:
        raise InputError(
            f"a weight in {name} is {_short(text)}; expected a number from 0 to {MOST:g}", code="request.prompt"
        )
    if value != 0.0 and value < LEAST_PRODUCT:
        raise InputError(
            f"a weight in {name} is {_short(text)}; expected 0, or {LEAST_PRODUCT:f} at least", code="request.prompt"
        )
    return value


def _product(outside: float, factor: float) -> float:
    """Multiply factors; the product is 0 only if one of them is: what overflows or underflows is to be refused."""
    return 0.0 if outside == 0.0 or factor == 0.0 else max(outside * factor, sys.float_info.min)


def _check_product(piece: Piece, name: str) -> None:
    if piece.weight != 0.0 and not LEAST_PRODUCT <= piece.weight <= MOST_PRODUCT:
        beyond = f"more than {MOST_PRODUCT:g}" if piece.weight > 1.0 else f"less than {LEAST_PRODUCT:f}"
        raise InputError(
            f"the brackets around {shown(piece.text)} in {name} multiply to a weight of {beyond}; use fewer of them",
            code="request.prompt",
        )


def _short(number: str) -> str:
    return number if len(number) <= 20 else f"{number[:17]}..."
