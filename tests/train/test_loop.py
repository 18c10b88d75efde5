"""The training loop: its rate, its averages, its checkpoints, and what stops it."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from ldm_export.errors import TrainingError
from ldm_export.recipes.train import OptimiserRecipe, RestartRecipe
from ldm_export.train.lock import only_trainer
from ldm_export.train.loop import STATE_FILE, Pace, StageRun, rate_factor, step_generator
from ldm_export.train.signals import raised_signals
from ldm_runtime.errors import LdmError

pytestmark = pytest.mark.slow

OPTIMISER = OptimiserRecipe(steps=40, batch_size=8, learning_rate=0.2, warmup_steps=5, ema_decay=0.9)
RESTART = RestartRecipe(steps=20, rate=0.5)
PACE = Pace(checkpoint_every=10, evaluate_every=20, identity="a recipe")


class LineStage:
    """Learns y = 3x + 1 from noisy points that depend on the step alone."""

    name = "line"

    def __init__(self, at_step=None):
        torch.manual_seed(0)
        self.modules = {"line": nn.Linear(1, 1)}
        self.at_step = at_step

    def loss(self, step):
        if self.at_step is not None:
            self.at_step(step)
        x = torch.randn(8, 1, generator=step_generator(0, 1, step))
        error = (self.modules["line"](x) - 3 * x - 1).square().mean()
        return error, {"twice": 2 * float(error.detach())}

    def evaluate(self, averages, step, folder):
        weight = averages["line"].weight.item()
        return {"held_out_loss": (weight - 3) ** 2}


def parameters(run):
    return [p.detach().clone() for p in (*run.parameters, *run.averages["line"].parameters())]


def stop_at(step):
    def check(current):
        if current == step:
            raise RuntimeError("killed")

    return check


def test_training_learns_and_leaves_a_log(tmp_path):
    run = StageRun(LineStage(), OPTIMISER, tmp_path, PACE)
    averages = run.run(lambda text: None)
    assert abs(run.stage.modules["line"].weight.item() - 3) < 0.8 and averages is run.averages
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["step"]) for row in rows] == [10, 20, 30, 40]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert rows[0]["held_out_loss"] == "" and rows[1]["held_out_loss"] != ""
    assert float(rows[0]["twice"]) == pytest.approx(2 * float(rows[0]["loss"]))
    with Image.open(tmp_path / "loss.png") as curve:
        assert len(set(curve.convert("RGB").tobytes())) > 2


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [10, 17, 39])
@pytest.mark.parametrize("checkpoint_every", [10, 7])  # 7: between two rows of the log
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, killed_at, checkpoint_every):
    pace = replace(PACE, checkpoint_every=checkpoint_every)
    whole = StageRun(LineStage(), OPTIMISER, tmp_path / "whole", pace)
    whole.run(lambda text: None)
    with pytest.raises(RuntimeError, match="killed"):
        StageRun(LineStage(stop_at(killed_at)), OPTIMISER, tmp_path / "killed", pace).run(lambda text: None)
    logged = []
    resumed = StageRun(LineStage(), OPTIMISER, tmp_path / "killed", pace)
    resumed.run(logged.append)
    assert logged[0] == f"line: continuing at step {killed_at // checkpoint_every * checkpoint_every} of 40"
    for a, b in zip(parameters(whole), parameters(resumed), strict=True):
        assert torch.equal(a, b)
    names = ("whole", "killed")
    assert (tmp_path / names[0] / "metrics.csv").read_text() == (tmp_path / names[1] / "metrics.csv").read_text()


def test_another_step_count_is_another_result(tmp_path):
    """The negative twin: the comparison above can tell two runs apart."""
    whole = StageRun(LineStage(), OPTIMISER, tmp_path / "a", PACE)
    whole.run(lambda text: None)
    other = StageRun(LineStage(), OptimiserRecipe(39, 8, 0.2, 5, ema_decay=0.9), tmp_path / "b", PACE)
    other.run(lambda text: None)
    assert not all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(other), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [None, 45])
def test_a_finished_training_is_continued_by_a_restart_as_if_it_had_been_asked_for_at_once(tmp_path, killed_at):
    whole = StageRun(LineStage(), OPTIMISER, tmp_path / "whole", PACE, RESTART)
    whole.run(lambda text: None)
    assert whole.step == 60
    first = StageRun(LineStage(), OPTIMISER, tmp_path / "parts", PACE)
    first.run(lambda text: None)
    if killed_at is not None:
        with pytest.raises(RuntimeError, match="killed"):
            StageRun(LineStage(stop_at(killed_at)), OPTIMISER, tmp_path / "parts", PACE, RESTART).run(lambda text: None)
    logged = []
    second = StageRun(LineStage(), OPTIMISER, tmp_path / "parts", PACE, RESTART)
    second.run(logged.append)
    assert logged[0] == "line: continuing at step 40 of 60"
    for a, b in zip(parameters(whole), parameters(second), strict=True):
        assert torch.equal(a, b)
    assert not all(torch.equal(a, b) for a, b in zip(parameters(first), parameters(second), strict=True))
    for other in (None, RestartRecipe(20, 0.6), RestartRecipe(30, 0.5)):
        with pytest.raises(TrainingError, match="another recipe"):
            StageRun(LineStage(), OPTIMISER, tmp_path / "parts", PACE, other).run(lambda text: None)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_an_interruption_finishes_the_step_saves_and_is_passed_on(tmp_path, number, raised):
    before = signal.getsignal(number)
    stage = LineStage(lambda step: os.kill(os.getpid(), number) if step == 13 else None)
    with pytest.raises(raised):
        StageRun(stage, OPTIMISER, tmp_path, PACE).run(lambda text: None)
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["step"] == 14
    assert signal.getsignal(number) == before


def test_a_second_interruption_stops_at_once(tmp_path):
    def twice(step):
        if step == 13:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        StageRun(LineStage(twice), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["step"] == 10


def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path):
    stage = LineStage()

    def poison(step):
        if step == 12:
            stage.modules["line"].bias.data.fill_(float("nan"))

    stage.at_step = poison
    with pytest.raises(TrainingError, match="diverged at step 13"):
        StageRun(stage, OPTIMISER, tmp_path, PACE).run(lambda text: None)
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["step"] == 10


@pytest.mark.slow
def test_the_state_of_another_recipe_or_a_damaged_one_is_refused(tmp_path):
    StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    with pytest.raises(TrainingError, match="another recipe"):
        StageRun(LineStage(), OPTIMISER, tmp_path, Pace(10, 20, "another")).run(lambda text: None)
    state = tmp_path / STATE_FILE
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(TrainingError, match="damaged"):
        StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)


def test_the_state_of_an_older_version_is_called_so_and_stays(tmp_path):
    StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    path = tmp_path / STATE_FILE
    state = torch.load(path, weights_only=True)
    del state["means"]
    torch.save(state, path)
    before = path.read_bytes()
    with pytest.raises(TrainingError, match="made by an older version of ldm-export: it lacks means"):
        StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    assert path.read_bytes() == before


def test_the_rate_warms_up_and_decays_to_its_share():
    recipe = OptimiserRecipe(steps=100, batch_size=1, learning_rate=2.0, warmup_steps=10, final_rate=0.1)
    rates = [recipe.learning_rate * rate_factor(recipe, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert rates[10] == 2.0 and rates[55] == pytest.approx(1.1) and rates[100] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_restart_decays_from_its_own_rate():
    recipe = OptimiserRecipe(steps=100, batch_size=1, learning_rate=2.0, warmup_steps=10, final_rate=0.1)
    restart = RestartRecipe(steps=50, rate=0.5)
    assert [rate_factor(recipe, step, restart) for step in range(100)] == [rate_factor(recipe, k) for k in range(100)]
    rates = [rate_factor(recipe, step, restart) for step in range(100, 151)]
    assert rates[0] == 0.5 and rates[25] == pytest.approx(0.3) and rates[50] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)


def test_averages_forget_the_start_and_then_follow_slowly(tmp_path):
    run = StageRun(LineStage(), OPTIMISER, tmp_path, PACE)
    first = run.averages["line"].weight.item()
    run._train_step()
    weight = run.stage.modules["line"].weight.item()
    assert run.averages["line"].weight.item() == pytest.approx(0.1 * first + 0.9 * weight)  # decay (1 + 0) / (10 + 0)
    run.step = 1000
    held = run.averages["line"].weight.item()
    run._train_step()
    weight = run.stage.modules["line"].weight.item()
    assert run.averages["line"].weight.item() == pytest.approx(0.9 * held + 0.1 * weight)


def test_a_flipped_bit_in_a_state_is_noticed_and_the_file_stays(tmp_path):
    StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    state = tmp_path / STATE_FILE
    weight = torch.load(state, weights_only=True)["modules"]["line"]["weight"].numpy().tobytes()
    content = bytearray(state.read_bytes())
    content[content.index(weight) + 1] ^= 0x40
    state.write_bytes(content)
    with pytest.raises(TrainingError, match="damaged.*remove it"):
        StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    assert state.read_bytes() == content


def test_a_state_that_would_run_code_is_read_as_data(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"identity": "a recipe", "step": 1, "modules": Harm()}, tmp_path / STATE_FILE)
    with pytest.raises(TrainingError, match="damaged or no state"):
        StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "step,loss\nx,y\n", "loss\n1\n", "step\n\0\n", "step,loss\n10,0.5,7\n"])
def test_a_damaged_log_is_told_and_costs_no_training(tmp_path, text):
    StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
    log = tmp_path / "metrics.csv"
    log.write_text(text)
    if text:
        with pytest.raises(TrainingError, match=r"metrics\.csv is damaged.*only its figures are lost"):
            StageRun(LineStage(), OPTIMISER, tmp_path, PACE).run(lambda text: None)
        log.unlink()
    run = StageRun(LineStage(), OPTIMISER, tmp_path, PACE)
    run.run(lambda text: None)
    assert run.metrics.rows[-1]["step"] == 40 and "held_out_loss" in run.metrics.rows[-1]


def test_a_full_disk_keeps_the_last_state_and_the_same_call_continues(tmp_path):
    resource = pytest.importorskip("resource")
    run = StageRun(LineStage(), OPTIMISER, tmp_path, PACE)
    run.run(lambda text: None)
    before = (tmp_path / STATE_FILE).read_bytes()
    run.metrics.rows.clear()  # whose curve is a larger file here
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(LdmError, match=r"cannot write .*state\.pt: File too large"):
            run._save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    run._save()


def test_a_second_trainer_is_told_and_a_killed_one_leaves_no_lock(tmp_path):
    code = f"""
import time
from dataclasses import replace
from pathlib import Path
from ldm_export.train.lock import only_trainer
with only_trainer(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "held\n"
            with pytest.raises(TrainingError, match=f"number {first.pid}.*trains in"), only_trainer(tmp_path):
                pass
        finally:
            first.kill()
    with only_trainer(tmp_path):
        assert (tmp_path / "train.lock").read_text() == f"{os.getpid()}\n"


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ldm_export.train.lock.lock", lambda descriptor: None)
    with pytest.raises(TrainingError, match="has no locks"), only_trainer(tmp_path):
        pass


def test_a_request_to_end_outside_the_steps_ends_at_once(tmp_path):
    with pytest.raises(SystemExit) as ended, raised_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_system_without_sighup_knows_the_other_requests_to_end(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    with pytest.raises(SystemExit) as ended, raised_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
