"""What is wrong with a manifest is said in the same words by both runtimes, byte for byte."""

import ctypes
import json
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.errors import MAX_MESSAGE, FormatError, PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package import manifest_json
from ldm_runtime.package.open import open_package
from tests.runtime.cpp.context import Context
from tests.test_golden import GOLDEN, load

pytestmark = pytest.mark.slow
GOOD = "package/manifest.json"
MUTATED = (GOOD, *(f"manifests/{name}.json" for name in ("sdxl_inpaint", "lcm", "tiny_autoencoder", "variants")))
CHECK_SIZE = 2
IMMENSE = (b"999999999999999999", b"-1000000000000000000", b"1" + b"0" * 40)


class Text(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p), ("size", ctypes.c_size_t)]


def of_library(context: Context, content: bytes) -> tuple[str, str] | None:
    """Return the code and the sentence with which the library refuses a manifest."""
    context.calls.ldm_package_parse.argtypes = [
        *(ctypes.c_void_p, Text, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    ]
    package = ctypes.c_void_p()
    return context.refusal("ldm_package_parse", Text(content, len(content)), None, 0, ctypes.byref(package))


def of_library_s_headers(context: Context, folder: Path) -> tuple[str, str] | None:
    """Return the code and the sentence with which the library refuses a package's headers."""
    package, options = ctypes.c_void_p(), context.begun("ldm_package_options", check=CHECK_SIZE)
    return context.refusal("ldm_package_open", str(folder).encode(), ctypes.byref(options), ctypes.byref(package))


def of_python(content: bytes) -> tuple[str | None, str] | None:
    """Return the code and the sentence of Python's refusal; None: it takes the manifest."""
    try:
        manifest_json.parse(strict_json.decode(content, "manifest.json"), "manifest.json")
    except FormatError as error:
        return error.code, str(error)
    return None


def golden() -> Iterator[bytes]:
    for case in load("manifests"):
        good = (GOLDEN / case["file"]).read_bytes()
        yield good[: case["offset"]] + case["text"].encode() + good[case["offset"] + case["removed"] :]


def mutated(name: str) -> Iterator[bytes]:
    good = (GOLDEN / name).read_bytes()
    for splice in load("mutations")[name]:
        offset, removed, inserted, _ = splice.split(" ")
        new = b"" if inserted == "-" else bytes.fromhex(inserted)
        yield good[: int(offset)] + new + good[int(offset) + int(removed) :]


def enlarged(name: str) -> Iterator[bytes]:
    """Put immense integers in the place of each integer of a manifest's contract."""
    good = (GOLDEN / name).read_bytes()
    for found in re.finditer(rb"(?<=[ \n])-?[0-9]+(?=[,\n\]])", good[: good.index(b'"proof"')]):
        for number in IMMENSE:
            yield good[: found.start()] + number + good[found.end() :]


def differing(context: Context, cases: Iterator[bytes]) -> tuple[int, list[Any]]:
    """Return how many cases Python refuses, and what the two runtimes say where they differ."""
    refused = [(expected, of_library(context, case)) for case in cases if (expected := of_python(case)) is not None]
    return len(refused), [both for both in refused if both[0] != both[1]][:5]


def test_golden_manifests_are_refused_in_the_same_words(context: Context) -> None:
    count, different = differing(context, golden())
    assert count > 220 and different == []


@pytest.mark.parametrize("name", MUTATED)
def test_mutated_manifests_are_refused_in_the_same_words(context: Context, name: str) -> None:
    count, different = differing(context, mutated(name))
    assert count > 400 and different == []


def test_immense_integers_are_refused_in_the_same_words(context: Context) -> None:
    count, different = differing(context, enlarged(GOOD))
    assert count > 100 and different == []


@pytest.mark.parametrize(
    "content",
    [
        '{"é": "ü\u0001"}'.encode(),
        '{"é" "ü": 1}'.encode(),
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 65,
        b'{"a": ["]]]]", ' + b"[" * 63 + b"}",
        b'{"a": ["[[[[", ' + b"[" * 62 + b"}",
        b'{"\\"[": ' + b"[]," * 70,
        b"[1, ]",
        b'{"a": 1 ,\n }',
    ],
)
def test_wrong_json_is_refused_in_the_same_words(context: Context, content: bytes) -> None:
    assert of_python(content) == of_library(context, content)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sampler": "dpmpp_2m"', b'"sampler": "' + b"x" * 300 + b'"'),
        (b'"sampler": "dpmpp_2m"', b'"sampler": "' + b"x" * 300 + b':a=1"'),
        (b'"sampler": "dpmpp_2m"', b'"sampler": "dpmsolver:' + b"x" * 300 + b'"'),
        (b'"sampler": "dpmpp_2m"', b'"sampler": "dpmsolver:order=' + b"x" * 300 + b'"'),
        (b'"beta_end": 0.012', b'"beta_end": 0.2'),
    ],
)
def test_long_and_small_values_are_refused_in_the_same_words(context: Context, old: bytes, new: bytes) -> None:
    content = (GOLDEN / GOOD).read_bytes()
    assert content.count(old) == 1
    expected = of_python(content.replace(old, new))
    assert expected is not None and expected == of_library(context, content.replace(old, new))


@pytest.mark.parametrize("character", ["x", "é", "日", "😀"])
def test_long_names_are_told_whole(context: Context, character: str) -> None:
    content = (GOLDEN / GOOD).read_bytes()
    names = [character * 1000 + ending for ending in "abc"]
    for name, component in zip(names, (b"unet", b"vae_encoder", b"vae_decoder"), strict=True):
        content = content.replace(b'"%s": {' % component, f'"{name}": {{'.encode(), 1)
    expected = of_python(content)
    assert expected is not None and 3000 < len(expected[1]) < MAX_MESSAGE and all(name in expected[1] for name in names)
    assert expected == of_library(context, content)


@pytest.mark.parametrize("length", [973, 974, 980, 1024])
@pytest.mark.parametrize("character", ["x", "é", "日", "😀", "\u200d"])
def test_the_middle_of_long_sentences_is_left_out_in_the_same_words(
    context: Context, character: str, length: int
) -> None:
    content = json.loads((GOLDEN / GOOD).read_text(encoding="utf-8"))
    for number, component in enumerate(list(content["components"])):
        content["components"][str(number) + character * (length - 1)] = content["components"].pop(component)
    expected = of_python(json.dumps(content).encode())
    assert expected is not None and MAX_MESSAGE - 60 < len(expected[1]) <= MAX_MESSAGE
    assert expected == of_library(context, json.dumps(content).encode())


WEIGHTS = "unet/model.safetensors"
HEADERS = {
    "no JSON": lambda text: text[:-9] + b"!" + text[-9:],
    "no UTF-8": lambda text: text.replace(b"conv", b"c\xffnv", 1),
    "not a number": lambda text: text.replace(b"[16,", b"[NaN,", 1),
    "half of a character": lambda text: text.replace(b"conv", b"c\\ud800nv", 1),
    "an unknown type": lambda text: text.replace(b'"F32"', b'"F\xc3\xa9"', 1),
    "no type": lambda text: text.replace(b'"F32"', b"null", 1),
    "no sizes": lambda text: text.replace(b"[4]", b'[4, "a", true]', 1),
    "an immense shape": lambda text: text.replace(b"[4]", b"[4611686018427387904]", 1),
    "another shape": lambda text: text.replace(b"[4]", b"[5]", 1),
    "no places": lambda text: text.replace(b"[0, 16]", b"[0, null]", 1),
    "places in the wrong order": lambda text: text.replace(b"[0, 16]", b"[16, 0]", 1),
    "a place beyond 64 bits": lambda text: text.replace(b"[0, 16]", b"[0, 18446744073709551632]", 1),
    "places beyond 64 bits": lambda text: text.replace(b"[0, 16]", b"[18446744073709551616, 18446744073709551632]", 1),
    "places beyond 64 bits in the wrong order": lambda text: text.replace(b"[0, 16]", b"[1" + b"0" * 30 + b", 0]", 1),
    "a place that no file has": lambda text: text.replace(b"[0, 16]", b"[0, 1000000000000000000]", 1),
    "a place that a file may have": lambda text: text.replace(b"[0, 16]", b"[0, 999999999999999999]", 1),
    "an overlap": lambda text: text.replace(b"[16, 592]", b"[12, 588]", 1),
    "texts that are none": lambda text: b'{"__metadata__": {"a": 1}, ' + text[1:],
}


def with_header(folder: Path, header: bytes, data: bytes) -> Path:
    """Copy the golden package with other weights, whose size its manifest says."""
    shutil.copytree(GOLDEN / "package", folder)
    content = struct.pack("<Q", len(header)) + header + data
    (folder / WEIGHTS).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][WEIGHTS]["size"] = len(content)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.mark.parametrize("why", [*HEADERS, "too little data", "too much data"])
def test_headers_of_weights_are_refused_in_the_same_words(context: Context, tmp_path: Path, why: str) -> None:
    content = (GOLDEN / "package" / WEIGHTS).read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    text, data = json.dumps(json.loads(content[8:end])).encode(), content[end:]
    header = HEADERS[why](text) if why in HEADERS else text
    assert (header != text) is (why in HEADERS)
    extra = {"too little data": data[:-5], "too much data": data + b"12345"}
    folder = with_header(tmp_path / "package", header, extra.get(why, data))
    with pytest.raises(PackageError) as refused:
        open_package(folder, check="size")
    assert (refused.value.code, str(refused.value)) == of_library_s_headers(context, folder)
