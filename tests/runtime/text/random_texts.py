"""Random texts and tokenizers of CLIP's form: `python -m tests.runtime.text.random_texts COUNT [SEED]` compares the
runtime with the `tokenizers` library on them."""

import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

from ldm_runtime.text.clip_tokenizer import SPECIAL_WORDS, WORDS

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = [json.loads((GOLDEN / folder / "tokenizer.json").read_text()) for folder in ("tokenizer", "package/tokenizer")]
RANGES = [(0x20, 0x7E)] * 6 + [
    (0x00, 0x1F), (0xA0, 0x24F), (0x300, 0x36F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x6FF),
    (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x22FF), (0x3040, 0x30FF),
    (0x4E00, 0x4EFF), (0xAC00, 0xACFF), (0x1F300, 0x1F6FF), (0x11000, 0x11FFF), (0x16D00, 0x16EFF), (0, 0x10FFFF),
]  # fmt: skip
BITS = [
    "<|startoftext|>", "<|endoftext|>", "<|STARTOFTEXT|>", "<|EndofText|>", "<cat>", "<CAT>", "e\u0301", "É", " ", "  ",
    "\u3000", "\t", "<", "|>", "cat", "a", "  b ", "_", "'s", "'LL", "don't", ", ", "BREAK", " cat ", "\u0130", "Σ",
]  # fmt: skip
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def random_text(draw: random.Random) -> str:
    """Pieces that tokens are made of, words, and characters of one range."""
    parts = []
    for _ in range(draw.randrange(1, 10)):
        kind = draw.random()
        if kind < 0.45:
            parts.append(draw.choice(BITS))
        elif kind < 0.6:
            parts.append("".join(draw.choice("abcdeio") for _ in range(draw.randrange(1, 9))))
        else:
            low, high = draw.choice(RANGES)
            points = (draw.randint(low, high) for _ in range(draw.randrange(1, 6)))
            parts.append("".join(chr(point) for point in points if not 0xD800 <= point < 0xE000))
    return "".join(parts)


def random_tokenizer(draw: random.Random) -> dict[str, Any]:
    """A golden file with another pattern, unknown token, order of merges, and added tokens."""
    file: dict[str, Any] = copy.deepcopy(draw.choice(FILES))
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = draw.choice([WORDS, SPECIAL_WORDS])
    if draw.random() < 0.4:
        file["model"]["unk_token"] = draw.choice([None, "a", "e</w>"])
    if draw.random() < 0.3:
        _forget_bytes(file, draw)
    if draw.random() < 0.5:
        draw.shuffle(file["model"]["merges"])
    known = {*file["model"]["vocab"], *(token["content"] for token in file["added_tokens"])}
    new = [text for text in draw.sample(BITS, draw.randrange(8)) if text not in known]
    for index, text in enumerate(new, len(file["model"]["vocab"])):
        file["added_tokens"].append({"id": index, "content": text, **dict.fromkeys(FLAGS, False)})
    for token in file["added_tokens"]:
        if draw.random() < 0.5:
            token |= {flag: draw.random() < 0.4 for flag in FLAGS}
    return file


def _forget_bytes(file: dict[str, Any], draw: random.Random) -> None:
    """Take some bytes out of the vocabulary."""
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in file["model"]["merges"]]
    kept = {part for pair in merges for part in (*pair, "".join(pair))} | {"a", "e</w>"}
    single = [text for text in file["model"]["vocab"] if len(text.removesuffix("</w>")) == 1 and text not in kept]
    lost = {*draw.sample(single, min(60, len(single)))}
    vocabulary = [text for text in file["model"]["vocab"] if text not in lost]
    file["model"]["vocab"] = ids = {text: index for index, text in enumerate(vocabulary)}
    for token in file["added_tokens"]:
        token["id"] = ids[token["content"]]
    for name in ("cls", "sep"):
        file["post_processor"][name][1] = ids[file["post_processor"][name][0]]


def main(count: int, seed: int) -> int:
    """Compare; return how many texts differ. The library panics where a token takes all white space of the next one."""
    from tests.runtime.text.test_clip_encoder import library_ids, of_both

    draw = random.Random(seed)
    different = panics = 0
    for _ in range(count // 500):
        ours, theirs = of_both(random_tokenizer(draw))
        for text in (random_text(draw) for _ in range(500)):
            got = list(ours.encode(text))
            try:
                expected = library_ids(theirs, text)
            except BaseException as error:  # PanicException is no Exception
                if type(error).__name__ != "PanicException":
                    raise
                panics += 1
                continue
            if got != expected:
                different += 1
                print(ascii(text), got, expected)
    print(f"{count} texts, {different} differ, the library panicked at {panics}")
    return min(different, 1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])))
