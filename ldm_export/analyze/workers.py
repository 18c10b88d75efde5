"""Workers: threads that each compute with one core, what they take for a job, and what a simple law predicts of it."""

import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from ldm_export.analyze.statistics import Interval, spread
from ldm_export.analyze.subject import Subject, TorchEngine
from ldm_export.analyze.timing import Seconds, ratio, timed
from ldm_export.process.cores import usable_cores
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.pipeline import Pipeline

MOST_WORKERS = 8


class ClockedEngine:
    """An engine that notes how long each of its evaluations took, in seconds, whichever thread asked for it."""

    def __init__(self, engine: Engine) -> None:
        self.inputs, self.outputs, self.notices = engine.inputs, engine.outputs, engine.notices
        self.maps_weights = False
        self.seconds: list[float] = []
        self._engine = engine

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs, seconds = timed(lambda: self._engine.run(feeds))
        self.seconds.append(seconds)
        return outputs

    def close(self) -> None:
        self._engine.close()


@contextmanager
def open_workers(subject: Subject) -> Iterator[tuple[Pipeline, dict[str, ClockedEngine]]]:
    """Open the model so that each thread that evaluates it takes one core; with its engines, by component.

    ONNX Runtime on the CPU, or torch where the model is a checkpoint.
    """
    package, components = subject.pipe.package, subject.contract.components
    choice = choose("ort", threads=1)
    before = torch.get_num_threads()
    if subject.checkpoint.package is None:
        torch.set_num_threads(1)
        engines: dict[str, Engine] = {name: TorchEngine(subject, name) for name in components}
    else:
        engines = {name: open_engine(choice, package, name).engine for name in components}
    clocked = {name: ClockedEngine(engine) for name, engine in engines.items()}
    try:
        with Pipeline(package, choice, engines=clocked) as pipe:
            yield pipe, clocked
    finally:
        torch.set_num_threads(before)


def worker_count() -> int:
    """Return how many workers are measured: as many as this process may use cores, at least 2."""
    return max(2, min(usable_cores(), MOST_WORKERS))


@dataclass(frozen=True)
class Bench:
    """A model that is open for workers, and how they are measured.

    slowdown: by component, how many times as long an evaluation takes when every worker makes one as when one does.
    """

    pipe: Pipeline
    engines: Mapping[str, ClockedEngine]
    pool: ThreadPoolExecutor
    workers: int
    rounds: int
    slowdown: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """A job on several workers beside the same job on one, all in seconds.

    compute: what the job takes to compute on one worker when it is not divided; communication: what else there is to do
    when it is. alone: on one worker, together: on `workers`, in pairs of the same round. expected: what follows from
    how the work is divided, what that adds to it, and how much workers slow one another down.
    """

    name: str
    workers: int
    compute: float
    communication: float
    expected: float
    alone: Seconds
    together: Seconds

    @property
    def law(self) -> float:
        return max(self.compute / self.workers, self.communication)

    @property
    def seconds(self) -> float:
        return statistics.median(self.together)

    @property
    def speedup(self) -> Interval:
        """Return the ratio of medians, and the smallest and largest of the rounds'."""
        return ratio(self.alone, self.together)

    @property
    def efficiency(self) -> Interval:
        """Return the speed-up over the number of workers."""
        found = self.speedup
        return Interval(found.value / self.workers, found.low / self.workers, found.high / self.workers)

    @property
    def beside_law(self) -> Interval:
        """Return the time of several workers over what the law predicts, and that of the fastest and slowest run."""
        found = spread(np.array(self.together))
        return Interval(found.value / self.law, found.low / self.law, found.high / self.law)
