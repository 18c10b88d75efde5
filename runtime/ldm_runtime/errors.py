"""The errors a user can meet, each one sentence with a stable code: what was got, what was expected, where, what to do.

A code is `class.name`. The sentence may change, the code does not: programs and the runtime's other languages tell
refusals apart by it, and its class alone says what kind of failure it is. `CODES` has those of the runtime,
`ldm_export.errors.CODES` those of making packages.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing the runtime stays light
    from pathlib import Path

# All control characters but tab and line feed; what turns the direction of writing, ends a line or is not seen, but for
# the joiners, which emoji and scripts need; lone surrogates.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

MAX_MESSAGE = 4000  # characters

CODES: dict[str, str] = {
    # package, file, json, manifest, schedule, weights, graph, plan, tokenizer: a package, a checkpoint or one of their
    # files will not do; fetch or build it again
    "package.missing": "the path has no package: no folder, or no manifest.json in it",
    "file.missing": "a file that is needed is not there",
    "file.unreadable": "the operating system does not let a file be read",
    "file.kind": "a folder, pipe, socket or device is in the place of a file",
    "file.link": "a link leads out of the model's folder",
    "file.lfs-stub": "a Git-LFS pointer is in the place of a file",
    "file.too-large": "a file or folder is larger than any of its kind",
    "file.size": "a file has another size than the manifest says",
    "file.hash": "a file has another SHA-256 than the manifest says",
    "file.changed": "a file was written to after the model was opened",
    "file.unlisted": "the folder holds a model file that the manifest does not list",
    "json.encoding": "the text is not UTF-8, or begins with a byte order mark",
    "json.syntax": "the text is not JSON",
    "json.duplicate-key": "an object has a key twice",
    "json.number": "a number is not finite, or has thousands of digits",
    "json.surrogate": "a string holds half of a character",
    "json.depth": "lists and objects are nested too deeply",
    "json.unknown-key": "an object has a key that this version does not know",
    "json.missing-key": "an object lacks a key",
    "json.type": "a value has another type, or is none of the choices",
    "manifest.version": "the manifest has another schema version",
    "manifest.name": "a name is empty, too long, or has control or hidden characters",
    "manifest.path": "a path is not plain, or leaves the package",
    "manifest.digest": "a SHA-256 is not 64 hexadecimal digits",
    "manifest.range": "a number is outside its range",
    "manifest.file": "a file is named that the list of files lacks",
    "manifest.axis": "an axis is unknown, or is not the multiple of another that it claims to be",
    "manifest.tensor": "a tensor is named twice, or has another type, rank or size than its role requires",
    "manifest.role": "components, inputs and roles do not match one to one",
    "manifest.text": "text encoders, tokenizers and context do not agree",
    "manifest.image": "the default image size does not fit the latents",
    "manifest.sampler": "the default sampler is unknown, or does not take the schedule or the default steps",
    "manifest.artefact": "an artefact has a wrong name, format, list of files or exactness",
    "manifest.plan": "the requirements of a TensorRT plan are not usable",
    "manifest.keys": "a parameter has an unknown type, or a transpose that is not a permutation",
    "manifest.variant": "a variant names what is not there or does not fit, or gives up nothing",
    "schedule.invalid": "a noise schedule is not usable",
    "weights.header": "a file has no safetensors header",
    "weights.tensor": "a tensor of a safetensors file has a wrong type, shape or place",
    "weights.layout": "tensors of a safetensors file overlap, leave holes, or do not fill the file",
    "graph.format": "a file is not ONNX",
    "graph.external-data": "a graph reads another file than its weights",
    "graph.signature": "a graph or plan has other inputs or outputs than the contract",
    "plan.format": "a file is not a TensorRT plan, or is cut off",
    "plan.mismatch": "a TensorRT plan says of itself something else than the manifest does",
    "tokenizer.form": "a tokenizer.json is not of CLIP's form",
    "tokenizer.vocabulary": "a vocabulary has a wrong token or id, or more than the text encoder knows",
    "tokenizer.merges": "a merge is not a pair, has an unknown token, or is there twice",
    "tokenizer.added-tokens": "an added token is there twice, is empty or too long, or has a wrong id",
    # request: an argument of the call will not do; change it
    "request.invalid": "an argument is not usable, by none of the reasons below",
    "request.path": "an argument is not a path, or one that cannot be looked up",
    "request.prompt": "a prompt is too long, is not valid text, or has no weight left",
    "request.size": "an image size is one that the package does not take, or more pixels than one call may have; a "
    "size that a model is told is no size, or is not read",
    "request.batch": "more images at once than the package takes",
    "request.image": "an image or a mask is not usable, or does not go with the others",
    "request.array": "latents or embeddings have another shape, type or content than expected",
    "request.sampler": "a sampler or its option is unknown, or does not take the model's schedule or the steps",
    "request.noise": "a noise is unknown, or not the same everywhere for that sampler or size",
    "request.engine": "a choice or an option of engines is unknown, or has no effect",
    # engine: this machine does not run it
    "engine.failed": "an engine failed",
    "engine.unavailable": "this machine or installation cannot run an engine, or what the package has for it",
    "engine.profile": "a TensorRT plan was not built for the sizes of a run",
    # result, run: the run began and has no image
    "result.not-finite": "a tensor holds NaN or infinity",
    "run.cancelled": "the caller ended a run before its last step",
    # output, other: the files or the machine
    "output.refused": "an output cannot be written, or may not be replaced",
    "other.failure": "a failure that no other code describes",
}

CHECK_ACCESS = "check its permissions, its links and the disk"  # what to do about file.unreadable

# What to do about a code, where no border can say it better.
_ADVICE = {
    "file.unreadable": CHECK_ACCESS,
    "file.lfs-stub": "run `git lfs pull` where it came from",
}


def printable(text: str) -> str:
    """Escape what would command a terminal or hide in it, or has no bytes in UTF-8, as in \\x1b and \\udcff."""
    return UNPRINTABLE.sub(_escape, text)


def one_line(text: str) -> str:
    """Make a text `printable`, and escape tab and line feed too: a path can hold them."""
    return printable(text).replace("\t", "\\x09").replace("\n", "\\x0a")


def sentence(text: str) -> str:
    """Make a text that may hold names from files and arguments `one_line`, and at most MAX_MESSAGE long."""
    return _cut(one_line(text))


class Lines(str):
    """A text of several lines for an error, each of which is made `one_line`."""

    def __new__(cls, lines: Iterable[str]) -> "Lines":
        return super().__new__(cls, "\n".join(map(one_line, lines)))


def _cut(text: str) -> str:
    """Leave out the middle of a long message, so that what a file or an argument holds never fills a screen."""
    if len(text) <= MAX_MESSAGE:
        return text
    kept = MAX_MESSAGE // 2 - 40
    return f"{text[:kept]} … ({len(text) - 2 * kept} characters left out) … {text[-kept:]}"


def _plain(argument: object) -> str:
    return argument if isinstance(argument, Lines) else one_line(str(argument))


def _shown(argument: object) -> object:
    return _cut(_plain(argument)) if isinstance(argument, str) and not isinstance(argument, Lines) else argument


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class LdmError(Exception):
    """Root of all errors that are the input's or the machine's, not a bug: printed without a traceback.

    code: a key of `CODES`; each class has one for what needs no finer distinction.
    Names from files and arguments stand in the sentence, so it is made `one_line` here, and at most MAX_MESSAGE long;
    `Lines` stay as they are.
    """

    code = "other.failure"

    def __init__(self, *arguments: object, code: str | None = None) -> None:
        super().__init__(*map(_shown, arguments))
        if code is not None:
            self.code = code


class FormatError(LdmError):
    """A plain fact about a file, found by the reader of its format: `what` is wrong at `where`.

    It gives no advice. `refused_as` makes the error of it that the user gets: until then both parts are whole, so that
    a long sentence is cut once.
    """

    def __init__(self, where: str, what: str, code: str) -> None:
        super().__init__(code=code)
        self.args = (where, what, code)

    @property
    def where(self) -> str:
        """Return the file, or the place in it."""
        return _plain(self.args[0])

    @property
    def what(self) -> str:
        """Return what is wrong there."""
        return _plain(self.args[1])

    def __str__(self) -> str:
        return _cut(f"{self.where} {self.what}")


def unreadable(path: "Path", error: OSError) -> FormatError:
    """Return the FormatError for a file that the operating system does not let be read."""
    code = "file.missing" if isinstance(error, FileNotFoundError) else "file.unreadable"
    return FormatError(f"cannot read {path}:", str(error.strerror), code)


@contextlib.contextmanager
def refused_as(error: type[LdmError], advice: str, special: Mapping[str, str] | None = None) -> Iterator[None]:
    """Raise a FormatError from inside as `error`, with the same code and with what to do about it.

    special: code -> advice, for those of which this border knows more.
    """
    try:
        yield
    except FormatError as fault:
        known = _ADVICE if special is None else {**_ADVICE, **special}
        raise error(f"{fault.where} {fault.what}; {known.get(fault.code, advice)}", code=fault.code) from fault


class InputError(LdmError):
    """An argument of a call or of the command line is not usable."""

    code = "request.invalid"


class PackageError(LdmError):
    """A package folder, its manifest or one of its files is not what it claims to be."""


class OutputError(LdmError):
    """An output cannot be written, or may not be replaced."""

    code = "output.refused"


class EngineError(LdmError):
    """No engine can run the model here, or the engine failed."""

    code = "engine.failed"


class EngineUnavailable(EngineError):
    """This machine or installation cannot run that engine, or what the package has for it does not fit here."""

    code = "engine.unavailable"


class OutOfProfile(EngineError):
    """A plan was not built for the sizes of a run."""

    code = "engine.profile"


class NonFiniteError(LdmError):
    """A tensor holds NaN or infinity; no image is made of it."""

    code = "result.not-finite"


class Cancelled(LdmError):
    """The caller ended a run before its last step."""

    code = "run.cancelled"
