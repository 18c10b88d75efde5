"""Readers that are broken on purpose: the runner must catch each of them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from ldm_runtime.errors import InputError
from tests.fuzz.kind import Kind

BAD = 5  # of the inputs 0…9 this one is read wrongly


def _make(random: Random, folder: Path) -> bytes:
    return random.randbytes(8)


def _kind(name: str, break_it: Callable[[], object]) -> Kind:
    def prepare(folder: Path) -> list[int]:
        return [0]

    def make(random: Random, read: list[int]) -> bytes:
        return random.randbytes(8)

    def read(content: bytes, read: list[int]) -> None:
        if content[0] % 2:
            raise InputError("half of them are refused")
        break_it()

    return Kind(name, prepare, make, read, memory=64 * 2**20)


def _key_error() -> None:
    raise KeyError("planted")


def _exit() -> None:
    raise SystemExit(3)


def _loop() -> None:
    while True:
        time.sleep(0.01)


def _eat() -> object:
    return [bytes(2**20) for _ in range(2**12)]


def _unprintable() -> None:
    raise InputError(_Terminal("\x1b[2J"))


class _Terminal(str):
    """Text that no error class makes printable on its way."""

    def __str__(self) -> str:
        return "\x1b[2J"


def _endless() -> None:
    raise InputError("x" * 10**6)


KINDS = {
    kind.name: kind
    for kind in (
        _kind("planted-key-error", _key_error),
        _kind("planted-exit", _exit),
        _kind("planted-loop", _loop),
        _kind("planted-memory", _eat),
        _kind("planted-abort", os.abort),
        _kind("planted-silent-exit", lambda: os._exit(0)),
        _kind("planted-long-message", _endless),
        _kind("planted-recursion", lambda: _deeper()),
    )
}


def _deeper() -> None:
    _deeper()
