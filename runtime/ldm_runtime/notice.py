"""Notices: remarks that a call returns beside its result."""

from dataclasses import dataclass

from ldm_runtime.errors import sentence


@dataclass(frozen=True)
class Notice:
    """A sentence and its subject: an option by its name, or "text", "engine", "profile" or "package".

    As in an error, names from files stand in it: it is made one line, and cut where it is long.
    """

    about: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", sentence(self.text))

    def __str__(self) -> str:
        return self.text
