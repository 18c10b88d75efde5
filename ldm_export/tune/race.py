"""A race of configurations: they take turns, who is clearly behind leaves, and the time that was given is kept."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ldm_export.process.out_of_memory import is_out_of_memory
from ldm_export.tune.candidates import EXACT, Candidate
from ldm_runtime.errors import LdmError

ROUNDS = 5
LEAST_LEAD = 0.1  # of the faster one's time, beside both spreads: who is that far behind leaves
LEAST_SPREAD = 0.03  # of a time: what repeated ones differ by at least, however alike a few of them are
ENOUGH = 3  # times of each of two that are compared


@dataclass(frozen=True)
class Timing:
    """One process that drew an image.

    parts: what an image takes, in seconds, by part of the model. engines: component -> the engine that ran it.
    """

    parts: Mapping[str, float]
    load_seconds: float
    peak_bytes: int
    engines: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """Return the seconds of an image, with everything loaded."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Timed:
    """A candidate and its timings. trouble: why it does not run here, as a sentence."""

    candidate: Candidate
    timings: tuple[Timing, ...] = ()
    trouble: str | None = None

    @property
    def is_measured(self) -> bool:
        return bool(self.timings) and self.trouble is None

    @property
    def best(self) -> float:
        return min(each.seconds for each in self.timings)

    @property
    def seconds(self) -> float:
        return statistics.median(each.seconds for each in self.timings)

    @property
    def spread(self) -> float:
        """Return how far its times lie apart: from the best to the median, so that a disturbed round does no harm."""
        return max(self.seconds - self.best, LEAST_SPREAD * self.best)

    @property
    def first_image(self) -> float:
        """Return the seconds until a process that loads it has an image, in its best round."""
        return min(each.load_seconds + each.seconds for each in self.timings)


def race(
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate], Timing],
    *,
    seconds: float,
    rounds: int = ROUNDS,
    propose: Callable[[Sequence[Timed]], Candidate | None] = lambda timed: None,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = lambda text: None,
) -> list[Timed]:
    """Measure candidates in turns, the first one, which is the default, in every round.

    Others leave when one that is no further from the exact images leads clearly. After the first turn nothing is begun
    that would end after `seconds`, going by what it took before, or by the slowest so far. One that does not run here
    is kept with its sentence.

    seconds: from now. propose: gives one more candidate after the first round. clock: in seconds.
    """
    end = clock() + seconds
    timed = [Timed(each) for each in candidates]
    took: dict[int, float] = {}
    running = list(range(len(timed)))
    for index in range(rounds):
        turns = running if index % 2 == 0 else running[::-1]  # a drift of the machine is to nobody's advantage
        for turn, place in enumerate(turns, 1):
            started = clock()
            if took and started + took.get(place, max(took.values())) > end:
                say(f"the time is over, in round {index + 1} of {rounds}")
                return timed
            timed[place] = _measured(timed[place], measure)
            took[place] = max(took.get(place, 0.0), clock() - started)
            say(f"round {index + 1} of {rounds}, {turn} of {len(turns)}, {_outcome(timed[place])}")
        running = [place for place in running if _goes_on(timed, place)]
        proposed = propose(timed) if index == 0 else None
        if proposed is not None:
            running.append(len(timed))
            timed.append(Timed(proposed))
        if running in ([], [0]):
            break
    return timed


def fastest(timed: Sequence[Timed], default: Timed) -> Timed:
    """Return the fastest of those that beat the default, or else the default.

    To beat it is to take less for an image by more than both spreads, and no more from the start to the first image. A
    default that does not run here is beaten by all that do. Raises LdmError if nothing ran.
    """
    ran = [each for each in timed if each.is_measured]
    if default.is_measured:
        return min([default, *(each for each in ran if _beats(each, default))], key=lambda each: each.seconds)
    if not ran:
        raise LdmError(f"nothing could be measured: {default.trouble}")
    return min(ran, key=lambda each: each.seconds)


def is_undecided(timed: Sequence[Timed]) -> bool:
    """Return whether the time was over before anything could be chosen: others than the default may still beat it."""
    default = timed[0]
    if not default.is_measured or len(default.timings) >= ENOUGH:
        return False
    others = [place for place, each in enumerate(timed) if place > 0 and each.trouble is None]
    return any(not timed[place].timings or _goes_on(timed, place) for place in others)


def mixed(timed: Sequence[Timed], parts: Mapping[str, Sequence[str]]) -> Candidate | None:
    """Return the fastest exact candidate with other engines for the parts where these are clearly faster.

    parts: part -> its components. None: where there are no such parts.
    """
    exact = [each for each in timed if each.is_measured and each.candidate.variant == EXACT]
    if not exact:
        return None
    leader = min(exact, key=lambda each: each.best)
    engines = dict(leader.timings[0].engines)
    alike = [each for each in exact if each.candidate.threads == leader.candidate.threads]
    for part, components in parts.items():
        best = min(alike, key=lambda each: _best_of(each, part))
        if _best_of(leader, part) - _best_of(best, part) > leader.spread:
            engines |= {component: best.timings[0].engines[component] for component in components}
    return None if engines == leader.timings[0].engines else Candidate(EXACT, engines, leader.candidate.threads)


def _best_of(timed: Timed, part: str) -> float:
    return min(each.parts[part] for each in timed.timings)


def _measured(before: Timed, measure: Callable[[Candidate], Timing]) -> Timed:
    """Add a timing, or what is in its way."""
    try:
        return dataclasses.replace(before, timings=(*before.timings, measure(before.candidate)))
    except LdmError as error:
        return dataclasses.replace(before, trouble=str(error))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return dataclasses.replace(before, trouble="it needs more memory than this machine has left")


def _outcome(timed: Timed) -> str:
    if timed.trouble is not None:
        return f"{timed.candidate.name}: {timed.trouble}"
    return f"{timed.candidate.name}: {timed.timings[-1].seconds:.3g} s an image"


def _goes_on(timed: Sequence[Timed], place: int) -> bool:
    """Return whether one is measured again: the default always, others unless a rival that is as good leads clearly."""
    each = timed[place]
    if not each.is_measured:
        return False
    rivals = [other for other in timed if other.is_measured and other.candidate.loss <= each.candidate.loss]
    return place == 0 or not any(_leads(rival, each) for rival in rivals)


def _leads(rival: Timed, each: Timed) -> bool:
    return each.best - rival.best > LEAST_LEAD * rival.best + rival.spread + each.spread


def _beats(each: Timed, default: Timed) -> bool:
    is_enough = min(len(each.timings), len(default.timings)) >= ENOUGH
    return (
        is_enough
        and default.best - each.best > default.spread + each.spread
        and each.first_image <= default.first_image
    )
