"""Precisions below float32: what each is, how a graph is reduced to it."""
