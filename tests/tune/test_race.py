"""The race: nobody is chosen who is slower than the default, whatever the noise; losers leave, the time is kept."""

import random
from collections.abc import Callable, Mapping

import pytest

from ldm_export.tune.candidates import DEFAULT, EXACT, Candidate, loss_of
from ldm_export.tune.race import ROUNDS, Timed, Timing, fastest, is_undecided, mixed, race
from ldm_runtime.errors import EngineUnavailable, LdmError

AUTO, A, B = DEFAULT, Candidate(EXACT, {"unet": "a"}, None), Candidate(EXACT, {"unet": "b"}, None)
LOSSY = Candidate("int8", {}, None, loss_of(34.0))
WORSE = Candidate("int4", {}, None, loss_of(26.0))


def timing(seconds: float, load: float = 0.1, **parts: float) -> Timing:
    return Timing(parts or {"denoiser": seconds}, load, 10**8, {"unet": "a"})


def timed(candidate: Candidate, *seconds: float, load: float = 0.1) -> Timed:
    return Timed(candidate, tuple(timing(each, load) for each in seconds))


class Machine:
    """A machine that takes what it is told, with noise, and a clock that stands still but for that."""

    def __init__(self, seconds: Mapping[str, float], noise: Callable[[], float] = lambda: 1.0) -> None:
        self.seconds, self.noise = seconds, noise
        self.now = 0.0
        self.turns: list[str] = []

    def measure(self, candidate: Candidate) -> Timing:
        self.turns.append(candidate.name)
        taken = self.seconds[candidate.name] * self.noise()
        self.now += taken
        return timing(taken)

    def race(self, *candidates: Candidate, seconds: float = 1e9, **more) -> list[Timed]:
        return race(candidates, self.measure, seconds=seconds, clock=lambda: self.now, **more)


def noise_of(random_numbers: random.Random) -> Callable[[], float]:
    """Up to 5 % both ways, and a disturbance by half in one of ten."""
    return lambda: random_numbers.uniform(0.95, 1.05) * (1.5 if random_numbers.random() < 0.1 else 1.0)


def test_the_chosen_one_is_never_slower_than_the_default():
    for seed in range(200):
        numbers = random.Random(seed)
        field = [Candidate(EXACT, {"unet": f"engine {index}"}, None) for index in range(numbers.randint(1, 8))]
        truth = {each.name: numbers.choice([1.0, numbers.uniform(0.9, 1.1), numbers.uniform(0.3, 3)]) for each in field}
        machine = Machine({**truth, AUTO.name: 1.0}, noise_of(numbers))
        results = machine.race(AUTO, *field)
        chosen = fastest(results, results[0]).candidate
        assert machine.seconds[chosen.name] <= 1.0, seed


def test_without_the_spreads_a_slower_one_would_be_chosen():
    """The negative twin: of the same races, those that the smallest time decides go wrong."""
    wrong = 0
    for seed in range(200):
        numbers = random.Random(seed)
        field = [Candidate(EXACT, {"unet": f"engine {index}"}, None) for index in range(3)]
        truth = {each.name: numbers.uniform(1.0, 1.1) for each in field}
        results = Machine({**truth, AUTO.name: 1.0}, noise_of(numbers)).race(AUTO, *field)
        wrong += min(results, key=lambda each: each.best).candidate is not AUTO
    assert wrong > 20


def test_a_clearly_faster_one_is_chosen_through_noise():
    """But where three of its rounds, or of the default's, are disturbed."""
    chosen = []
    for seed in range(100):
        machine = Machine({AUTO.name: 1.0, A.name: 0.6, B.name: 1.4}, noise_of(random.Random(seed)))
        results = machine.race(AUTO, A, B)
        chosen.append(fastest(results, results[0]).candidate)
    assert chosen.count(A) >= 95 and chosen.count(A) + chosen.count(AUTO) == 100


def test_who_is_clearly_behind_is_measured_once_and_the_default_to_the_end():
    machine = Machine({AUTO.name: 1.0, A.name: 0.5, B.name: 2.0})
    results = machine.race(AUTO, A, B)
    assert [len(each.timings) for each in results] == [ROUNDS, ROUNDS, 1]


def test_the_race_ends_where_the_default_alone_is_left():
    machine = Machine({AUTO.name: 1.0, A.name: 2.0, B.name: 3.0})
    machine.race(AUTO, A, B)
    assert machine.turns == [AUTO.name, A.name, B.name]


def test_an_exact_one_stays_though_a_lossy_one_leads_and_a_lossy_one_leaves_if_an_exact_one_leads():
    fast_lossy = Machine({AUTO.name: 1.0, A.name: 0.8, LOSSY.name: 0.2}).race(AUTO, A, LOSSY)
    assert [len(each.timings) for each in fast_lossy] == [ROUNDS] * 3
    slow_lossy = Machine({AUTO.name: 1.0, A.name: 0.2, LOSSY.name: 0.8}).race(AUTO, A, LOSSY)
    assert [len(each.timings) for each in slow_lossy] == [ROUNDS, ROUNDS, 1]


def test_a_lossier_one_leaves_behind_one_that_is_better_and_faster():
    results = Machine({AUTO.name: 1.0, LOSSY.name: 0.3, WORSE.name: 0.6}).race(AUTO, LOSSY, WORSE)
    assert [len(each.timings) for each in results] == [ROUNDS, ROUNDS, 1]


def test_rounds_take_turns_in_both_directions():
    machine = Machine({AUTO.name: 1.0, A.name: 1.0, B.name: 1.0})
    machine.race(AUTO, A, B, rounds=2)
    names = [AUTO.name, A.name, B.name]
    assert machine.turns == names + names[::-1]


@pytest.mark.parametrize("limit", [0.5, 1.0, 2.9, 3.1, 7.0, 12.0, 100.0])
def test_the_time_is_kept_but_for_the_default_s_first_turn(limit):
    machine = Machine({AUTO.name: 1.0, A.name: 1.0, B.name: 1.0})
    results = machine.race(AUTO, A, B, seconds=limit)
    assert machine.now <= max(limit, 1.0) and results[0].timings
    assert len(machine.turns) == max(1, min(int(limit), 3 * ROUNDS))


def test_the_default_has_a_turn_however_short_the_time_is():
    now = iter(range(100))
    results = race([AUTO, A], lambda candidate: timing(1.0), seconds=1e-9, clock=lambda: float(next(now)))
    assert [len(each.timings) for each in results] == [1, 0]


def test_what_the_time_did_not_reach_is_kept_without_a_timing():
    results = Machine({AUTO.name: 1.0, A.name: 1.0, B.name: 1.0}).race(AUTO, A, B, seconds=2.5)
    assert [len(each.timings) for each in results] == [1, 1, 0]
    assert fastest(results, results[0]) is results[0]


def test_two_times_of_each_decide_nothing():
    default, other = timed(AUTO, 1.0, 1.0), timed(A, 0.1, 0.1)
    assert fastest([default, other], default) is default
    default, other = timed(AUTO, 1.0, 1.0, 1.0), timed(A, 0.1, 0.1, 0.1)
    assert fastest([default, other], default) is other


def test_nothing_is_decided_while_another_may_still_beat_the_default():
    default, twice = timed(AUTO, 1.0), timed(AUTO, 1.0, 1.0)
    assert is_undecided([default, timed(A, 1.0)]) and is_undecided([twice, timed(A, 0.5, 0.5)])
    assert is_undecided([default, Timed(A)])
    assert not is_undecided([default, timed(A, 2.0)])  # clearly behind, so that the race is over
    assert not is_undecided([default]) and not is_undecided([default, Timed(A, (), "does not run")])
    assert not is_undecided([timed(AUTO, 1.0, 1.0, 1.0), timed(A, 1.0, 1.0)])
    assert not is_undecided([Timed(AUTO, (), "does not run"), timed(A, 1.0)])


def test_who_loads_longer_than_it_saves_in_an_image_is_not_chosen():
    default = timed(AUTO, 1.0, 1.0, 1.0, load=0.1)
    slow_start, fast_start = timed(A, 0.5, 0.5, 0.5, load=0.7), timed(B, 0.6, 0.6, 0.6, load=0.5)
    assert fastest([default, slow_start], default) is default
    assert fastest([default, slow_start, fast_start], default) is fast_start


def test_what_does_not_run_is_a_row_with_its_sentence_and_no_end_of_the_race():
    def measure(candidate: Candidate) -> Timing:
        if candidate == A:
            raise EngineUnavailable("a has no device here")
        if candidate == B:
            raise MemoryError
        return timing(1.0)

    results = race([AUTO, A, B, LOSSY], measure, seconds=1e9)
    assert [each.trouble for each in results] == [
        None,
        "a has no device here",
        "it needs more memory than this machine has left",
        None,
    ]
    assert len(results[3].timings) == ROUNDS


def test_a_fault_of_the_program_is_not_a_row():
    def measure(candidate: Candidate) -> Timing:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        race([AUTO], measure, seconds=1e9)


def test_a_default_that_does_not_run_is_beaten_by_what_does():
    broken = Timed(AUTO, (), "no engine runs here")
    assert fastest([broken, timed(A, 2.0), timed(B, 1.0)], broken).candidate == B
    with pytest.raises(LdmError, match="nothing could be measured: no engine runs here"):
        fastest([broken], broken)


def test_progress_says_round_turn_name_and_time():
    said: list[str] = []
    Machine({AUTO.name: 1.0, A.name: 1.125}).race(AUTO, A, seconds=4.0, say=said.append)
    assert said[1] == "round 1 of 5, 2 of 2, exact, a: 1.12 s an image"
    assert said[-1] == "the time is over, in round 2 of 5"


# --- the engines of the parts ---

PARTS = {"denoiser": ("unet",), "decoder": ("vae_decoder",)}


def in_parts(name: str, denoiser: float, decoder: float, threads: int | None = None) -> Timed:
    engines = {"unet": name, "vae_decoder": name}
    parts = {"denoiser": denoiser, "decoder": decoder}
    return Timed(Candidate(EXACT, engines, threads), (Timing(parts, 0.1, 1, engines),))


def test_parts_with_different_fastest_engines_are_mixed():
    proposed = mixed([in_parts("ort", 4.0, 1.0), in_parts("openvino", 3.0, 2.5)], PARTS)
    assert proposed == Candidate(EXACT, {"unet": "openvino", "vae_decoder": "ort"}, None)
    assert proposed.name == "exact, unet=openvino, vae_decoder=ort"


def test_one_that_is_fastest_in_all_parts_is_not_mixed():
    assert mixed([in_parts("ort", 4.0, 1.0), in_parts("openvino", 3.0, 0.9)], PARTS) is None


def test_a_part_that_gains_less_than_times_differ_by_stays():
    assert mixed([in_parts("ort", 4.0, 0.1), in_parts("openvino", 3.9, 0.16)], PARTS) is None


def test_threads_are_not_mixed():
    assert mixed([in_parts("ort", 4.0, 1.0, threads=2), in_parts("openvino", 3.0, 2.5)], PARTS) is None
    assert mixed([], PARTS) is None


def test_a_mixture_is_proposed_after_the_first_round_and_runs_to_the_end():
    machine = Machine({AUTO.name: 1.0, A.name: 1.0, B.name: 0.5})
    seen: list[int] = []

    def propose(results):
        seen.append(len(results))
        return B

    results = machine.race(AUTO, A, propose=propose)
    assert seen == [2] and results[2].candidate == B
    assert [len(each.timings) for each in results] == [ROUNDS, 2, ROUNDS - 1]
    assert fastest(results, results[0]).candidate == B
