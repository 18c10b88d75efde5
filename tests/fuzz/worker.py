"""Reads inputs in a process of its own, which may be killed: `python -m tests.fuzz.worker FOLDER`.

Jobs come as lines of JSON on stdin, `{"kind", "seed", "start", "stop"}` or `{"kind", "input"}` with a file's path. A
report is a line of JSON on stdout: `{"started": index}` before an input, `{"finished": index, …}` after it.
"""

import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ldm_runtime.errors import FormatError, LdmError
from tests.fuzz.kind import Kind, generator

LONGEST_MESSAGE = 4000  # characters; an error is one sentence, which may list some names
# Forms of text that act on a terminal or on the reader's eye instead of being shown.
_UNPRINTABLE = {
    *map(chr, range(32)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
}
_UNPRINTABLE -= {"\n", "\t"}


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what readers print is no report
    faulthandler.enable()
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.environ["TMPDIR"] = str(folder)
    prepared: dict[str, tuple[Kind, Any]] = {}
    for line in sys.stdin:
        job = json.loads(line)
        if job["kind"] not in prepared:
            prepared[job["kind"]] = _prepare(job["kind"], folder)
        kind, state = prepared[job["kind"]]
        os.chdir(folder / kind.name)
        if "input" in job:
            _one(kind, state, Path(job["input"]).read_bytes(), 0, reports)
        else:
            for index in range(job["start"], job["stop"]):
                _one(kind, state, kind.make(generator(kind.name, job["seed"], index), state), index, reports)
        print(json.dumps({"idle": True}), file=reports)


def find_kind(name: str) -> Kind:
    """A kind by its name; planted ones, of which each breaks a rule, are there too."""
    from tests.fuzz import planted

    if name in planted.KINDS:
        return planted.KINDS[name]
    kinds: dict[str, Kind] = importlib.import_module("tests.fuzz.kinds").KINDS
    return kinds[name]


def _prepare(name: str, folder: Path) -> tuple[Kind, Any]:
    kind = find_kind(name)
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    os.chdir(own)
    return kind, kind.prepare(own)


def _one(kind: Kind, state: Any, content: bytes, index: int, reports: Any) -> None:
    print(json.dumps({"started": index}), file=reports)
    _limit_memory(kind.memory)
    began = time.process_time()
    outcome = _outcome(kind, state, content)
    outcome |= {"finished": index, "seconds": time.process_time() - began, "size": len(content)}
    _limit_memory(None)
    print(json.dumps(outcome), file=reports)


def _outcome(kind: Kind, state: Any, content: bytes) -> dict[str, str]:
    try:
        kind.read(content, state)
    except LdmError as error:
        text = str(error)
        wrong = "reached a border of the API" if _passed_a_border(error, kind) else _wrong_with(text)
        if wrong is not None:
            return {"failure": f"{type(error).__name__} {wrong}", "detail": ascii(text[:2000]), "place": _place(error)}
        return {"refused": type(error).__name__}
    except MemoryError as error:
        return {"failure": "memory", "detail": _shown(error), "place": _place(error)}
    except BaseException as error:
        return {"failure": type(error).__name__, "detail": _shown(error), "place": _place(error)}
    return {"read": kind.name}


def _passed_a_border(error: LdmError, kind: Kind) -> bool:
    """Whether it is a plain fact about a file, without advice, where a user would get it."""
    return type(error) is FormatError and not kind.inner


def _wrong_with(text: str) -> str | None:
    """What a user cannot read in an error's text, if anything."""
    if not text.strip():
        return "says nothing"
    if len(text) > LONGEST_MESSAGE:
        return f"is longer than {LONGEST_MESSAGE} characters"
    if any(character in _UNPRINTABLE or 0xD800 <= ord(character) < 0xE000 for character in text):
        return "is not printable"
    return None


def _shown(error: BaseException) -> str:
    return ascii("".join(traceback.format_exception(error, limit=-12))[-3000:])


def _place(error: BaseException) -> str:
    """The last line of this project on the way to an error: what tells one failure from another."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/ldm_" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "-"


def _limit_memory(more: int | None) -> None:
    """Let this process take `more` bytes of address space from now on; None lifts the limit. Linux alone can do it."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard if more is None else used + more, hard))


if __name__ == "__main__":
    main()
