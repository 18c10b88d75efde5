"""The program of each peer, run in an environment of its own."""
