"""Packages as files: writing one, and describing one."""
