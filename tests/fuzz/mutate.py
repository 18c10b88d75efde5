"""Mutations of bytes, texts and trees of JSON or TOML; each is a pure function of a `random.Random`."""

import copy
import json
import random
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

Random = random.Random

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 8, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63),
    10**9, 10**12, 10**30, 0.0, -0.0, 0.5, 1.5, -0.5, 1e-30, 1e-308, 1e30, 1e308,
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "\x1b[31m", "\x7f", "\ufeff", "\u202e", "\ud800", "\udfff\ud800", "é", "e\u0301", "\U0001f34e",
    "a" * 300, "a" * 5000, "../x", "/etc/passwd", "/dev/null", ".", "..", "\\", "\\\\", "a/../../b", "C:\\x", "*",
    "[a]", "None", "null", "nan", "inf", "1e9", "-1", "0x10", "%s%n", "{}", "{0}", "\n", "\r\n", "\u2028", "__class__",
)  # fmt: skip
INTEGERS = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
UNCHANGED = 0.03  # of all trees: that sound ones are read shows that the others come to the reader


class Raw(str):
    """Written as it is, whatever the format makes of it."""


class Pairs(list[tuple[str, Any]]):
    """An object in which a key may stand twice."""


RAW_JSON = tuple(
    Raw(text)
    for text in (
        "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400, "1" * 5000, "0.1e-400", "01", "+1", ".5", "1.",
        "tru", "'a'", '"\\ud800"', '"\\u0000"', '"\t"', '"\\x"', '"', "[", "]", "{", "}", "{,}", "[1,]", "", "//", "-",
    )
)  # fmt: skip
RAW_TOML = tuple(
    Raw(text)
    for text in (
        "nan", "inf", "-inf", "1e999", "1" * 400, "0x7fffffffffffffffff", "1979-05-27T07:32:00Z", "07:32:00", "'''a",
        "\"", '"\\ud800"', '"\\u0000"', "'\x01'", "[", "{", "{a=1,a=2}", "", "1_0", "_1", "+1", "True", "1979-99-99",
        "[[", "]",
    )
)  # fmt: skip


def mutate_bytes(random: Random, content: bytes, others: Sequence[bytes] = (), times: int | None = None) -> bytes:
    """Flips, numbers, cuts, copies and splices, here and there."""
    made = bytearray(content)
    for _ in range(_times(random) if times is None else times):
        random.choice(_BYTE_WAYS)(random, made, others)
    return bytes(made)


def _place(random: Random, made: bytearray) -> int:
    """Often near the start, where headers are."""
    most = len(made) if random.random() < 0.5 else min(len(made), 128)
    return random.randrange(most) if most else 0


def _flip(random: Random, made: bytearray, others: Sequence[bytes]) -> None:
    if made:
        made[_place(random, made)] ^= 1 << random.randrange(8)


def _number(random: Random, made: bytearray, others: Sequence[bytes]) -> None:
    width = random.choice(("B", "H", "I", "Q"))
    value = (random.choice(INTEGERS) + random.choice((0, 0, 0, 1, -1))) & (2 ** (8 * struct.calcsize(width)) - 1)
    place = _place(random, made)
    made[place : place + struct.calcsize(width)] = struct.pack(random.choice("<>") + width, value)


def _cut(random: Random, made: bytearray, others: Sequence[bytes]) -> None:
    place = _place(random, made)
    del made[place : place + random.choice((1, 2, 4, 16, 256, len(made)))]


def _copy(random: Random, made: bytearray, others: Sequence[bytes]) -> None:
    start = _place(random, made)
    part = bytes(made[start : start + random.choice((1, 4, 12, 64, 512))])
    place = _place(random, made)
    made[place:place] = part * random.choice((1, 1, 1, 2, 64))


def _insert(random: Random, made: bytearray, others: Sequence[bytes]) -> None:
    place = _place(random, made)
    made[place:place] = random.randbytes(random.choice((1, 2, 4, 32)))


def _splice(random: Random, made: bytearray, others: Sequence[bytes]) -> None:
    if others:
        other = random.choice(others)
        made[_place(random, made) :] = other[random.randrange(len(other) + 1) :]


_BYTE_WAYS = (_flip, _flip, _number, _number, _cut, _copy, _insert, _splice)


def mutate_text(random: Random, text: str, words: Sequence[str] = TEXTS) -> str:
    """Pieces deleted, repeated, swapped, and words of the language put in."""
    for _ in range(_times(random)):
        start, stop = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
        way = random.randrange(6)
        if way == 0:
            text = text[:start] + text[stop:]
        elif way == 1:
            text = text[:stop] + text[start:stop] * random.choice((1, 2, 30)) + text[stop:]
        elif way == 2:
            text = text[:start] + random.choice(words) * random.choice((1, 1, 1, 2, 1000)) + text[start:]
        elif way == 3:
            text = (
                text[:start] + chr(random.choice((random.randrange(32, 127), random.randrange(0x10000)))) + text[stop:]
            )
        elif way == 4:
            text = text[start:stop] + text[:start] + text[stop:]
        else:
            numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
            if numbers:
                found = random.choice(numbers)
                text = text[: found.start()] + spelt(random.choice(NUMBERS)) + text[found.end() :]
        if len(text) > 2**20:
            text = text[: 2**20]
    return text


def spelt(value: Any) -> str:
    return repr(value)


def mutate_tree(random: Random, tree: Any, raw: Sequence[Raw]) -> Any:
    """A copy of a tree of dicts, lists and scalars with some of its places changed, and keys twice, new or gone."""
    root = [copy.deepcopy(tree)]
    for _ in range(_times(random)):
        slots = list(_slots(root))
        holder, key = random.choice(slots)
        holder[key] = _changed(random, holder[key], slots, raw)
    return root[0]


def _slots(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a tree, as (its container, its key)."""
    if isinstance(holder, Pairs) or not isinstance(holder, dict | list):
        return
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        yield from _slots(holder[key])


def _changed(random: Random, value: Any, slots: list[tuple[Any, Any]], raw: Sequence[Raw]) -> Any:
    way = random.randrange(12)
    if isinstance(value, dict) and not isinstance(value, Raw) and way < 8:
        return _changed_object(random, value, raw)
    if isinstance(value, list) and not isinstance(value, Pairs) and way < 7:
        return _changed_list(random, value)
    if type(value) in (int, float) and way < 6:
        return random.choice(
            (-value, value + 1, value - 1, value * 1000, float(value), value / 3, random.choice(NUMBERS))
        )
    if isinstance(value, str) and way < 6:
        return mutate_text(random, value)
    if way < 8:
        return random.choice((*NUMBERS, *TEXTS, None, True, False, [], {}))
    if way == 8:
        return random.choice(raw)
    if way == 9:
        holder, key = random.choice(slots)
        return copy.deepcopy(holder[key])
    if way == 10:
        return random.choice(([value], {"a": value}, [value] * 3))
    depth = random.choice((3, 100, 1200, 20000))
    return Raw("[" * depth + "]" * depth) if random.random() < 0.5 else Raw('{"a":' * depth + "1" + "}" * depth)


def _changed_object(random: Random, value: dict[str, Any], raw: Sequence[Raw]) -> Any:
    keys = list(value)
    way = random.randrange(6)
    if not keys or way == 0:
        return {**value, random.choice((*TEXTS, "unknown", "name")): random.choice((*NUMBERS, *TEXTS, None, [], {}))}
    key = random.choice(keys)
    if way == 1:
        return {name: item for name, item in value.items() if name != key}
    if way == 2:
        return Pairs([*value.items(), (key, random.choice((value[key], None, 1)))])
    if way == 3:
        return {(mutate_text(random, name) if name == key else name): item for name, item in value.items()}
    if way == 4:
        other = random.choice(keys)
        return {**value, key: value[other], other: value[key]}
    return {**value, key: random.choice(raw)}


def _changed_list(random: Random, value: list[Any]) -> list[Any]:
    way = random.randrange(5)
    if way == 0:
        return []
    if way == 1:
        return value * random.choice((2, 100, 3000 if len(value) < 20 else 2))
    if way == 2:
        return value[::-1]
    if way == 3:
        return value[: random.randint(0, len(value))]
    return [*value, random.choice((*NUMBERS, *TEXTS, None, [], {}))]


def json_text(tree: Any) -> str:
    """JSON of a tree, valid or not."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs | dict):
        pairs = tree.items() if isinstance(tree, dict) else tree
        return "{" + ", ".join(f"{json.dumps(str(key))}: {json_text(item)}" for key, item in pairs) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(json_text, tree)) + "]"
    return json.dumps(tree)


def toml_text(tree: Any) -> str:
    """TOML of a tree, valid or not: every table in one line of its own."""
    if isinstance(tree, Raw) or not isinstance(tree, dict | Pairs):
        return f"value = {_toml(tree)}\n"
    pairs = list(tree.items()) if isinstance(tree, dict) else list(tree)
    return "".join(f"{_toml_key(key)} = {_toml(item)}\n" for key, item in pairs)


def _toml_key(key: Any) -> str:
    return str(key) if re.fullmatch(r"[A-Za-z0-9_-]+", str(key)) else json.dumps(str(key), ensure_ascii=False)


def _toml(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict | Pairs):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return '"None"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def as_bytes(text: str) -> bytes:
    """UTF-8, where lone surrogates become bytes that are not."""
    return text.encode("utf-8", "surrogatepass")


def json_input(random: Random, tree: Any) -> bytes:
    """Mutated JSON; now and then its bytes are changed too, or nothing is."""
    if random.random() < UNCHANGED:
        return as_bytes(json_text(tree))
    return _as_file(random, json_text(mutate_tree(random, tree, RAW_JSON)))


def toml_input(random: Random, tree: Any) -> bytes:
    """Mutated TOML; now and then its bytes are changed too, or nothing is."""
    if random.random() < UNCHANGED:
        return as_bytes(toml_text(tree))
    return _as_file(random, toml_text(mutate_tree(random, tree, RAW_TOML)))


def _as_file(random: Random, text: str) -> bytes:
    content = as_bytes(text)
    chance = random.random()
    if chance < 0.1:
        return mutate_bytes(random, content)
    return (
        random.choice((b"", b"\xef\xbb\xbf" + content, text.encode("utf-16", "surrogatepass")))
        if chance < 0.12
        else content
    )


def _times(random: Random) -> int:
    """1 in half of all cases, then ever fewer."""
    times = 1
    while times < 8 and random.random() < 0.5:
        times += 1
    return times
