"""Measures what draws a package fastest on this machine, and keeps it as a profile that `--engine auto` follows."""
