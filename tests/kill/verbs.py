"""The verbs that are killed: how their workplace is made, what is run there, and what its stages are."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.kind import GOLDEN, RECIPES

# Files and folders of others that look like what is left behind, beside an output named NAME.
FOREIGN = (
    ".{name}.partial-thesis",
    ".{name}.partial-99999999",
    ".{name}.old-12",
    ".{name}.old-12/thesis.txt",
    "{name}.txt",
    "thesis/{name}/chapter.txt",
    ".ldm-00000000000000000000000000000000.partial",
    ".ldm-thesis.journal",
    "[a-z]*.txt",
)


@dataclass(frozen=True)
class Verb:
    """One command that is killed.

    prepare(folder): makes what the command needs. words: of the command line, from the current folder `folder`.
    outputs: the places whose neighbours must stay. stages: name -> a text in the progress lines that belong to it; no
    stages: thirds of its time. volatile: ends of names of files whose bytes may differ from run to run. module: what
    `python -m` starts.
    """

    name: str
    prepare: Callable[[Path], None]
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    stages: tuple[tuple[str, str], ...] = ()
    volatile: tuple[str, ...] = ()
    module: str = "ldm_export"
    replaces: str | None = None  # a package that stands there before and is old or new at every moment


def _prepare_build(folder: Path) -> None:
    from tests.fuzz.kinds.checkpoint import write_checkpoint

    write_checkpoint(folder / "source", levels=1)


def _prepare_build_again(folder: Path) -> None:
    """The old package is the golden one: complete, and another one than the build will make."""
    _prepare_build(folder)
    shutil.copytree(GOLDEN / "package", folder / "package")


def _prepare_train(folder: Path) -> None:
    """The smoke recipe, with fewer steps."""
    from tests.train.conftest import write_images

    write_images(folder / "data-cache" / "smoke")
    text = (RECIPES / "smoke.toml").read_text(encoding="utf-8")
    text = text.replace("steps = 12", "steps = 6").replace("checkpoint_every = 4", "checkpoint_every = 2")
    (folder / "recipe.toml").write_text(text.replace("every = 6", "every = 3"), encoding="utf-8")


def _prepare_run(folder: Path) -> None:
    shutil.copytree(GOLDEN / "package", folder / "package")


def _prepare_verify(folder: Path) -> None:
    from ldm_runtime.pipeline import builtin_package

    shutil.copytree(builtin_package(), folder / "package")


_BUILD_STAGES = (
    ("export", "tracing"),
    ("weights", "writing"),
    ("check", "checking"),
    ("optimise", "optimising"),
    ("reference", "reference:"),
    ("verify", "verify:"),
)
_RUN = ("run", "package", "--prompt", "a", "--seed", "1", "--steps", "400", "--count", "4", "--size", "256x256")
_BUILD = Verb("build", _prepare_build, ("build", "source", "--out", "package"), ("package",), _BUILD_STAGES)
_BUILD_AGAIN = Verb(
    "build-force",
    _prepare_build_again,
    ("build", "source", "--out", "package", "--force"),
    ("package",),
    _BUILD_STAGES,
    replaces="package",
)
_TRAIN = Verb(
    "train",
    _prepare_train,
    ("train", "recipe.toml", "--runs", "runs"),
    ("runs/smoke/checkpoint", "runs/smoke/autoencoder/state.pt", "runs/smoke/tokenizer"),
    (
        ("tokenizer", "tokenizer:"),
        ("autoencoder", "autoencoder:"),
        ("latents", "encoding"),
        ("text encoder", "text_encoder"),
        ("diffusion", "diffusion:"),
        ("decoder", "decoder:"),
    ),
    # A state's archive holds its own temporary name, and what torch pickles in no fixed order; the lock its holder.
    volatile=("state.pt", "train.lock"),
)
_DRAW = Verb("run", _prepare_run, (*_RUN, "--out", "picture.png", "--force"), ("picture-1.png", "picture-4.png"))
_INTERPOLATE = Verb(
    "interpolate",
    _prepare_run,
    (
        *("interpolate", "package", "--prompt", "a", "--to-prompt", "b", "--frames", "6"),
        *("--steps", "100", "--size", "256x256", "--out", "way.gif", "--force"),
    ),
    ("way.gif",),
)
_VERIFY = Verb(
    "verify", _prepare_verify, ("verify", "package", "--out", "proof", "--force"), ("proof",), (("verify", "]"),)
)

VERBS = {verb.name: verb for verb in (_BUILD, _BUILD_AGAIN, _TRAIN, _DRAW, _INTERPOLATE, _VERIFY)}


def plant_foreign(folder: Path, verb: Verb) -> dict[str, bytes]:
    """Files of others beside every output; relative path -> content."""
    planted = {}
    for output in verb.outputs:
        beside = (folder / output).parent
        for pattern in FOREIGN:
            file = beside / pattern.format(name=Path(output).name)
            if file.suffix == ".txt":
                file.parent.mkdir(parents=True, exist_ok=True)
            if not file.is_dir() and not any(other.startswith(f"{pattern}/") for other in FOREIGN):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({"thesis": pattern}))
                planted[file.relative_to(folder).as_posix()] = file.read_bytes()
    return planted
