"""The loop of one training stage: optimiser, averaged weights, schedule, checkpoints, resuming, and metrics.

A stage can be resumed because everything it does at step k depends on the weights, the optimiser and k alone: batches
and noise are drawn from (seed, step), so a checkpoint needs no state of any random generator. On a CPU a resumed run
equals the uninterrupted one bit for bit, given the same number of threads.
"""

import contextlib
import copy
import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ldm_export.errors import TrainingError
from ldm_export.recipes.train import OptimiserRecipe, RestartRecipe
from ldm_export.train.identity import plain
from ldm_export.train.log import MetricsLog
from ldm_export.train.optimiser import Optimiser
from ldm_export.train.signals import deferred_signals
from ldm_runtime.checks import first_line, shown
from ldm_runtime.files.atomic import atomic_file, make_folder

Progress = Callable[[str], None]
M = TypeVar("M", bound=nn.Module)
STATE_FILE = "state.pt"
_STATE_KEYS = {"identity", "step", "modules", "averages", "optimiser", "means"}


class Stage(Protocol):
    """One stage of a training: modules, a loss for step k, and an evaluation."""

    name: str
    modules: dict[str, nn.Module]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Compute the scalar to minimise at `step`, and its parts for the log."""
        ...

    def evaluate(self, averages: dict[str, nn.Module], step: int, folder: Path) -> dict[str, float]:
        """Measure the averaged modules on held-out data, and write sample images to `folder`."""
        ...


@dataclass(frozen=True)
class Pace:
    """The intervals of checkpoints and evaluations; `identity` ties a checkpoint to its recipe."""

    checkpoint_every: int
    evaluate_every: int
    identity: str


class StageRun:
    """A stage with its optimiser and averaged modules, at a step."""

    def __init__(
        self, stage: Stage, recipe: OptimiserRecipe, folder: Path, pace: Pace, restart: RestartRecipe | None = None
    ) -> None:
        self.stage, self.recipe, self.folder, self.pace, self.restart = stage, recipe, folder, pace, restart
        self.steps = recipe.steps + (0 if restart is None else restart.steps)
        self.parameters = [p for module in stage.modules.values() for p in module.parameters()]
        self.averages = {name: copy.deepcopy(module).eval() for name, module in stage.modules.items()}
        for module in self.averages.values():
            module.requires_grad_(False)
        self.averaged = [p for module in self.averages.values() for p in module.parameters()]
        self.optimiser = Optimiser(stage.modules.values(), recipe)
        self.step = 0
        self.metrics = MetricsLog(folder / "metrics.csv")
        self.means = _Means()

    def run(self, log: Progress) -> dict[str, nn.Module]:
        """Train to the last step, from the checkpoint if there is one; return the averaged modules."""
        make_folder(self.folder)
        self._resume(log)
        clock = _Clock(self.step, self.steps)
        with deferred_signals() as interrupted:
            while self.step < self.steps:
                parts = self._train_step()
                self._record(parts, clock, log)
                reason = interrupted()
                if reason is not None or self.step % self.pace.checkpoint_every == 0:
                    self._save()
                if reason is not None:
                    log(f"{self.stage.name}: saved at step {self.step}; the same command continues")
                    raise reason
        if not self.metrics.rows or self.metrics.rows[-1]["step"] != self.step:  # metrics.csv was removed meanwhile
            self.metrics.add(self.step, self.stage.evaluate(self.averages, self.step, self.folder))
            self.metrics.plot()
        self._save()
        return self.averages

    def _train_step(self) -> dict[str, float]:
        self.optimiser.zero_grad()
        loss, parts = self.stage.loss(self.step)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm))
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingError(
                f"{self.stage.name} diverged at step {self.step + 1} (loss {value}, gradient norm {norm}); lower "
                f"learning_rate in the recipe, remove {self.folder} and train again"
            )
        self.optimiser.step(rate_factor(self.recipe, self.step, self.restart))
        self._average()
        self.step += 1
        return {"loss": value, **parts, "gradient_norm": norm}

    def _average(self) -> None:
        """Update the exponential moving average, faster at the start so that the initial weights are forgotten.

        torch's AveragedModel copies the first step's weights instead, which would be another training.
        """
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        get_ema_multi_avg_fn(decay)(self.averaged, self.parameters, self.step)

    def _record(self, parts: dict[str, float], clock: "_Clock", log: Progress) -> None:
        """Record the losses every ten steps, log them every hundred, and evaluate at the recipe's interval."""
        self.means.add(parts)
        evaluates = self.step % self.pace.evaluate_every == 0 or self.step == self.steps
        if self.step % 10 and not evaluates:
            return
        means = self.means.pop()
        rate = self.recipe.learning_rate * rate_factor(self.recipe, self.step - 1, self.restart)
        values = {**means, "learning_rate": rate}
        if evaluates:
            values |= self.stage.evaluate(self.averages, self.step, self.folder)
        self.metrics.add(self.step, values)
        if evaluates or self.step % 100 == 0:
            numbers = " ".join(f"{k} {v:.4g}" for k, v in values.items() if k != "learning_rate")
            log(f"{self.stage.name}: step {self.step} of {self.steps}, {numbers}, {clock.left(self.step)} left")
            self.metrics.save()
        if evaluates:
            self.metrics.plot()

    def _save(self) -> None:
        state = {
            "identity": self._identity(self.step),
            "step": self.step,
            "modules": {name: module.state_dict() for name, module in self.stage.modules.items()},
            "averages": {name: module.state_dict() for name, module in self.averages.items()},
            "optimiser": self.optimiser.state_dict(),
            "means": [self.means.sums, self.means.counts],
        }
        self.metrics.save()  # first: rows beyond the saved step are cut off when the run is resumed
        with atomic_file(self.folder / STATE_FILE) as temporary:
            torch.save(state, temporary)

    def _resume(self, log: Progress) -> None:
        path = self.folder / STATE_FILE
        if not path.exists():
            return
        state = read_state(path)
        if state["step"] > self.steps or state["identity"] != self._identity(state["step"]):
            raise TrainingError(
                f"{self.folder} was trained by another recipe or another version of ldm-export; remove that folder to "
                f"train anew, or give another --runs"
            )
        self.metrics.resume(state["step"])
        try:
            for name, module in self.stage.modules.items():
                module.load_state_dict(state["modules"][name])
                self.averages[name].load_state_dict(state["averages"][name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.means = _Means(*(dict(part) for part in state["means"]))
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise _damaged(path, error) from None
        self.step = state["step"]
        log(f"{self.stage.name}: continuing at step {self.step} of {self.steps}")

    def _identity(self, step: int) -> str:
        return identity_at(step, self.pace.identity, self.recipe, self.restart)


def identity_at(step: int, identity: str, recipe: OptimiserRecipe, restart: RestartRecipe | None) -> str:
    """Extend a stage's identity by the restart, once it has begun."""
    return identity if step <= recipe.steps else f"{identity} then {plain(restart)}"


def read_state(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """Read a stage's state.pt and check its form and checksums; without `whole` only its step and identity are usable.

    Raises TrainingError for a damaged file, one of an older version, or one of another program: it is read as data
    and cannot run code.
    """
    try:
        if whole:
            with zipfile.ZipFile(path) as archive:  # torch itself reads past wrong bytes
                if (name := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {name} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=not whole)
        step, identity = state["step"], state["identity"]
        if type(step) is not int or step < 0 or type(identity) is not str:
            raise ValueError("it holds no step or no identity")
    except Exception as error:  # torch raises several kinds for a damaged file
        raise _damaged(path, error) from None
    if lacking := sorted(_STATE_KEYS - state.keys()):
        raise TrainingError(
            f"{path} was made by an older version of ldm-export: it lacks {', '.join(lacking)}; remove {path.parent} "
            f"to train the stage anew, or give another --runs"
        )
    return cast(dict[str, Any], state)


def _damaged(path: Path, error: Exception) -> TrainingError:
    reason = shown(first_line(error))
    return TrainingError(
        f"{path} is damaged or no state of a training ({reason}); put back a copy, or remove it to train the stage anew"
    )


def rate_factor(recipe: OptimiserRecipe, step: int, restart: RestartRecipe | None = None) -> float:
    """Return the share of the peak rate at `step`, from 0: linear over the warm-up, then half a cosine to final_rate.

    The restart is another half of a cosine after the last step.
    """
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    if restart is not None and step >= recipe.steps:
        top, done = restart.rate, (step - recipe.steps) / restart.steps
    else:
        top, done = 1.0, (step - recipe.warmup_steps) / max(recipe.steps - recipe.warmup_steps, 1)
    return recipe.final_rate + (top - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


class _Clock:
    """An estimate of the time left, at the pace of this process."""

    def __init__(self, step: int, steps: int) -> None:
        self.first, self.steps, self.started = step, steps, time.monotonic()

    def left(self, step: int) -> str:
        seconds = (time.monotonic() - self.started) / max(step - self.first, 1) * (self.steps - step)
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@dataclass
class _Means:
    """Means of the losses since the last row; a resumed run records those of an uninterrupted one."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def pop(self) -> dict[str, float]:
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(module: M, device: torch.device) -> M:
    """Move a module of convolutions to the device, channels last in memory: about 15 % faster on a CPU."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def precision(device: torch.device, mixed: bool) -> contextlib.AbstractContextManager[Any]:
    """Enter bfloat16 where the device computes in it and the recipe allows it; float32 otherwise.

    CPUs with AVX-512 BF16 or AMX train about 1.6 times as fast in it.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        capabilities = torch.cpu.get_capabilities()
        able = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16) if mixed and able else contextlib.nullcontext()


def step_generator(seed: int, stage: int, step: int) -> torch.Generator:
    """Make the generator of one step, on the CPU so that every device trains on the same numbers."""
    mixed = (seed * 1_000_003 + stage) * 1_000_000_007 + step
    return torch.Generator().manual_seed(mixed % (2**63))
