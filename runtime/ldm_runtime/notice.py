"""Notices: remarks that a call returns beside its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """A sentence and its subject: an option by its name, or "text", "engine", "profile" or "package"."""

    about: str
    text: str

    def __str__(self) -> str:
        return self.text
