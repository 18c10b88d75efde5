"""Runs `benchmarks/savings` on the code of this clone: `python benchmarks/exact_savings.py --help`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # an installation holds no benchmarks

from benchmarks.savings.run import main  # noqa: E402

if __name__ == "__main__":
    main()
