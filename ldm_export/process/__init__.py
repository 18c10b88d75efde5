"""How a process starts, streams, fails and ends: isolated stages, errors, signals."""
