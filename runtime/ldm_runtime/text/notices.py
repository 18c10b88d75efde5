"""Notices about prompts, each one short sentence: text that is cut, and text that other programs read differently."""

import re
from collections.abc import Sequence

MOST_QUOTED = 60  # characters of a prompt in a sentence

# The syntax of other programs in a prompt, and why it is words here. Each pattern takes time linear in the text.
_NUMBER = r"\s*(?:\d+(?:\.\d*)?|\.\d+)\s*"
_EVERYWHERE = (
    (r"<(?:lora|lyco|hypernet):[^<>]*>", "prompts load no networks"),
    # [note: 3] is prose.
    (
        rf"(?<!\\)\[[^\[\]]*(?:[^\s\[\]]:(?!\s)|:[^\[\]:]*:){_NUMBER}\]",
        "a prompt stays the same for all steps",
    ),
    (r"(?<!\\)\[[^\[\]|]*\|[^\[\]]*\]", "words do not take turns"),
    # Between two words in capitals it is a word.
    (r"(?<!\w)(?:(?<![A-Z]\s)AND(?!\w)|AND(?!\w|\s+[A-Z]{2}))", "prompts are not combined"),
    (r":\s*[+-][.\d]+\s*\)", "a weight has no sign"),
    (r"\{[^{}|]*\|[^{}]*\}", "nothing is chosen at random"),
    # Python's own names are no lists of words.
    (r"(?<!\w)__(?!(?:init|main|doc|dict)__)[\w/.*-]{1,64}?__(?!\w)", "nothing is filled in"),
)
_PLAIN = (
    # (16:9), (Genesis 1:3) and (see fig: 2) are prose.
    (rf"\([^()]*(?:[^()\d\s]\s*:(?!\s){_NUMBER}|:\s*\d*\.\d+\s*)\)", "weights need the weighted syntax (--weighted)"),
    (r"(?<!\S)BREAK(?!\S)", "BREAK needs the weighted syntax (--weighted)"),
)
_WEIGHTED = ((r"(?<=\S)(?<!\w)BREAK(?!\w)|(?<!\w)BREAK(?!\w)(?=\S)", "BREAK needs white space on both sides"),)
_FOREIGN = {
    syntax: [(re.compile(pattern), reason) for pattern, reason in (*_EVERYWHERE, *own)]
    for syntax, own in (("plain", _PLAIN), ("weighted", _WEIGHTED))
}


def quoted(text: str) -> str:
    """Quote a text in a sentence, cut at the end of a word if it is long."""
    if len(text) <= MOST_QUOTED:
        return repr(text)
    start = text[:MOST_QUOTED]
    if not text[MOST_QUOTED].isspace():
        start = (start.rsplit(None, 1) or [""])[0]
    return repr(start.rstrip() + " …")


def text_names(what: str, texts: str | Sequence[str] | None) -> dict[str, str]:
    """Name each text of an argument for sentences: "the prompt", or "prompt 3" of several."""
    if texts is None:
        return {}
    listed = (texts,) if isinstance(texts, str) else tuple(texts)
    if len(listed) == 1:
        return {listed[0]: f"the {what}"}
    return first_names(listed, [f"{what} {number}" for number in range(1, len(listed) + 1)])


def first_names(texts: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Map each text to its name; equal texts have the first one's."""
    return dict(reversed(list(zip(texts, names, strict=True))))


def left_out(name: str, dropped: str, limit: int) -> str:
    """Make the notice that a text has more than `limit` tokens, how much was dropped and where that begins."""
    words = len(dropped.split())
    many = f"{words} word{'s' * (words != 1)} ({len(dropped)} character{'s' * (len(dropped) != 1)})"
    verb = "was" if words == 1 else "were"
    return f"{name} is longer than {limit} tokens; {many} {verb} left out: {quoted(dropped)}"


def read_as_words(name: str, text: str, syntax: str) -> list[str]:
    """Make a notice for each kind of syntax of other programs that is in a text."""
    found: dict[str, str] = {}
    for pattern, reason in _FOREIGN[syntax]:
        match = pattern.search(text)
        if match is not None:
            found.setdefault(reason, match.group())
    return [f"{quoted(what)} in {name} is read as words: {reason}" for reason, what in found.items()]
