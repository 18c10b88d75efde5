"""Targets of `build`: each turns verified graphs into another engine's artefacts."""
