"""Values of the command line's arguments: exit code 0, 1 or 2, and never an exception."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from click.testing import CliRunner

from ldm_runtime.errors import InputError
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import NUMBERS, TEXTS, mutate_text

RUN: dict[str, str] = {
    "--prompt": "a (red:1.2) apple", "--negative": "people", "--steps": "1", "--guidance": "3", "--seed": "1",
    "--sampler": "dpmpp_2m", "--size": "64x48", "--count": "1", "--image": "picture.png", "--strength": "0.5",
    "--mask": "picture.png", "--guidance-rescale": "0.5", "--guidance-interval": "0.2:0.8", "--variation": "7:0.2",
    "--noise": "philox", "--engine": "ort", "--threads": "1", "--engine-option": "ort:cuda.device_id=1",
    "--check": "size", "--out": "out.png",
}  # fmt: skip
INTERPOLATE = {
    "--prompt": "a", "--to-prompt": "b", "--seed": "0", "--to-seed": "1", "--frames": "2", "--negative": "c",
    "--steps": "1", "--guidance": "3", "--sampler": "ddim", "--size": "64x48", "--seconds": "0.1",
    "--out": "way.gif", "--threads": "1",
}  # fmt: skip
BUILD = {
    "--target": "onnx", "--precision": "fp32", "--compute-capability": "8.6,8.9", "--flavour": "rtx",
    "--profile": "batch=1:1:2", "--config": "picture.png", "--variant": "fp16", "--max-memory": "0.001",
}  # fmt: skip
VERBS: dict[str, tuple[list[str], dict[str, str]]] = {
    "run": (["package", "--force"], RUN),
    "interpolate": (["package", "--force"], INTERPOLATE),
    "plan": (["package"], {"--sampler": "dpmpp_2m", "--steps": "4", "--strength": "0.5"}),
    "inspect": (["package", "--json"], {}),
    "build": (["package", "--out", "built"], BUILD),
    "bench": (["package"], {"--engine": "none", "--rounds": "1", "--steps": "1", "--size": "64x48", "--threads": "1"}),
    "train": (["recipe.toml", "--runs", "runs"], {}),
    "verify": (["picture.png"], {"--engine": "ort", "--out": "proof"}),
}
NEEDED = {"run": ("--prompt", "--steps", "--out"), "interpolate": ("--prompt", "--steps", "--frames", "--out")}
PATHS = (
    "",
    ".",
    "/",
    "/dev/null",
    "/proc/self/environ",
    "package",
    "missing",
    "picture.png",
    "a" * 300,
    "\0",
    "\udcff",
)


def _prepare(folder: Path) -> None:
    from PIL import Image

    import ldm_export.bench
    import ldm_export.build
    import ldm_export.train.run
    import ldm_export.verify.gate  # noqa: F401  # what importing takes is no input's

    shutil.copytree(GOLDEN / "package", folder / "package")
    Image.new("RGB", (64, 48), "red").save(folder / "picture.png")
    (folder / "recipe.toml").write_text("name = 1")


def _make(random: Random, prepared: None) -> bytes:
    """The words of one call, as JSON. Outputs stay in the current folder, and no build is let past its first check."""
    verb = random.choice(("run", "run", "run", *VERBS))
    fixed, options = VERBS[verb]
    needed = NEEDED.get(verb, ())
    chosen = {name: value for name, value in options.items() if name in needed or random.random() < 0.15}
    if verb == "build":
        chosen["--max-memory"] = "0.001"
    for _ in range(random.choice((1, 1, 2))):
        changeable = [
            name for name in options if (verb, name) not in (("build", "--max-memory"), ("bench", "--engine"))
        ]
        if not changeable:
            break
        name = random.choice(changeable)
        chosen[name] = _value(random, name, options[name])
    words = [verb, *fixed]
    if random.random() < 0.15:
        words[1] = random.choice(PATHS)
    if verb == "bench":
        chosen["--engine"] = "none"  # refused: nothing is measured
    for name, value in chosen.items():
        words += [name, value]
    if random.random() < 0.1:
        words.insert(random.randrange(1, len(words) + 1), random.choice(("--", "--help", "-x", "--unknown", *TEXTS)))
    return json.dumps(words).encode()


def _value(random: Random, name: str, value: str) -> str:
    if name in ("--image", "--mask", "--config"):
        return random.choice(PATHS)
    changed = random.choice((str(random.choice(NUMBERS)), random.choice(TEXTS), mutate_text(random, value)))
    if name == "--out":  # only names in this folder
        return changed.replace("/", "_").replace("..", "_")
    if name in ("--steps", "--frames", "--count", "--rounds") and changed.isdecimal() and 50 < int(changed) < 10**6:
        return "1000001"  # many steps are what was asked for, and take their time
    if name == "--threads" and changed.isdecimal() and 4 < int(changed) < 2**16:
        return str(2**16)  # a number that an engine might follow would take the machine from everybody else
    return changed


def _read(content: bytes, prepared: Any) -> None:
    from ldm_export.cli.main import verbs

    words = json.loads(content)
    result = CliRunner().invoke(verbs, words)
    for file in (*Path().glob("*.png"), *Path().glob("*.gif")):
        if file.name != "picture.png":
            file.unlink()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), f"exit code {result.exit_code}: {result.output}"
    assert "Traceback" not in result.output, result.output
    if result.exit_code != 0:
        raise InputError(result.stderr)  # its text is looked at as that of any other error


KINDS = [Kind("cli", _prepare, _make, _read, memory=2**31)]
