"""Engines: each runs one graph. `table` says which there are, `choice` which one runs what."""
