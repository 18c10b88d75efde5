"""Captions without one of their words or parts."""

import re
from dataclasses import dataclass

from ldm_export.analyze.pictures import Pictures

_WORD = re.compile(r"\w[\w'’-]*")


def without_words(caption: str, most: int) -> list[tuple[str, str]]:
    """Return each of at most `most` words of a caption, and the caption without it."""
    return [(each.group(), _tidy(caption[: each.start()] + caption[each.end() :])) for each in _words(caption)[:most]]


def count_words(caption: str) -> int:
    return len(_words(caption))


def _words(caption: str) -> list[re.Match[str]]:
    return list(_WORD.finditer(caption))


def _tidy(text: str) -> str:
    """Take out what a missing word leaves: spaces in a row, before a comma, and commas at an end."""
    return re.sub(r"(,\s*)+", ", ", re.sub(r"\s+(?=[\s,])", "", text)).strip(" ,")


@dataclass(frozen=True)
class Part:
    """A part of captions, such as the style: each image's caption without it, and with nothing else.

    A caption that lacks the part, as where the background is plain, stays as it is; alone it is "".
    """

    without: tuple[str, ...]
    alone: tuple[str, ...]


def caption_parts(pictures: Pictures) -> dict[str, Part]:
    """Return level -> that part of the captions; {} where they have no parts."""
    levels = pictures.parts()
    if "background" in levels:
        levels["background"] = tuple(f"{ground} background" if ground else "" for ground in pictures.backgrounds)
    places = range(len(pictures))

    def without(missing: str) -> tuple[str, ...]:
        others = [labels for name, labels in levels.items() if name != missing]
        return tuple(", ".join(labels[place] for labels in others if labels[place]) for place in places)

    return {name: Part(without(name), labels) for name, labels in levels.items()}
