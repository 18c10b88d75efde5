"""Places of words in a window, with a tokenizer of one token for two letters or a comma."""

import re

from ldm_export.analyze.caption_tokens import BEGIN, CONCEPT, END, REST, token_groups, without_first_part, words_of

WINDOW = 12


class Pairs:
    """Stands for a Tokenizer."""

    room = WINDOW - 2

    def tokens(self, text: str) -> list[int]:
        return [0] * len(re.findall(r"[a-z]{1,2}|,", text))


def test_words_have_the_tokens_after_the_begin() -> None:
    words = words_of("apple, by me", Pairs())  # type: ignore[arg-type]
    assert [(word.text, word.places, word.ends_part) for word in words] == [
        ("apple", [1, 2, 3], True),
        ("by", [5], False),
        ("me", [6], False),
    ]


def test_groups_are_all_of_the_window() -> None:
    groups = token_groups("apple, by me", Pairs(), WINDOW)  # type: ignore[arg-type]
    assert groups == {BEGIN: [0], CONCEPT: [1, 2, 3], REST: [4, 5, 6], END: [7, 8, 9, 10, 11]}


def test_what_does_not_fit_is_left_out() -> None:
    words = words_of("aaaa bbbb cccc dddd eeee ffff", Pairs())  # type: ignore[arg-type]
    assert [word.text for word in words] == ["aaaa", "bbbb", "cccc", "dddd", "eeee"]
    groups = token_groups("aaaa bbbb cccc dddd eeee ffff", Pairs(), WINDOW)  # type: ignore[arg-type]
    assert groups[END] == [11] and groups[REST] == []


def test_a_caption_without_words_has_no_concept() -> None:
    assert token_groups(",", Pairs(), WINDOW)[CONCEPT] == []  # type: ignore[arg-type]


def test_a_caption_without_its_first_part_is_its_rest() -> None:
    assert without_first_part("red apple, 3d style, blue background") == "3d style, blue background"
    assert without_first_part("apple") == without_first_part("red apple,") == without_first_part("") == ""
    assert without_first_part("apple,by me") == ""  # one word, as `words_of` takes it
