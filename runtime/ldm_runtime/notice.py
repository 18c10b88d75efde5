"""Notices: what a call reports beside its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """One sentence, and what it is about: an option by its name, or "text", "engine" or "package"."""

    about: str
    text: str

    def __str__(self) -> str:
        return self.text
