"""Runs `benchmarks/quality`: `python benchmarks/picture_quality.py --help`."""

from benchmarks.quality.run import main

if __name__ == "__main__":
    main()
