"""Kill by hand: `python -m tests.kill --verb build --count 50 --seed 1`.

Each of --count moments, spread over all stages, gets a workplace of its own: the verb is started there, killed, and run
again. --signal TERM or INT asks instead of killing. What was wrong is told; the exit code is then 1.
"""

import argparse
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.kill.killing import Killed, calibrate, choose, kill_and_repeat
from tests.kill.verbs import VERBS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--verb", required=True, choices=list(VERBS))
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signal", choices=["KILL", "TERM", "INT"], default="KILL")
    arguments = parser.parse_args()
    verb, number = VERBS[arguments.verb], getattr(signal, f"SIG{arguments.signal}")
    with tempfile.TemporaryDirectory(prefix="ldm-kill-") as folder:
        workplace = Path(folder) / "workplace"
        calibration = calibrate(workplace, verb)
        print(f"{verb.name}: {calibration.seconds:.1f} s without a kill", flush=True)
        killed = []
        for index, moment in enumerate(choose(calibration, verb, arguments.seed, arguments.count)):
            (one,) = kill_and_repeat(workplace, verb, calibration, [moment], number)
            killed.append(one)
            after = f"{moment.words!r} {moment.line} + {moment.delay:.2f} s"
            verdict = "; ".join(one.wrong) or "as without a kill"
            print(
                f"{index + 1:4} {one.stage:14} {after:26} {'' if one.struck else '(had ended) '}{verdict}", flush=True
            )
    return show(killed)


def show(killed: list[Killed]) -> int:
    """Counts by stage; 1 if anything was wrong."""
    stages: dict[str, list[Killed]] = defaultdict(list)
    for one in killed:
        stages[one.stage].append(one)
    print(f"\n{'stage':16} {'signals':>8} {'in time':>8} {'wrong':>6} {'longest end':>12}")
    for stage, ones in stages.items():
        struck, wrong = sum(one.struck for one in ones), sum(bool(one.wrong) for one in ones)
        print(f"{stage:16} {len(ones):8} {struck:8} {wrong:6} {max(one.seconds_to_end for one in ones):10.1f} s")
    return 1 if any(one.wrong for one in killed) else 0


if __name__ == "__main__":
    sys.exit(main())
