"""Whatever stands in a file or an argument, the outcome is a result or an error of ours, in bounded time and memory."""

import sys

import pytest

from tests.fuzz.__main__ import keep_input
from tests.fuzz.kind import generator
from tests.fuzz.kinds import KINDS
from tests.fuzz.planted import BAD
from tests.fuzz.runner import Result, run_file, run_inputs, run_kinds
from tests.fuzz.worker import find_kind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the worker bounds its memory by means of Linux alone")

FEW, MANY = 5, 100
# What an input of a kind costs more than others: fewer are read. Opening a checkpoint makes its models, without memory.
SHARE = {
    "cli": 0.15,
    "engine_options": 0.4,
    "hash_cache": 0.5,
    "model_config": 0.8,
    "model_index": 0.4,
    "checkpoint_scheduler": 0.4,
    "shard_index": 0.5,
}

PLANTED = {
    "planted-key-error": "KeyError",
    "planted-exit": "SystemExit",
    "planted-recursion": "RecursionError",
    "planted-loop": "timeout",
    "planted-memory": "memory",
    "planted-abort": "killed by signal 6",
    "planted-silent-exit": "process ended with exit code 0",
    "planted-long-message": "InputError is longer than 4000 characters",
    "planted-unprintable": "InputError is not printable",
    "planted-plain-fact": "FormatError reached a border of the API",
}


def counts(most: int) -> list[tuple[str, int, int, int]]:
    return [(name, 0, 0, max(int(most * SHARE.get(name, 1.0)), 1)) for name in KINDS]


def require_no_failure(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    failures = [(result.seed, failure) for result in results for failure in result.failures.values()]
    told = [f"{failure.line()}\n{failure.detail}\n{keep_input(folder, seed, failure)}" for seed, failure in failures]
    assert not told, "\n\n".join(told)


@pytest.mark.slow
def test_a_few_inputs_of_every_kind_are_read_or_refused(tmp_path_factory):
    require_no_failure(run_kinds(counts(FEW)), tmp_path_factory)


@pytest.mark.slow
def test_many_inputs_of_every_kind_are_read_or_refused(tmp_path_factory):
    results = run_kinds(counts(MANY))
    require_no_failure(results, tmp_path_factory)
    for result in results:  # not all of them stop at the first check
        assert result.outcomes["read"] > 0, result.kind


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_inputs_are_the_same_on_every_machine_and_differ_from_one_another(name, tmp_path, monkeypatch):
    made = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder / "cache"))
        state = KINDS[name].prepare(tmp_path / folder)
        made.append([KINDS[name].make(generator(name, 3, index), state) for index in range(30)])
    assert made[0] == made[1]
    assert len(set(made[0])) > 20


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), PLANTED.items())
def test_a_planted_fault_is_found_and_the_other_inputs_are_read(name, what):
    result = run_inputs(name, 0, 0, 8, wall=2.0)
    assert result.inputs == 8
    assert {failure.what for failure in result.failures.values()} == {what}
    (found,) = result.failures.values()
    assert found.index == BAD and found.count == 1
    assert result.outcomes["InputError"] == 4 and result.outcomes["read"] == 3


def test_an_input_that_failed_is_kept_and_can_be_read_again(tmp_path):
    (failure,) = run_inputs("planted-key-error", 0, 0, 8).failures.values()
    file = keep_input(tmp_path, 0, failure)
    assert f"--index {BAD}" in file.with_suffix(".txt").read_text()
    kind = find_kind("planted-key-error")
    assert file.read_bytes() == kind.make(generator(kind.name, 0, BAD), kind.prepare(tmp_path))
    assert run_file("planted-key-error", file).outcomes == {"InputError": 1}
