"""The errors a user can meet, each one sentence: what was got, what was expected, where, what to do."""

import re

# All control characters but tab and line feed, what turns the direction of writing or ends a line, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

MAX_MESSAGE = 4000  # characters


def printable(text: str) -> str:
    """`text` with what would command a terminal, or has no bytes in UTF-8, as escapes such as \\x1b and \\udcff."""
    return _UNPRINTABLE.sub(_escape, text)


def _cut(text: str) -> str:
    """A message never fills a screen with what a file or an argument holds: the middle of a long one is left out."""
    if len(text) <= MAX_MESSAGE:
        return text
    kept = MAX_MESSAGE // 2 - 40
    return f"{text[:kept]} … ({len(text) - 2 * kept} characters left out) … {text[-kept:]}"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class LdmError(Exception):
    """Root of all errors that are the input's or the machine's, not a bug: printed without a traceback.

    Names from files and arguments stand in the sentence, so it is made `printable` here, and at most MAX_MESSAGE long.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(_cut(printable(each)) if isinstance(each, str) else each for each in arguments))


class InputError(LdmError):
    """An argument of a call or of the command line is not usable."""


class PackageError(LdmError):
    """A package folder, its manifest or one of its files is not what it claims to be."""


class EngineError(LdmError):
    """No engine can run the model here, or the engine failed."""


class EngineUnavailable(EngineError):
    """This machine or installation cannot run that engine, or what the package has for it does not fit here."""


class OutOfProfile(EngineError):
    """A plan was not built for the sizes of a run."""


class NonFiniteError(LdmError):
    """A tensor holds NaN or infinity; no picture is made of it."""


class Cancelled(LdmError):
    """The caller ended a run before its last step."""


class ConfigError(LdmError):
    """A model's or scheduler's configuration asks for something that is not supported."""


class CheckpointError(LdmError):
    """A checkpoint is missing, damaged, or does not fit its configuration."""


class ExportError(LdmError):
    """A component cannot be exported, or not on this machine."""


class VerificationError(LdmError):
    """An artefact differs from its reference by more than the tolerance."""


class TrainingError(LdmError):
    """A recipe, its data or its run folder is not usable, or training diverged."""
