"""Runs the peers' programs in turns, round after round; a later call goes on from the file that keeps every figure."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.environments import (
    ALL_TASKS,
    COMPONENTS,
    PEERS,
    REFERENCE,
    ROOT,
    PeerFailed,
    environment_bytes,
    environment_python,
    run_logged,
)
from benchmarks.peers.programs.protocol import Request
from benchmarks.peers.results import RAW, Results
from ldm_export.bench import PROMPT
from ldm_export.process.isolate import run_isolated
from ldm_export.verify import metrics
from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_file

# Kind of model -> what is made into it by the `convert` of the peer's program.
MADE_OF = {"exported": "checkpoint", "openvino_int8": "openvino"}
CALIBRATED = ("lossy", "openvino_int8")  # kinds of models that are made with the feeds in CALIBRATION
CALIBRATION = "calibration.npz"

Say = Callable[[str], None]
FindPython = Callable[[str], Path]


@dataclass(frozen=True)
class Models:
    """The folders of the models, by kind; see `Peer.model`."""

    package: Path
    checkpoint: Path
    exported: Path
    openvino: Path
    openvino_int8: Path
    lossy: Path


class Runner:
    """A runner of programs for `results` in `out`.

    find_python: peer -> the interpreter that has it, or PeerFailed. components: those that are measured.
    """

    component_seconds = 2.0
    evaluations = 3

    def __init__(
        self,
        out: Path,
        results: Results,
        models: Models,
        find_python: FindPython,
        say: Say,
        components: tuple[str, ...] = COMPONENTS,
    ) -> None:
        self.out, self.results, self.models, self.say, self.components = out, results, models, say, components
        self._find_python = find_python
        self._pythons: dict[str, Path] = {}
        for name in ("logs", "outputs"):
            (out / name).mkdir(exist_ok=True)

    def prepare(self, peer: str) -> None:
        """Make the peer's environment, and its model where that is not there yet."""
        kind = PEERS[peer].model
        model: Path = getattr(self.models, kind)
        partial = model.with_name(f".{model.name}.partial")
        try:
            self._pythons[peer] = self._find_python(peer)
            if model.exists() or kind not in (*MADE_OF, "lossy"):
                return
            self._calibrate(kind)
            shutil.rmtree(partial, ignore_errors=True)
            self.say(f"making the model of {peer}")
            if kind == "lossy":
                from benchmarks.peers.lossy import write_lossy_package  # which needs more than --help does

                run_isolated(write_lossy_package, self.models.package, self.out / CALIBRATION, partial)
            else:
                answer = self._ask(peer, "convert", getattr(self.models, MADE_OF[kind]), partial)
                if "reason" in answer:
                    raise PeerFailed(answer["reason"])
            partial.rename(model)
        except (PeerFailed, LdmError) as error:
            self._leave_out(peer, str(error))

    def measure(self, peer: str, task: str, index: int) -> None:
        """Run one task of one peer in one round, unless it is in the results already or the peer is left out."""
        results, key = self.results, f"{peer} {task} {index}"
        if peer in results.left_out or key in results.answers:
            return
        self.say(f"round {index + 1}, {task}: {peer}")
        try:
            answer = self._ask(peer, task, getattr(self.models, PEERS[peer].model), self._outputs(peer, task))
            if "reason" in answer:
                raise PeerFailed(answer["reason"])
            results.answers[key] = answer
        except PeerFailed as error:
            self._leave_out(peer, str(error))
        self.save()

    def compare(self, peer: str, task: str) -> None:
        """Note the differences from the reference; a peer that differs by more than rounding is left out."""
        compared_with = PEERS[peer].own_reference or REFERENCE
        theirs, reference = self._outputs(peer, task), self._outputs(compared_with, task)
        if peer in self.results.left_out or not theirs.exists() or not reference.exists():
            return
        largest = PEERS[peer].largest_error
        found = self.results.errors.setdefault(peer, {})
        if task == "image":
            difference = np.load(theirs).astype(np.float64) - np.load(reference)
            found[task] = float(np.abs(difference).mean())
            return
        with np.load(theirs) as arrays, np.load(reference) as expected:
            for name in filter(expected.files.__contains__, arrays.files):
                found[name] = metrics.difference(arrays[name], expected[name]).relative_rms
                if not found[name] <= largest:
                    reason = f"its {name} differs by {found[name]:.1e} from that of {compared_with}"
                    self._leave_out(peer, f"{reason}, and at most {largest:g} is the same model")

    def save(self) -> None:
        with atomic_file(self.out / RAW) as temporary:
            temporary.write_text(json.dumps(asdict(self.results), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def _calibrate(self, kind: str) -> None:
        """Write the feeds that models of this kind are made with, unless they are there."""
        file, settings = self.out / CALIBRATION, self.results.settings
        if kind in CALIBRATED and not file.exists():
            from benchmarks.peers.lossy import write_calibration

            self.say("recording what to calibrate with")
            run_isolated(write_calibration, self.models.package, settings.size, settings.threads, file)

    def _outputs(self, peer: str, task: str) -> Path:
        """Return the file of the outputs of the peer's last run of the task."""
        return self.out / "outputs" / f"{peer}.{task}.{'npz' if task == 'components' else 'npy'}"

    def _leave_out(self, peer: str, reason: str) -> None:
        self.results.left_out[peer] = reason
        self.say(f"{peer} is left out: {reason}")

    def _ask(self, peer: str, task: str, model: Path, outputs: Path) -> dict[str, Any]:
        """Return the answer of the peer's program to one request."""
        contender, settings = PEERS[peer], self.results.settings
        answer = self.out / "outputs" / "answer.json"
        answer.unlink(missing_ok=True)
        request = Request(
            task=task,
            started=time.time(),
            answer=str(answer),
            model=str(model),
            engine=contender.engine,
            precision=contender.precision,
            form=contender.form,
            threads=settings.threads,
            size=settings.size,
            steps=settings.steps,
            guidance=settings.guidance,
            prompt=PROMPT,
            components=self.components,
            component_seconds=self.component_seconds,
            evaluations=self.evaluations,
            seed=0,
            inputs=str(self.out / (CALIBRATION if task == "convert" else "inputs.npz")),
            outputs=str(outputs),
        )
        command = [
            str(self._pythons[peer]),
            "-P",
            "-m",
            f"benchmarks.peers.programs.{contender.program}",
            json.dumps(asdict(request)),
        ]
        log = self.out / "logs" / f"{peer}.{task}.log"
        run_logged(command, log, f"its task {task} failed", env=_environment(contender.is_ours, settings.threads))
        return json.loads(answer.read_text(encoding="utf-8"))


def run_rounds(runner: Runner, peers: list[str], rounds: int, tasks: Sequence[str] = ALL_TASKS) -> None:
    """Run every task of every peer in every round, in the opposite order each time: nobody always comes first."""
    for peer in peers:
        runner.prepare(peer)
    for index in range(rounds):
        order = peers if index % 2 == 0 else peers[::-1]
        for task in tasks:
            for peer in order:
                if task in PEERS[peer].tasks:
                    runner.measure(peer, task, index)
            for peer in peers:
                is_comparable = PEERS[peer].same_noise or PEERS[peer].own_reference
                if task in PEERS[peer].tasks and peer != REFERENCE and is_comparable:
                    runner.compare(peer, task)
        runner.save()


def environments_in(folder: Path, results: Results, say: Say) -> FindPython:
    """Return a function that makes a peer's environment in `folder` when first asked for it, and notes its size."""

    def find(peer: str) -> Path:
        say(f"environment of {peer}")
        python = environment_python(peer, folder)
        results.environment_bytes[peer] = environment_bytes(folder / peer)
        return python

    return find


def _environment(is_ours: bool, threads: int) -> dict[str, str]:
    """Make the environment of a program: this repository's modules, the threads of BLAS and OpenMP, no hub."""
    paths = [str(ROOT / "runtime"), str(ROOT)] if is_ours else [str(ROOT)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }
