"""Runs inputs in worker processes, enforces what each may take, and keeps the smallest input of each failure."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
WALL_SECONDS = 30.0  # for one input, on a machine that may be busy: after them the worker is killed
PROCESSOR_SECONDS = 5.0  # for one input; more is a failure even if it ends
START_SECONDS = 300.0  # for importing and preparing


@dataclass
class Failure:
    """One way in which inputs failed: how often, and the smallest of them."""

    kind: str
    what: str
    place: str
    index: int
    size: int
    detail: str
    count: int = 1

    def line(self) -> str:
        smallest = f"smallest: input {self.index}, {self.size} bytes"
        return f"{self.kind}: {self.what} at {self.place}, {self.count} times; {smallest}"


@dataclass
class Result:
    """What became of the inputs of one kind."""

    kind: str
    seed: int
    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)

    def count(self, report: dict[str, Any]) -> None:
        self.inputs += 1
        self.slowest = max(self.slowest, report.get("seconds", 0.0))
        if report.get("seconds", 0.0) > PROCESSOR_SECONDS and "failure" not in report:
            report = {
                **report,
                "failure": "slow",
                "place": "-",
                "detail": f"{report['seconds']:.1f} s of processor time",
            }
        if "failure" not in report:
            self.outcomes[report.get("refused", "read")] += 1
            return
        self.outcomes["failed"] += 1
        key = (report["failure"], report["place"])
        made = Failure(self.kind, *key, report["finished"], report["size"], report["detail"])
        known = self.failures.setdefault(key, made)
        known.count += known is not made
        if made.size < known.size:
            known.index, known.size, known.detail = made.index, made.size, made.detail

    def lines(self) -> list[str]:
        return [failure.line() for failure in self.failures.values()]


class Worker:
    """A worker process and what it says; `close` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.errors = open(folder / "stderr.txt", "w+b")  # noqa: SIM115  closed by `close`
        threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", str(folder)],
            cwd=ROOT,
            env={**os.environ, **threads, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def send(self, job: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def report(self, seconds: float) -> dict[str, Any] | None:
        """The next report; None if the worker ended. TimeoutError if none came in time."""
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            if not self.selector.select(max(until - time.monotonic(), 0.0)):
                raise TimeoutError
            part = os.read(self.process.stdout.fileno(), 2**16)
            if not part:
                return None
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        self.errors.seek(0)
        return self.errors.read()[-2000:].decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            assert stream is not None
            stream.close()


def run_inputs(
    kind: str, seed: int, start: int, stop: int, *, wall: float = WALL_SECONDS, until: float | None = None
) -> Result:
    """Read the inputs from `start` to before `stop`; none is begun after `until`, a moment of `time.monotonic`."""
    return run_kinds([(kind, seed, start, stop)], wall=wall, until=until)[0]


def run_kinds(
    jobs: list[tuple[str, int, int, int]], *, wall: float = WALL_SECONDS, until: float | None = None
) -> list[Result]:
    """Several kinds, (name, seed, start, stop), one after another in the same worker, which pays its imports once."""
    results = []
    with tempfile.TemporaryDirectory(prefix="ldm-fuzz-") as folder:
        workers = _workers(Path(folder))
        worker = next(workers)
        for kind, seed, start, stop in jobs:
            result = Result(kind, seed)
            began = time.monotonic()
            index = start
            while index < stop and (until is None or time.monotonic() < until):
                worker.send({"kind": kind, "seed": seed, "start": index, "stop": min(stop, index + 1000)})
                index = _follow(worker, result, index, wall)
                if worker.process.poll() is not None:
                    worker.close()
                    worker = next(workers)
            result.seconds = time.monotonic() - began
            results.append(result)
        worker.close()
    return results


def run_file(kind: str, file: Path, *, wall: float = WALL_SECONDS) -> Result:
    """Read one kept input."""
    result = Result(kind, 0)
    with tempfile.TemporaryDirectory(prefix="ldm-fuzz-") as folder, Worker(Path(folder)) as worker:
        worker.send({"kind": kind, "input": str(file.resolve())})
        _follow(worker, result, 0, wall)
    return result


def _workers(folder: Path) -> Iterator[Worker]:
    number = 0
    while True:
        number += 1
        own = folder / str(number)
        own.mkdir()
        yield Worker(own)


def _follow(worker: Worker, result: Result, index: int, wall: float) -> int:
    """Count what a worker says until its job is done or it is gone; the index at which to go on."""
    running = None
    while True:
        try:
            report = worker.report(START_SECONDS if running is None else wall)
        except TimeoutError:
            worker.process.kill()
            worker.process.wait()
            if running is None:
                raise RuntimeError(f"the worker for {result.kind} does not start:\n{worker.said()}") from None
            result.count(_lost(running, "timeout", f"more than {wall:g} s:\n{worker.said()}"))
            return running + 1
        if report is None:
            code = worker.process.wait()
            if running is None:
                raise RuntimeError(f"the worker for {result.kind} ended with {code}:\n{worker.said()}")
            what = f"killed by signal {-code}" if code < 0 else f"process ended with exit code {code}"
            result.count(_lost(running, what, worker.said()))
            return running + 1
        if "idle" in report:
            return index
        if "started" in report:
            running = report["started"]
        else:
            result.count(report)
            running, index = None, report["finished"] + 1


def _lost(index: int, what: str, detail: str) -> dict[str, Any]:
    return {"finished": index, "failure": what, "place": "-", "detail": detail, "size": 2**31}
