"""Readers that are broken on purpose: the runner must catch each of them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from ldm_runtime.errors import FormatError, InputError
from tests.fuzz.kind import Kind

BAD = 5  # the input that is read wrongly: of those before and after it half are read and half are refused


def _key_error() -> object:
    raise KeyError("planted")


def _exit() -> object:
    raise SystemExit(3)


def _deeper() -> object:
    return _deeper()


def _loop() -> object:
    while True:
        time.sleep(0.01)


def _eat() -> object:
    return [bytes(2**20) for _ in range(2**12)]


def _end() -> object:
    os._exit(0)


def _long_message() -> object:
    raise _past_its_class("x" * 10**6)


def _unprintable() -> object:
    raise _past_its_class("\x1b[2J")


def _plain_fact() -> object:
    raise FormatError("a/x", "is cut off", "weights.layout")


def _past_its_class(text: str) -> InputError:
    """An error of a text that its class would have cut and made printable."""
    error = InputError()
    error.args = (text,)
    return error


def _kind(name: str, break_it: Callable[[], object]) -> Kind:
    def prepare(folder: Path) -> list[bytes]:
        return []

    def make(random: Random, read_before: list[bytes]) -> bytes:
        return random.randbytes(8)

    def read(content: bytes, read_before: list[bytes]) -> None:
        number = len(read_before)
        read_before.append(content)
        if number == BAD:
            break_it()
        elif number % 2 == 0:
            raise InputError("every other one is refused")

    return Kind(name, prepare, make, read, memory=64 * 2**20)


KINDS = {
    kind.name: kind
    for kind in (
        _kind("planted-key-error", _key_error),
        _kind("planted-exit", _exit),
        _kind("planted-recursion", _deeper),
        _kind("planted-loop", _loop),
        _kind("planted-memory", _eat),
        _kind("planted-abort", os.abort),
        _kind("planted-silent-exit", _end),
        _kind("planted-long-message", _long_message),
        _kind("planted-unprintable", _unprintable),
        _kind("planted-plain-fact", _plain_fact),
    )
}
