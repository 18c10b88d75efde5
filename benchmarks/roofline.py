"""Runs `benchmarks/roofline` on the code of this clone: `python benchmarks/roofline.py --help`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # an installation holds no benchmarks

from benchmarks.roofline.run import main  # noqa: E402

if __name__ == "__main__":
    main()
