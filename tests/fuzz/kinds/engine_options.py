"""What says which engine runs a package, from the command line and from Python."""

import json
from pathlib import Path
from random import Random
from typing import Any

import ldm_runtime
from ldm_export.cli.options import read_engine_options
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import NUMBERS, TEXTS, mutate_text

SEEDS: list[dict[str, Any]] = [
    {"engine": "auto", "threads": None, "options": None, "texts": []},
    {"engine": "ort", "threads": 1, "options": {}, "texts": ["ort:cuda.device_id=1"]},
    {"engine": "unet=ort,vae=ort", "threads": 2, "options": {"ort:cuda": {"device_id": 0}}, "texts": ["ort:cuda.a=b"]},
    {"engine": "ort:cuda", "threads": None, "options": {"ort:cuda": {"use_tf32": 1}}, "texts": ["openvino.device=GPU"]},
    {"engine": "text_encoder=ort", "threads": 1, "options": {"openvino": {"device": "CPU"}}, "texts": ["a"]},
]


def _prepare(folder: Path) -> list[dict[str, Any]]:
    return SEEDS


def _make(random: Random, seeds: list[dict[str, Any]]) -> bytes:
    """One of the four arguments changed; the others are of any seed."""
    made: dict[str, Any] = {key: random.choice(seeds)[key] for key in seeds[0]}
    key = random.choice(list(made))
    if isinstance(made[key], str) and random.random() < 0.8:
        made[key] = mutate_text(
            random, made[key], (*TEXTS, "ort", "ort:cuda", "unet=", "vae=", ",", "=", "auto", "openvino")
        )
    elif key == "texts":
        made[key] = [mutate_text(random, "ort:cuda.device_id=1", (*TEXTS, ".", "=", ":")) for _ in range(2)]
    elif key == "options" and random.random() < 0.7:
        engine = random.choice(("ort", "ort:cuda", "openvino", "tensorrt", "auto", ""))
        value = random.choice((*NUMBERS, *TEXTS, None, [], {}, {"device_id": random.choice((*NUMBERS, *TEXTS, None))}))
        made[key] = {engine: value}
    else:
        made[key] = random.choice((*NUMBERS, *TEXTS, None, True, [], {}, ["a"], "x"))
    if type(made["threads"]) is int and 4 < made["threads"] < 2**16:
        made["threads"] = 2**16  # a number that an engine might follow would take the machine from everybody else
    return json.dumps(made).encode()


def _read(content: bytes, seeds: list[dict[str, Any]]) -> None:
    asked = json.loads(content)
    failure = None
    try:
        if isinstance(asked["texts"], list):
            read_engine_options(asked["texts"])
    except ldm_runtime.LdmError as error:
        failure = error
    pipe = ldm_runtime.load(
        GOLDEN / "package",
        engine=asked["engine"],
        threads=asked["threads"],
        engine_options=asked["options"],
        check="size",
    )
    pipe.close()
    if failure is not None:
        raise failure


KINDS = [Kind("engine_options", _prepare, _make, _read, memory=2**31)]
