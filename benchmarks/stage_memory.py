"""Runs `benchmarks/stages` on the code of this clone: `python benchmarks/stage_memory.py --help`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # an installation holds no benchmarks

from benchmarks.stages.run import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
