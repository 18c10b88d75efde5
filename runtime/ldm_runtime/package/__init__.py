"""Packages: the manifest and its rules, opening one, and its binary file formats."""
