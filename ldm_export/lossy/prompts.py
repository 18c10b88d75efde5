"""The prompts of a budget: some that calibrate, others that the error is measured on, and no prompt in both."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError
from ldm_runtime.files.reading import read_regular
from ldm_runtime.package.values import CONTROL
from ldm_runtime.text.characters import normalise

FILE = "prompts.txt"  # of a package or a checkpoint: its captions, one a line
FEWEST = 16  # prompts of a file
MOST = 16  # that are taken for each purpose
MAX_BYTES = 2**20
MAX_CHARACTERS = 1000  # of a prompt
CALIBRATION_SEED, HELD_OUT_SEED = 501, 101  # of the first prompt; the next has the next

_CALIBRATION = (
    "a lighthouse on a cliff in the evening",
    "portrait of an old sailor, oil on canvas",
    "a bowl of ramen with an egg, seen from above",
    "a red fox in fresh snow",
    "the skyline of a city at night in the rain",
    "a white vase with tulips on a wooden table",
    "watercolour of a mountain lake",
    "an astronaut on a horse",
    "macro photograph of a bee on a sunflower",
    "a steam engine on a stone bridge",
    "a cosy library with a fireplace",
    "black and white photograph of a jazz pianist",
    "green apple, flat icon",
    "an isometric drawing of a small bakery",
    "a sailing boat in a storm, in the style of Turner",
    "a cat asleep on a windowsill",
)
_HELD_OUT = (
    "a photograph of a market street in Marrakesh",
    "a blue teapot and two cups on a linen cloth",
    "an owl on a branch at dusk",
    "portrait of a young woman with freckles, soft light",
    "a red barn in a field of wheat",
    "a robot that waters plants, digital painting",
    "the northern lights above a frozen river",
    "a slice of chocolate cake on a white plate",
    "a vintage car in front of a diner",
    "a pencil drawing of a cathedral",
    "a golden retriever with a ball on a beach",
    "yellow umbrella, flat icon",
    "a terraced rice field in the morning mist",
    "a still life with lemons and a silver jug",
    "a spacecraft over the rings of Saturn",
    "two children who fly a kite on a hill",
)


@dataclass(frozen=True)
class Prompts:
    """Prompts by what they are for; each has a seed of its own."""

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]


OWN = Prompts(_CALIBRATION, _HELD_OUT)
"""Those of a package without captions of its own."""


def seeds(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(first, first + count))


def digest(prompts: Sequence[str], seeds: Sequence[int]) -> str:
    """Compute the SHA-256 of what is drawn, in hexadecimal: of a line of seed, space and prompt for each, in UTF-8."""
    lines = (f"{seed} {prompt}\n" for seed, prompt in zip(seeds, prompts, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def prompts_of(documents: Iterable[Path], given: Path | None) -> Prompts:
    """Return the prompts of the file `given`, else of a model's own among its documents, else ours.

    Raises InputError for a wrong file.
    """
    if given is not None:
        return read_prompts(given)
    own = next((each for each in documents if each.name == FILE), None)
    try:
        return OWN if own is None else read_prompts(own)
    except InputError as error:
        raise InputError(f"{error}; give other prompts with --prompts") from None


def read_prompts(path: Path) -> Prompts:
    """Read a file of UTF-8 with a prompt a line; blank lines do not count, nor what a tokenizer reads as one of before.

    Those at even places calibrate, those at odd ones are held out; of a long file some of each, spread over it.

    Raises InputError for a file that cannot be read, is no list of prompts, or has fewer than 16 of them.
    """
    prompts = _distinct(line.strip() for line in _text(path).splitlines() if line.strip())
    for prompt in prompts:
        if not _is_prompt(prompt):
            raise InputError(
                f"{path} has the prompt {shown(prompt)}; expected up to {MAX_CHARACTERS} characters and no control "
                "characters, a prompt a line"
            )
    if len(prompts) < FEWEST:
        raise InputError(
            f"{path} has {len(prompts)} of the {FEWEST} different prompts that calibrating and measuring need, half of "
            "them for each"
        )
    return Prompts(_some(prompts[0::2]), _some(prompts[1::2]))


def prompts_text(captions: Iterable[str]) -> str | None:
    """Return the file of a model whose images have these captions; None if they are too few to be used."""
    lines = _distinct(caption.strip() for caption in captions if _is_prompt(caption.strip()))
    return "".join(f"{line}\n" for line in lines) if len(lines) >= FEWEST else None


def _distinct(prompts: Iterable[str]) -> list[str]:
    """Return the first of those that are one text to CLIP's tokenizer, whatever their case and spacing."""
    found: dict[str, str] = {}
    for prompt in prompts:
        found.setdefault(normalise(prompt), prompt)
    return list(found.values())


def _is_prompt(text: str) -> bool:
    return 0 < len(text) <= MAX_CHARACTERS and CONTROL.search(text) is None and len(text.splitlines()) == 1


def _text(path: Path) -> str:
    try:
        content = read_regular(path, MAX_BYTES)
        if content is None:
            raise InputError(f"cannot read the prompts {path}: it is not a regular file; expected one of UTF-8 text")
        if len(content) > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES} bytes; expected a list of prompts, one a line")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); expected prompts, one a line") from None
    except OSError as error:
        raise InputError(f"cannot read the prompts {path}: {error.strerror}") from None


def _some(prompts: Sequence[str]) -> tuple[str, ...]:
    """Return at most 16 of the prompts, evenly spread."""
    count = min(MOST, len(prompts))
    return tuple(prompts[index * len(prompts) // count] for index in range(count))
