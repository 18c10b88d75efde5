"""Fuzz by hand: `python -m tests.fuzz --kind tokenizer --seed 7 --count 1000 --minutes 60`.

Without --kind all kinds take turns, --count inputs of each with one seed after another, until --minutes are over.
--index runs one input again; --input runs a kept one. What failed is kept in --keep, the exit code is then 1.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.kind import generator
from tests.fuzz.runner import WALL_SECONDS, Failure, Result, run_file, run_inputs


def main() -> int:
    arguments = _arguments()
    from tests.fuzz.kinds import KINDS

    names = arguments.kind or list(KINDS)
    if arguments.input is not None:
        return _show([run_file(names[0], arguments.input, wall=arguments.wall)], arguments.keep)
    if arguments.index is not None:
        one = run_inputs(names[0], arguments.seed, arguments.index, arguments.index + 1, wall=arguments.wall)
        return _show([one], arguments.keep)
    until = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    results: list[Result] = []
    seed = arguments.seed
    run = partial(_run_and_say, count=arguments.count, wall=arguments.wall, until=until)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        while True:
            results += pool.map(run, names, [seed] * len(names))
            seed += 1
            if until is None or time.monotonic() >= until:
                return _show(results, arguments.keep)


def _run_and_say(name: str, seed: int, *, count: int, wall: float, until: float | None) -> Result:
    result = run_inputs(name, seed, 0, count, wall=wall, until=until)
    print(
        f"{name}, seed {seed}: {result.inputs} inputs in {result.seconds:.0f} s",
        *result.lines(),
        sep="\n  ",
        flush=True,
    )
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--kind", action="append", help="a kind (repeatable; default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000, help="inputs of each kind and seed")
    parser.add_argument("--index", type=int, help="only this input")
    parser.add_argument("--input", type=Path, help="only the input in this file")
    parser.add_argument("--minutes", type=float, help="go on with the next seeds until they are over")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes at once")
    parser.add_argument("--wall", type=float, default=WALL_SECONDS, help="seconds that one input may take")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for inputs that fail")
    return parser.parse_args()


def _show(results: list[Result], keep: Path) -> int:
    """A line for each kind, then the failures; they are kept. 1 if there are any."""
    print(f"{'kind':18} {'inputs':>8} {'a minute':>9} {'read':>8} {'refused':>8} {'failed':>7} {'slowest':>8}")
    for kind in dict.fromkeys(result.kind for result in results):
        parts = [result for result in results if result.kind == kind]
        outcomes = sum((part.outcomes for part in parts), Counter())
        inputs, seconds = sum(part.inputs for part in parts), sum(part.seconds for part in parts)
        refused = inputs - outcomes["read"] - outcomes["failed"]
        rate, slowest = 60 * inputs / max(seconds, 1e-9), max(part.slowest for part in parts)
        print(
            f"{kind:18} {inputs:8} {rate:9.0f} {outcomes['read']:8} {refused:8} {outcomes['failed']:7} {slowest:6.2f} s"
        )
    failures = [(result, failure) for result in results for failure in result.failures.values()]
    for result, failure in failures:
        file = keep_input(keep, result.seed, failure)
        print(f"seed {result.seed}: {failure.line()}; kept as {file}")
    return 1 if failures else 0


def keep_input(folder: Path, seed: int, failure: Failure) -> Path:
    """Write the input of a failure and what is known about it; the kind's seeds are made anew for that."""
    import os
    import tempfile

    from tests.fuzz.worker import find_kind

    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kind, before = find_kind(failure.kind), Path.cwd()
    with tempfile.TemporaryDirectory() as own:
        os.chdir(own)
        try:
            content = kind.make(generator(kind.name, seed, failure.index), kind.prepare(Path(own)))
        finally:
            os.chdir(before)
    file = folder / f"{failure.kind}-{seed}-{failure.index}.input"
    file.write_bytes(content)
    failure.size = len(content)
    again = f"python -m tests.fuzz --kind {failure.kind} --seed {seed} --index {failure.index}"
    file.with_suffix(".txt").write_text(f"{failure.line()}\n{again}\n\n{failure.detail}\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
