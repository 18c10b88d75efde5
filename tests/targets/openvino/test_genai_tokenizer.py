"""The tokenizer as a graph: the ids of CLIP's own on every text, but for marks that NFC would put in another order."""

import json
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from ldm_export.errors import ExportError
from ldm_export.targets.openvino.genai_tokenizer import FILE, character_map, double_array, write_openvino_tokenizer
from ldm_runtime.engines.openvino.library import shared_core
from ldm_runtime.package.manifest import TokenizerFacts
from tests.make_golden import GOLDEN, HARD

pytestmark = pytest.mark.slow  # opens OpenVINO

SOURCE = GOLDEN / "tokenizer" / "tokenizer.json"
WINDOW = 32


@pytest.fixture(scope="module")
def reference() -> Tokenizer:
    return Tokenizer.from_file(str(SOURCE))


@pytest.fixture(scope="module")
def request_(reference, tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer")
    special = {name: reference.token_to_id(f"<|{name}|>") for name in ("startoftext", "endoftext")}
    facts = TokenizerFacts(
        "tokenizer.json", WINDOW, special["startoftext"], special["endoftext"], special["endoftext"], 10**6
    )
    write_openvino_tokenizer(SOURCE, out, facts)
    import openvino_tokenizers

    shared_core().add_extension(str(openvino_tokenizers._ext_path))
    return shared_core().compile_model(str(out / FILE), "CPU").create_infer_request()


def expected_ids(reference: Tokenizer, text: str) -> list[int]:
    begin, end = (reference.token_to_id(f"<|{name}|>") for name in ("startoftext", "endoftext"))
    ids = reference.encode(text, add_special_tokens=False).ids[: WINDOW - 2]
    return [begin, *ids, *[end] * (WINDOW - 1 - len(ids))]


def wrong(request_, reference, texts: list[str]) -> list[str]:
    return [
        text
        for text in texts
        if request_.infer([np.array([text])])["input_ids"][0].tolist() != expected_ids(reference, text)
    ]


def in_nfc_order(text: str) -> bool:
    """Whether composing alone, without putting marks into order, gives NFC."""
    classes = [unicodedata.combining(character) for character in unicodedata.normalize("NFD", text)]
    plain = [unicodedata.combining(character) for part in text for character in unicodedata.normalize("NFD", part)]
    return classes == plain


def test_hard_texts_have_the_ids_of_clip(request_, reference):
    ordered = [text for text in HARD if in_nfc_order(text)]
    assert len(ordered) >= len(HARD) - 2
    assert wrong(request_, reference, ordered) == []


def test_random_texts_have_the_ids_of_clip(request_, reference):
    cases = [text for text, _ in json.loads((GOLDEN / "tokenizer.json").read_text())["cases"][len(HARD) :]]
    ordered = [text for text in cases if in_nfc_order(text)]
    assert len(ordered) > 2500
    assert wrong(request_, reference, ordered) == []


def test_a_long_text_keeps_its_end_token(request_, reference):
    assert wrong(request_, reference, ["a very long text " * 100, "x" * 5000]) == []


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    spec = json.loads(SOURCE.read_text())
    spec["pre_tokenizer"] = {"type": "Whitespace"}
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(spec))
    with pytest.raises(ExportError, match="pre_tokenizer lacks the key 'pretokenizers', so it is not a tokenizer"):
        write_openvino_tokenizer(other, tmp_path, TokenizerFacts("tokenizer.json", WINDOW, 1, 2, 2, 10))
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def find(array: bytes, key: bytes) -> int | None:
    """darts-clone's exactMatchSearch, from its header file's description of a unit."""
    units = np.frombuffer(array, "<u4").tolist()

    def offset(unit: int) -> int:
        return (unit >> 10) << ((unit & 1 << 9) >> 6)

    place = offset(units[0])
    unit = units[0]
    for byte in key:
        place = (0 if unit is units[0] else place) ^ byte if unit is not units[0] else offset(units[0]) ^ byte
        unit = units[place]
        if unit & (1 << 31 | 0xFF) != byte:
            return None
        place ^= offset(unit)
    return units[place] & (1 << 31) - 1 if unit >> 8 & 1 else None


def test_the_trie_finds_its_keys_and_no_others():
    random = np.random.default_rng(0)
    keys = {bytes(random.integers(1, 256, random.integers(1, 5)).tolist()) for _ in range(3000)}
    values = {key: index + 1 for index, key in enumerate(sorted(keys))}
    array = double_array(values)
    assert all(find(array, key) == value for key, value in values.items())
    others = {bytes(random.integers(1, 256, random.integers(1, 5)).tolist()) for _ in range(3000)} - keys
    assert all(find(array, key) is None for key in others)


def test_a_map_of_characters_is_trie_and_texts():
    made = character_map({"A": "a", "İ": "i\u0307"})
    (size,) = struct.unpack_from("<I", made)
    texts = made[4 + size :]
    for source, target in (("A", "a"), ("İ", "i\u0307")):
        start = find(made[4 : 4 + size], source.encode())
        assert texts[start:].split(b"\0")[0].decode() == target


def test_the_golden_tokenizer_is_there():
    assert Path(SOURCE).is_file()
