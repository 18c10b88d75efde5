"""Measures image quality of the built-in model against its training data."""
