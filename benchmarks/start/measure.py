"""Measures one process at a time: seconds to its first step and to its end, its peak memory, what code it runs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.start.contenders import Contender, Contenders
from ldm_runtime.errors import InputError

# Starts a contender and says how long it took; little itself, as a child's peak is at least its parent's.
WATCH = """
import json, os, re, subprocess, sys, time

terminal, its = os.openpty()  # programs tell a person of each step, and a file of few
begun = time.perf_counter()
child = subprocess.Popen(sys.argv[2:], stdout=its, stderr=its, stdin=subprocess.DEVNULL)
os.close(its)


def read():
    try:
        return os.read(terminal, 65536)
    except OSError:  # all have closed it
        return b""


def code():
    try:
        with open(f"/proc/{child.pid}/maps") as file:
            lines = [line.split(maxsplit=5) for line in file]
    except OSError:  # it has ended, or this system has no such file
        return set()
    return {line[5].strip() for line in lines if "x" in line[1] and len(line) == 6 and line[5][0] == "/"}


said, first, files = b"", None, set()
while chunk := read():
    said += chunk
    if first is None:
        if re.search(sys.argv[1].encode(), said):
            first = time.perf_counter() - begun
        files |= code()
status, used = os.wait4(child.pid, 0)[1:]
answer = {"status": status, "said": said.decode(errors="replace")[-2000:], "first": first, "files": sorted(files)}
answer |= {"image": time.perf_counter() - begun, "processor": used.ru_utime + used.ru_stime}
print(json.dumps({**answer, "peak": used.ru_maxrss * 1024}))
"""
# What every program finds on a Linux system: the libraries of C and C++.
SYSTEM = re.compile(r"(ld-linux.*|libc|libm|libdl|libpthread|librt|libutil|libgcc_s|libstdc\+\+)(-[\d.]+)?\.so[\d.]*")


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes of one process.

    first: None where it does not say when its first step is done. code: name of a file of machine code that it has
    mapped by then -> bytes, without the system's libraries of C and C++.
    """

    first: float | None
    image: float
    processor: float
    peak: int
    code: dict[str, int]


@dataclass
class Row:
    """A contender's figures, or why there are none."""

    title: str
    weight_bytes: int
    runs: list[Measured]
    reason: str | None = None


def measure_all(
    table: Contenders, size: tuple[int, int], rounds: int, say: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """Measure each contender in each round, in the opposite order each time, after one round that does not count.

    Raises InputError where one of this project cannot draw; another's row then says why.
    """
    rows = [_row(title, contender) for title, contender in table.items()]
    for index in range(rounds + 1):
        for row in rows[:: 1 if index % 2 else -1]:
            contender = table[row.title]
            if row.reason is not None or isinstance(contender, str):
                continue
            say(f"round {index} of {rounds}: {row.title}")
            try:
                measured = measure(row.title, contender, size)
            except InputError as error:
                if contender.is_ours:
                    raise
                row.reason, row.runs = str(error), []
                continue
            if index > 0:
                row.runs.append(measured)
    return rows


def _row(title: str, contender: Contender | str) -> Row:
    if isinstance(contender, str):
        return Row(title, 0, [], contender)
    return Row(title, contender.weight_bytes, [])


def measure(title: str, contender: Contender, size: tuple[int, int]) -> Measured:
    """Measure one process, whose weights the system has read before. Raises InputError where it draws no image."""
    for file in contender.weights:
        _read(file)
    contender.out.unlink(missing_ok=True)
    command = [sys.executable, "-I", "-S", "-c", WATCH, contender.first_step, *contender.command]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **contender.environment})
    answer: dict[str, Any] = {"status": result.returncode, "said": result.stderr}
    if result.returncode == 0:
        answer = json.loads(result.stdout)
    if answer["status"] != 0:
        lines = answer["said"].strip().splitlines()
        raise InputError(f"{title} cannot draw: {lines[-1] if lines else 'it said nothing'}")
    _check_image(title, contender.out, size)
    code = {Path(file).name: _bytes(Path(file)) for file in answer["files"]}
    code = {name: count for name, count in code.items() if not SYSTEM.fullmatch(name)}
    return Measured(answer["first"], answer["image"], answer["processor"], answer["peak"], code)


def _read(file: Path) -> None:
    """Have the system keep a file in memory, as far as there is room, so that nobody waits for the disk."""
    with file.open("rb") as stream:
        while stream.read(2**24):
            pass


def _bytes(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _check_image(title: str, out: Path, size: tuple[int, int]) -> None:
    """Raise InputError unless the file is an image of this size in more than one colour."""
    try:
        with Image.open(out) as image:
            image.load()
            drawn, pixels = image.size, np.asarray(image.convert("RGB"))
    except (OSError, ValueError):  # ValueError: a header that ends early
        raise InputError(f"{title} wrote no image") from None
    if drawn != size:
        raise InputError(f"{title} drew {drawn[0]}x{drawn[1]} pixels, expected {size[0]}x{size[1]}")
    if (pixels == pixels[0, 0]).all():
        raise InputError(f"{title} drew one colour: its numbers may be NaN")
