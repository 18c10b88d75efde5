"""Captions without a word or a part, by hand."""

from pathlib import Path

import numpy as np

from ldm_export.analyze.caption_parts import caption_parts, count_words, without_words
from ldm_export.analyze.pictures import Pictures


def pictures(captions: tuple[str, ...], backgrounds: tuple[str, ...]) -> Pictures:
    count = len(captions)
    pixels = np.zeros((count, 8, 8, 3), np.uint8)
    return Pictures(Path(), pixels, None, captions, ("",) * count, backgrounds, count, 0)


def test_each_word_in_turn() -> None:
    assert without_words("red apple, 3d style", 9) == [
        ("red", "apple, 3d style"),
        ("apple", "red, 3d style"),
        ("3d", "red apple, style"),
        ("style", "red apple, 3d"),
    ]
    assert without_words("apple, flat style", 1) == [("apple", "flat style")]
    assert without_words("woman’s hat", 9)[0] == ("woman’s", "hat")
    assert without_words("?!", 9) == [] and count_words("one, two") == 2


def test_parts_of_captions() -> None:
    parts = caption_parts(pictures(("apple, 3d style, red background", "pear, flat style"), ("red", "")))
    assert list(parts) == ["concept", "style", "background"]
    assert parts["concept"].without == ("3d style, red background", "flat style")
    assert parts["concept"].alone == ("apple", "pear")
    assert parts["style"].without == ("apple, red background", "pear")
    assert parts["background"].without == ("apple, 3d style", "pear, flat style")
    assert parts["background"].alone == ("red background", "")


def test_captions_of_one_part_have_none() -> None:
    assert caption_parts(pictures(("an apple", "a pear"), ("", ""))) == {}
