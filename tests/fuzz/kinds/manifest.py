"""manifest.json of a package: opened, and what it says is used for a plan and a request."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from ldm_runtime.package.open import open_package
from ldm_runtime.request import choose_size
from ldm_runtime.sampling.plan import compile_plan
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import json_input
from tests.runtime.tiny_package import tokenizer_of

BUILTIN = Path(__file__).parents[3] / "runtime" / "ldm_runtime" / "builtin"


def _prepare(folder: Path) -> tuple[Path, list[Any]]:
    package = folder / "package"
    shutil.copytree(GOLDEN / "package", package)
    seeds = [GOLDEN / "package" / "manifest.json"] * 3 + [BUILTIN / "manifest.json"]
    return package, [json.loads(file.read_text(encoding="utf-8")) for file in seeds]


def _make(random: Random, prepared: tuple[Path, list[Any]]) -> bytes:
    return json_input(random, random.choice(prepared[1]))


def _read(content: bytes, prepared: tuple[Path, list[Any]]) -> None:
    package = prepared[0]
    (package / "manifest.json").write_bytes(content)
    opened = open_package(package, check="full")
    opened.confirm()
    contract = opened.manifest.contract
    choose_size(contract, None)
    compile_plan(contract.schedule, contract.defaults.parsed_sampler, contract.defaults.steps)
    tokenizer_of(opened).encode(["a red apple"])


KINDS = [Kind("manifest", _prepare, _make, _read)]
