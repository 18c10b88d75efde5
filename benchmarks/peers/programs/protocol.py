"""The protocol of the peers' programs: the request they get, the time and memory they report, the answer they leave.

A program does one task in one process: `python -m benchmarks.peers.programs.NAME REQUEST`, REQUEST being JSON. It needs
numpy beside the peer itself, and nothing of this project.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECONDS_OF_A_SHORT_IMAGE = 10.0  # an image that took less is drawn a second time

Answer = dict[str, Any]
Evaluate = Callable[[], np.ndarray]


class NotMeasured(Exception):
    """The reason why a peer cannot do the task at all, in one sentence."""


@dataclass(frozen=True)
class Request:
    """The work of one program. Paths are absolute; sizes in pixels."""

    task: str  # a key of the program's table
    started: float  # time.time() just before the process was started
    answer: str  # file that gets the answer, as JSON
    model: str  # folder in the layout that the peer opens
    engine: str  # of this project's runtime; "" for the others
    precision: str  # what it computes in: "fp32", "bf16", "int8", "int8+bf16", "q8_0"
    form: str  # of this project's graphs: "" for the exact ones, "int8", "cached", "int8-cached"
    threads: int
    size: tuple[int, int]  # width, height
    steps: int
    guidance: float
    prompt: str
    components: tuple[str, ...]  # that are measured, by the names of diffusers' folders
    component_seconds: float  # a component is run again until these have passed
    evaluations: int  # of a component at least
    seed: int  # for peers that cannot be given the latents
    inputs: str  # .npz: COMPONENT.INPUT of every component, and `latents` of unit variance (1, C, h, w)
    outputs: str  # .npz or .npy that gets what the task made, to compare it with the other peers'


Task = Callable[[Request], Answer]


def run(tasks: Mapping[str, Task], distributions: Sequence[str]) -> None:
    """Do the task of the command line; call it when all that the peer needs is imported.

    distributions: whose versions the answer names, where they are installed.
    """
    imported = time.time()
    fields = json.loads(sys.argv[1])
    request = Request(**{**fields, "size": tuple(fields["size"]), "components": tuple(fields["components"])})
    try:
        answer = tasks[request.task](request)
    except NotMeasured as error:
        answer = {"reason": str(error)}
    answer["import_seconds"] = imported - request.started
    answer["peak_bytes"] = max([peak_memory(), *answer.get("peaks", {}).values()])
    answer["versions"] = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            answer["versions"][name] = importlib.metadata.version(name)
    Path(request.answer).write_text(json.dumps(answer), encoding="utf-8")


def measure_components(request: Request, evaluate: Mapping[str, Evaluate]) -> Answer:
    """Measure the components that are asked for, {"seconds": {name: [...]}, "peaks": {name: bytes}}.

    The first evaluation, which may still allocate and compile, counts for the peak of memory only, which is that of the
    whole process with all that it has opened. Its outputs are left in a file. A name of two parts, such as
    "unet_shallow", belongs to the component that it begins with.
    """
    outputs, seconds, peaks = {}, {}, {}
    for name, once in evaluate.items():
        if name.removesuffix("_shallow") not in request.components:
            continue
        forget_peak()
        outputs[name] = once()
        taken: list[float] = []
        while len(taken) < request.evaluations or sum(taken) < request.component_seconds:
            begun = time.perf_counter()
            once()
            taken.append(time.perf_counter() - begun)
        seconds[name], peaks[name] = taken, peak_memory()
    np.savez(request.outputs, **outputs)  # type: ignore[arg-type]
    return {"seconds": seconds, "peaks": peaks}


def measure_image(request: Request, load_seconds: float, draw: Callable[[list[float]], np.ndarray]) -> Answer:
    """Measure a first image and, where that was short, a second.

    draw: makes the image, uint8 (H, W, 3), and puts time.perf_counter() into the list after each step.
    """
    images: list[float] = []
    steps: list[float] = []
    while not images or (len(images) == 1 and images[0] < SECONDS_OF_A_SHORT_IMAGE):
        ends: list[float] = []
        begun = time.perf_counter()
        pixels = draw(ends)
        images.append(time.perf_counter() - begun)
        steps.append(float(np.median(np.diff(ends))))
        if len(images) == 1:
            ready = time.time() - request.started
            np.save(request.outputs, pixels)
    return {
        "load_seconds": load_seconds,
        "image_seconds": images,
        "step_seconds": steps,
        "first_image_seconds": ready,  # from the start of the process
    }


def read_inputs(request: Request) -> dict[str, np.ndarray]:
    """Read the arrays of `Request.inputs`."""
    with np.load(request.inputs) as stored:
        return {name: stored[name] for name in stored.files}


def folder_bytes(folder: str | Path) -> int:
    """Add up the bytes of all files of a folder, links followed."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def link_file(source: str, target: str) -> None:
    """Link a file, or copy it where the target is on another disk; of a link, the file that it leads to."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def forget_peak() -> None:
    """Let Linux count the peak of memory from now on; where that cannot be, it stays that of the whole process."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as control:
            control.write("5")


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes; files that are mapped into memory count.

    `ru_maxrss` also counts what the parent had before this program was loaded, so Linux is asked for `VmHWM`.
    """
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    import resource

    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024
