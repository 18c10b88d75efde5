"""The file that keeps every figure of the peers: its settings, its answers, and what a later call goes on from."""

import json
import re
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import (
    ALL_TASKS,
    PEERS,
)
from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError

RAW = "peers.json"
_KEY = re.compile(rf"({'|'.join(map(re.escape, PEERS))}) ({'|'.join(ALL_TASKS)}) [0-9]+")  # of an answer


@dataclass(frozen=True)
class Settings:
    """The settings that all figures of a results file share.

    size: width, height in pixels.
    """

    model: str
    package: str  # identity
    size: tuple[int, int]
    steps: int
    guidance: float
    threads: int


@dataclass
class Results:
    """All raw figures.

    left_out: peer -> why. errors: peer -> what -> difference from the reference.
    """

    settings: Settings
    machine: str
    date: str
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)  # "PEER TASK ROUND" -> the program's answer
    left_out: dict[str, str] = field(default_factory=dict)
    environment_bytes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, peer: str, task: str) -> dict[int, dict[str, Any]]:
        """Return the answers of a peer's task, by round."""
        names = ((name.split(" "), answer) for name, answer in self.answers.items())
        return {int(parts[2]): answer for parts, answer in names if parts[:2] == [peer, task]}


def open_results(out: Path, settings: Settings, machine: str, *, force: bool) -> Results:
    """Return the results in `out` to go on from, or new ones. Those that were left out before get another chance.

    Raises InputError where the file is of other settings or another machine, unless `force` drops it.
    """
    file = out / RAW
    fresh = Results(settings, machine, time.strftime("%Y-%m-%d"))
    if force or not file.exists():
        return fresh
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        stored["settings"] = Settings(**{**stored["settings"], "size": tuple(stored["settings"]["size"])})
        found = Results(**stored)
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f"{file} is not a results file of this benchmark; choose another --out or give --force"
        ) from None
    unknown = [key for key in found.answers if not _KEY.fullmatch(key)]
    if unknown:
        raise InputError(
            f"{file} has figures of {shown(unknown[0])}, expected PEER TASK ROUND with the tasks "
            f"{', '.join(ALL_TASKS)}; another version measured them: choose another --out or give --force"
        )
    ours, theirs = {**asdict(settings), "machine": machine}, {**asdict(found.settings), "machine": found.machine}
    differing = [f"{key} {theirs[key]} there, {ours[key]} now" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise InputError(f"{file} was measured otherwise: {'; '.join(differing)}; choose another --out or give --force")
    return replace(found, left_out={}, date=fresh.date)
