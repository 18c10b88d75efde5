"""Which tokens of a window a caption's words are."""

from dataclasses import dataclass

from ldm_runtime.text.tokenizer import Tokenizer

BEGIN, CONCEPT, REST, END = "begin of text", "first part", "rest of the caption", "end and padding"


@dataclass(frozen=True)
class Word:
    """A word as it stands in a caption, without a comma after it, and its tokens' places in the window."""

    text: str
    places: list[int]
    ends_part: bool


def words_of(caption: str, tokenizer: Tokenizer) -> list[Word]:
    """Return the words that fit into a window."""
    found, place = [], 1
    for text in caption.split():
        bare = text.rstrip(",")
        count, whole = len(tokenizer.tokens(bare)), len(tokenizer.tokens(text))
        if place + whole > tokenizer.room + 1:
            break
        if count:
            found.append(Word(bare, list(range(place, place + count)), bare != text))
        place += whole
    return found


def without_first_part(caption: str) -> str:
    """Return what follows a caption's first part, "" where that is all of it."""
    words = caption.split()
    first = next((number for number, word in enumerate(words) if word.endswith(",")), len(words))
    return " ".join(words[first + 1 :])


def token_groups(caption: str, tokenizer: Tokenizer, window: int) -> dict[str, list[int]]:
    """Return the places of the begin, of a caption's first part (to its first comma), of its rest, and of the end."""
    words = words_of(caption, tokenizer)
    first = next((number for number, word in enumerate(words) if word.ends_part), len(words) - 1)
    concept = [place for word in words[: first + 1] for place in word.places]
    end = min(len(tokenizer.tokens(caption)), tokenizer.room) + 1
    rest = sorted({*range(1, end)} - {*concept})
    return {BEGIN: [0], CONCEPT: concept, REST: rest, END: list(range(end, window))}
