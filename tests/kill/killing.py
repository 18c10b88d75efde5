"""Kills a verb at a seeded moment, runs it again, and compares the whole workplace with that of an unkilled run."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from ldm_runtime.errors import LdmError
from ldm_runtime.package.open import open_package
from tests.kill.verbs import Verb, plant_foreign

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 1800.0  # of one run, on a machine that may be busy
END_SECONDS = 30.0  # in which a run ends after SIGTERM and SIGINT
WRITING = "writing"  # the stage in which a temporary file stands beside the output

Tree = dict[str, str]  # relative path -> digest of a file, "" of a folder

# matplotlib holds this beside its font cache while it writes that; the next start waits and says what to remove.
MATPLOTLIB_LOCK = ".matplotlib-lock"


@dataclass(frozen=True)
class Moment:
    """When the signal is sent: so long after the n-th line of progress with these words; 0 is the start.

    `writing`: see `WRITING`. `output`: once the run has written this file.
    """

    stage: str
    line: int
    delay: float
    words: str = ""
    writing: bool = False
    output: str = ""


@dataclass
class Calibration:
    """What an unkilled run says and when, and what it leaves."""

    tree: Tree
    lines: list[tuple[float, str]]
    seconds: float

    def stages(self, verb: Verb) -> dict[str, list[Moment]]:
        """Every stretch of time in which a signal may be sent, by stage; `delay` is its whole length."""
        found: dict[str, list[Moment]] = {}
        if not verb.stages:
            third = self.seconds / 3
            for number, name in enumerate(("first third", "second third", "last third")):
                found[name] = [Moment(name, -1 - number, third)]
        starts = [at for at, _ in self.lines]
        seen: Counter[str] = Counter()
        for number, (at, text) in enumerate(self.lines, start=1):
            end = starts[number] if number < len(starts) else self.seconds
            for name, words in verb.stages:
                if words in text:
                    seen[words] += 1
                    found.setdefault(name, []).append(Moment(name, seen[words], max(end - at, 0.0), words))
                    break
        return {**found, WRITING: [Moment(WRITING, 0, 0.02, writing=True)]}


@dataclass
class Killed:
    """What one kill did: where it struck, and all that was wrong afterwards."""

    stage: str
    struck: bool  # False: the run had ended before
    seconds_to_end: float  # from the signal to the end of the process
    wrong: list[str] = field(default_factory=list)


class Run:
    """One process of a verb, its progress read line by line."""

    def __init__(self, folder: Path, verb: Verb) -> None:
        self.folder, self.began, self.wall_clock = folder, time.monotonic(), time.time()
        self.lines: list[tuple[float, str]] = []
        for name in ("tmp", "cache"):
            (folder / name).mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder / "tmp"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", verb.module, *verb.words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic() - self.began, line.rstrip()))

    def wait_for(self, moment: Moment) -> bool:
        """Wait until it has come; False if the process ended before."""
        until = time.monotonic() + MOST_SECONDS
        while (moment.writing and not _partials(self.folder)) or not self._has_written(moment.output):
            if self.process.poll() is not None or time.monotonic() >= until:
                return False
            time.sleep(0.0005)
        while (
            sum(moment.words in text for _, text in self.lines[:]) < moment.line
            and self.process.poll() is None
            and time.monotonic() < until
        ):
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(moment.delay)
        return self.process.poll() is None

    def _has_written(self, name: str) -> bool:
        """Return whether the file stands there, if one is named, and is not one of an earlier run."""
        file = self.folder / name
        return not name or (file.is_file() and file.stat().st_mtime > self.wall_clock)

    def signal(self, number: int) -> None:
        """Send it to the whole group for SIGKILL and SIGINT, as a terminal does; SIGTERM to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGTERM:
                self.process.send_signal(number)
            else:
                os.killpg(self.process.pid, number)

    def end(self, seconds: float = MOST_SECONDS) -> int:
        """Its exit code; it is killed, with all its children, if it does not end in time."""
        try:
            code = self.process.wait(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.reader.join(10)
        return code

    def said(self) -> str:
        return " | ".join(text for _, text in self.lines[-5:])


def calibrate(folder: Path, verb: Verb) -> Calibration:
    """Run the verb to its end in a new workplace at `folder`."""
    make_workplace(folder, verb)
    run = Run(folder, verb)
    code = run.end()
    assert code == 0, f"{verb.name} failed without a kill: {run.said()}"
    return Calibration(tree(folder), run.lines, time.monotonic() - run.began)


def make_workplace(folder: Path, verb: Verb) -> dict[str, bytes]:
    """A new folder with what the verb needs, and with files of others. Always at the same place: caches go by it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    verb.prepare(folder)
    return plant_foreign(folder, verb)


def choose(calibration: Calibration, verb: Verb, seed: int, count: int) -> list[Moment]:
    """`count` seeded moments, every stage in turn."""
    chance = random.Random(f"{verb.name}/{seed}")
    stages = calibration.stages(verb)
    names = list(stages)
    chosen = []
    for number in range(count):
        stretch = chance.choice(stages[names[number % len(names)]])
        delay = chance.random() * stretch.delay
        if stretch.line < 0:  # a third of the time
            delay += (-stretch.line - 1) * stretch.delay
        chosen.append(replace(stretch, line=max(stretch.line, 0), delay=delay))
    return chosen


def kill_and_repeat(
    folder: Path, verb: Verb, calibration: Calibration, moments: list[Moment], number: int
) -> list[Killed]:
    """Send a signal at each of the moments, in one run after another, then run to the end; look each time."""
    foreign = make_workplace(folder, verb)
    before = tree(folder)
    old = subtree(before, verb.replaces)
    killed = []
    for moment in moments:
        run = Run(folder, verb)
        struck = run.wait_for(moment)
        sent = time.monotonic()
        run.signal(number)
        result = Killed(moment.stage, struck, 0.0)
        killed.append(result)
        try:
            run.end(END_SECONDS)
        except subprocess.TimeoutExpired:
            result.wrong.append(f"it did not end within {END_SECONDS:g} s of the signal")
        result.seconds_to_end = time.monotonic() - sent
        result.wrong += lost(folder, foreign)
        if verb.replaces is not None:
            result.wrong += _half_replaced(folder, verb.replaces, old, subtree(calibration.tree, verb.replaces))
        if number != signal.SIGKILL and struck:
            result.wrong += [f"half-written: {name}" for name in sorted(set(tree(folder)) - set(calibration.tree))]
    is_complete = _has_outputs(folder, verb, calibration)
    last = Run(folder, verb)
    code = last.end()
    if code != 0 and not (is_complete and _complains_of_existing(last)):
        killed[-1].wrong.append(f"the second run ended with {code}: {last.said()}")
    killed[-1].wrong += lost(folder, foreign)
    killed[-1].wrong += differences(calibration.tree, tree(folder), verb)
    return killed


def _has_outputs(folder: Path, verb: Verb, calibration: Calibration) -> bool:
    """Whether every output stands there with all its files: the signal came after the last of them was made."""
    found = tree(folder)
    wanted = [name for name in calibration.tree for output in verb.outputs if f"{name}/".startswith(f"{output}/")]
    return bool(wanted) and all(name in found for name in wanted)


def _complains_of_existing(run: Run) -> bool:
    """An output that was complete when the signal came is not replaced without --force: that is right."""
    return any("exists already" in text for _, text in run.lines[-2:])


def lost(folder: Path, foreign: dict[str, bytes]) -> list[str]:
    """Files of others that are gone or changed."""
    return [
        f"lost: {name}"
        for name, content in foreign.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]


def differences(wanted: Tree, found: Tree, verb: Verb) -> list[str]:
    """What is left over, what is missing, and what has other bytes."""
    left = [name for name in sorted(set(found) - set(wanted)) if not name.endswith(MATPLOTLIB_LOCK)]
    wrong = [f"left behind: {name}" for name in left]
    wrong += [f"missing: {name}" for name in sorted(set(wanted) - set(found))]
    same = [name for name in wanted if name in found and not name.endswith(verb.volatile or "\0")]
    return wrong + [f"other bytes: {name}" for name in sorted(same) if wanted[name] != found[name] and _counts(name)]


def _counts(name: str) -> bool:
    """Remembered hashes hold inodes and times, which differ; that they are there and whole is enough."""
    return not name.startswith("cache/")


def _half_replaced(folder: Path, name: str, old: Tree, new: Tree) -> list[str]:
    """The package that stands at `name` now is the old one or the new one, whole."""
    found = subtree(tree(folder), name)
    if found in (old, new):
        return []
    try:
        open_package(folder / name, check="full").confirm()
    except LdmError as error:
        return [f"neither the old nor the new package: {error}"]
    return ["a package that is neither the old nor the new one"]


def subtree(whole: Tree, name: str | None) -> Tree:
    return {} if name is None else {key: value for key, value in whole.items() if key.startswith(f"{name}/")}


def tree(folder: Path) -> Tree:
    """All below a folder, with digests."""
    found: Tree = {}
    for place in sorted(folder.rglob("*")):
        relative = place.relative_to(folder).as_posix()
        found[relative] = "" if place.is_dir() else hashlib.sha256(place.read_bytes()).hexdigest()
    return found


def _partials(folder: Path) -> bool:
    """Whether a temporary file or folder of ours stands anywhere but in the cache."""
    for place, folders, names in os.walk(folder):
        if place == str(folder):
            folders[:] = [name for name in folders if name not in ("source", "cache", "tmp", "thesis", "package")]
        found = [name for name in (*names, *folders) if ".partial" in name]
        if any("thesis" not in name and not name.endswith(("99999999", "0" * 32 + ".partial")) for name in found):
            return True
        folders[:] = [name for name in folders if name != "thesis"]
    return False
