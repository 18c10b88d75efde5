r"""The weighted prompt syntax: `(word:1.3)`, `(word)`, `[word]`, BREAK, and prompts longer than a window.

The definition, for a second implementation to follow:

1. `(text:w)` multiplies the weight of text by w, a decimal number from 0 to 10; `(text)` by 1.1; `[text]` by 1/1.1.
   They nest, and then multiply. `\(`, `\)`, `\[`, `\]`, `\\` are the characters themselves. A bracket that is never
   closed reaches to the end of the part; a closing one that was never opened is a character like any other, and
   so is a colon without a number and `)` after it.
2. The word BREAK, with white space or an end of the prompt on both sides, outside and inside of brackets, ends a part.
   A bracket open at BREAK is closed there.
3. Each stretch of text with one weight is tokenised by itself; a part is the tokens of its stretches in order. It
   fills as many windows of max_length - 2 tokens as it needs, at least one. Each window is begin token, tokens, end
   token, padding, and is encoded alone; the windows of a prompt are joined along the token axis.
4. In a window with a weight that is not 1, the embedding of each token is multiplied by its weight (begin, end and
   padding have 1), and then the whole window by a factor that restores its root mean square. Products are
   float32, the mean squares float64.
5. In a batch, and between a prompt and its negative, shorter ones are followed by windows of the empty prompt.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.tokenizer import Tokenizer

ROUND, SQUARE = 1.1, 1 / 1.1
MOST = 10.0
SYNTAXES = ("plain", "weighted")

_TOKENS = re.compile(
    r"\\[()\[\]\\]|:\s*([0-9]{1,4}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})\s*\)|[()\[\]]|(?<!\S)BREAK(?!\S)", re.ASCII
)


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
    """ids, int64 (max_length,), and the weight of each, float64 (max_length,)."""

    ids: np.ndarray
    weights: np.ndarray


def parse_prompt(prompt: str) -> list[list[Piece]]:
    """The parts of a prompt between BREAKs, each a list of pieces. InputError for a weight beyond 0 to 10."""
    parts: list[list[Piece]] = []
    for text in _split(prompt):
        parts.append(_parse_part(text))
    return parts


def windows(prompt: str, tokenizer: Tokenizer) -> list[Window]:
    """All windows of a prompt, at least one."""
    made = []
    for part in parse_prompt(prompt):
        ids: list[int] = []
        weights: list[float] = []
        for piece in part:
            tokens = tokenizer.tokens(piece.text)
            ids += tokens
            weights += [piece.weight] * len(tokens)
        room = tokenizer.room
        for start in range(0, max(len(ids), 1), room):
            kept = weights[start : start + room]
            row = tokenizer.window(ids[start : start + room])
            made.append(Window(row, np.array([1.0, *kept, *[1.0] * (len(row) - 1 - len(kept))])))
    return made


def weigh(embedding: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A window's embedding, float32 (T, D), times the weights of its tokens (T,); itself if all are 1."""
    if (weights == 1.0).all():
        return embedding
    weighted = embedding * weights.astype(np.float32)[:, None]
    before, after = (float(np.mean(np.square(array, dtype=np.float64))) for array in (embedding, weighted))
    if after == 0.0:
        raise InputError("every word of the prompt has weight 0; leave at least one that counts")
    restored: np.ndarray = weighted * np.float32(np.sqrt(before / after))
    return restored


def pad_windows(embeddings: Sequence[np.ndarray], most: int, empty: np.ndarray) -> list[np.ndarray]:
    """Embeddings (W_b, T, D), each followed by windows of the empty prompt, (T, D), up to `most` windows."""
    return [np.concatenate([one, *[empty[None]] * (most - len(one))]) for one in embeddings]


def _split(prompt: str) -> list[str]:
    """At the word BREAK; an escaped character cannot be part of it."""
    parts, start = [], 0
    for match in _TOKENS.finditer(prompt):
        if match.group() == "BREAK":
            parts.append(prompt[start : match.start()])
            start = match.end()
    return [*parts, prompt[start:]]


def _parse_part(text: str) -> list[Piece]:
    """Texts and brackets in order, each opening one with its factor once that is known; then the factors multiply."""
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
            close(_weight(match.group(1)))
        else:
            marks.append(token[1:] if token.startswith("\\") else token)
    marks.append(text[place:])
    pieces: list[tuple[str, float]] = []
    weights = [1.0]  # of the text now, and outside of each open bracket
    for mark in marks:
        if isinstance(mark, _Opening):
            weights.append(weights[-1] * mark.factor)
        elif mark is None:
            weights.pop()
        else:
            pieces.append((mark, weights[-1]))
    return _joined(pieces)


def _joined(pieces: list[tuple[str, float]]) -> list[Piece]:
    """Neighbours of one weight as one piece; empty ones go."""
    filled = [(text, weight) for text, weight in pieces if text != ""]
    groups = itertools.groupby(filled, key=lambda piece: piece[1])
    return [Piece("".join(text for text, _ in group), weight) for weight, group in groups]


def _weight(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= MOST:
        raise InputError(f"a weight in the prompt is {text}; expected a number from 0 to {MOST:g}")
    return value
