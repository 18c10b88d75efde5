"""The figures in the answers of the peers' programs, by round, and their ratios within each."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.peers.environments import COMPONENTS
from benchmarks.peers.results import Results

Answer = Mapping[str, Any]
Figure = Callable[[Answer], float | None]
"""Reads a figure from an answer; None where it is not in it."""


def component_seconds(name: str) -> Figure:
    """Return the reader of the median seconds of a component's evaluations."""
    return lambda answer: statistics.median(answer["seconds"][name]) if name in answer["seconds"] else None


def component_peak(name: str) -> Figure:
    """Return the reader of the bytes that the process held at most while it evaluated a component."""
    return lambda answer: answer.get("peaks", {}).get(name)


# What is measured in an image's process -> its value. Memory is in bytes.
IMAGE: dict[str, Figure] = {
    "import": lambda answer: answer["import_seconds"],
    "load": lambda answer: answer["load_seconds"],
    "step": lambda answer: answer["step_seconds"][-1],
    "image": lambda answer: answer["image_seconds"][-1],
    "start to first image": lambda answer: answer["first_image_seconds"],
    "peak memory": lambda answer: answer["peak_bytes"],
}
OPEN: dict[str, Figure] = {
    "opening the UNet": lambda answer: answer["load_seconds"],
    "memory of opening the UNet": lambda answer: answer["peak_bytes"],
}
BY_TASK: dict[str, dict[str, Figure]] = {
    "components": {name: component_seconds(name) for name in COMPONENTS},
    "open": OPEN,
    "image": IMAGE,
}


def figures(results: Results, peer: str, task: str, figure: Figure) -> dict[int, float]:
    """Return the values by round; a peer that was left out has none."""
    if peer in results.left_out:
        return {}
    found = {index: figure(answer) for index, answer in sorted(results.of(peer, task).items())}
    return {index: value for index, value in found.items() if value is not None}


def divided(results: Results, peer: str, rival: str, task: str, figure: Figure) -> dict[int, float]:
    """Divide the peer's figures by the rival's, for each round in which both were measured; less is better."""
    own, other = (figures(results, name, task, figure) for name in (peer, rival))
    return {index: own[index] / other[index] for index in own if index in other}


def ratios(results: Results, peer: str, rival: str) -> dict[str, tuple[float, ...]]:
    """Return all ratios of a peer, by what they are of."""
    found = {
        what: tuple(divided(results, peer, rival, task, figure).values())
        for task, table in BY_TASK.items()
        for what, figure in table.items()
    }
    return {what: each for what, each in found.items() if each}
