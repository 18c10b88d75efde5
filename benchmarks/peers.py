"""Runs `benchmarks/peers`: `python benchmarks/peers.py --help`."""

from benchmarks.peers.run import main

if __name__ == "__main__":
    main()
