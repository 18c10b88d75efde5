"""Lossy ways to draw with a package: fewer bits and less work, at an error that is measured."""
