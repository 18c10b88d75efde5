"""Lossy forms of a package's components: fewer bits, at an error that is measured."""
