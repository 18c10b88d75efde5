"""What a run has to say beside its result, each as one short sentence: text that is cut or not understood, arguments
without effect.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ldm_runtime.checks import given
from ldm_runtime.request import Request

MOST_QUOTED = 60  # characters of a prompt in a sentence

# What other programs read in a prompt, and why it is words here. Each pattern takes time linear in the text.
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
    """A text for a sentence, cut at the end of a word if it is long."""
    if len(text) <= MOST_QUOTED:
        return repr(text)
    start = text[:MOST_QUOTED]
    if not text[MOST_QUOTED].isspace():
        start = (start.rsplit(None, 1) or [""])[0]
    return repr(start.rstrip() + " …")


def text_names(what: str, texts: str | Sequence[str] | None) -> dict[str, str]:
    """What sentences call each text of an argument: "the prompt", or "prompt 3" of several."""
    if texts is None:
        return {}
    listed = (texts,) if isinstance(texts, str) else tuple(texts)
    if len(listed) == 1:
        return {listed[0]: f"the {what}"}
    return first_names(listed, [f"{what} {number}" for number in range(1, len(listed) + 1)])


def first_names(texts: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Text -> name; of equal texts the first one's."""
    return dict(reversed(list(zip(texts, names, strict=True))))


def left_out(name: str, dropped: str, limit: int) -> str:
    """That a text has more than `limit` tokens, how much was dropped and where that begins."""
    words = len(dropped.split())
    many = f"{words} word{'s' * (words != 1)} ({len(dropped)} character{'s' * (len(dropped) != 1)})"
    verb = "was" if words == 1 else "were"
    return f"{name} is longer than {limit} tokens; {many} {verb} left out: {quoted(dropped)}"


def read_as_words(name: str, text: str, syntax: str) -> list[str]:
    """What looks like the language of other programs, one sentence for each kind."""
    found: dict[str, str] = {}
    for pattern, reason in _FOREIGN[syntax]:
        match = pattern.search(text)
        if match is not None:
            found.setdefault(reason, match.group())
    return [f"{quoted(what)} in {name} is read as words: {reason}" for reason, what in found.items()]


def without_effect(request: Request, *, negative: Any, seed: Any) -> list[str]:
    """Which arguments of a run change nothing. negative, seed: as the caller gave them, or None."""
    said = _without_guidance(request, negative) + _without_noise(request, seed)
    if request.prompts is None and request.syntax != "plain" and (negative is None or not request.is_guided):
        said.append("syntax has no effect: there is no text to read")
    if _is_painted_over(request):
        said.append("image has no effect: the mask is white everywhere and strength is 1")
    return said


def _without_guidance(request: Request, negative: Any) -> list[str]:
    low, high = request.guidance_interval
    given_ = {"negative": negative is not None, "guidance_rescale": request.guidance_rescale > 0.0}
    if not request.is_guided:
        given_["guidance_interval"] = (low, high) != (0.0, 1.0)
        reason = f"has no effect with guidance {request.guidance:g}; it needs more than 1"
    elif not any(request.is_guided_at(row) for row in range(len(request.plan.rows))):
        given_ = {"guidance": True, **given_}
        reason = (
            f"has no effect: none of {len(request.plan.rows)} steps is in the guidance interval {low:g} to {high:g}"
        )
    else:
        return []
    return [f"{name} {reason}" for name, is_given in given_.items() if is_given]


def _without_noise(request: Request, seed: Any) -> list[str]:
    """The seed and the kind of noise where none is drawn, and a way of length 0 or 1 to other noise."""
    said = []
    strength = None if request.variation is None else request.variation[1]
    if strength == 0.0:
        said.append("variation has no effect with strength 0")
    if strength == 1.0 and request.latents is not None:
        said.append("latents has no effect: variation has strength 1")
    draws = any(row.noise_rows for row in request.plan.rows) or request.pixels is not None
    if draws or (request.latents is None and strength != 1.0):
        return said
    instead = "variation has strength 1" if strength == 1.0 else "latents are given"
    if seed is not None:
        said.append(f"seed has no effect: {instead} and {request.plan.sampler.canonical} draws no noise")
    if request.noise != "philox" and not strength:
        said.append(f"noise has no effect: {instead} and {request.plan.sampler.canonical} draws none")
    return said


def _is_painted_over(request: Request) -> bool:
    """Whether nothing of the picture is kept; a UNet made for inpainting is meant to be used like that."""
    if request.mask is None or request.masked_pixels is not None:
        return False
    return request.strength == 1.0 and bool(np.all(given(request.mask) == 1.0))
