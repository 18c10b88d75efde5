"""Texts that name samplers, with options, and the plans that they make."""

from pathlib import Path
from random import Random

from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import SOLVERS, read_sampler
from tests.fuzz.kind import SCHEDULE, Kind
from tests.fuzz.mutate import NUMBERS, TEXTS, mutate_text

SCHEDULES = (
    SCHEDULE,
    NoiseSchedule(1000, 0.0001, 0.02, "linear", "v_prediction", "trailing", 0, True, True),
)
STEPS = (1, 2, 3, 4, 20, 999, 1000, 1001, 10**9, 0, -1)


def _prepare(folder: Path) -> list[str]:
    """Every solver with each of its options at its default."""
    names = list(SOLVERS)
    return [*names, "dpmpp_2m_karras", *(read_sampler(name).canonical for name in names)]


def _make(random: Random, seeds: list[str]) -> bytes:
    """Steps and schedule before the text; options of other solvers and extreme values among the words."""
    text = random.choice(seeds)
    words = [part for seed in seeds for part in seed.replace(":", ",").split(",")]
    if random.random() < 0.6:
        name, _, options = text.partition(":")
        settings = [part.partition("=")[0] for part in options.split(",") if part]
        if settings:
            chosen = random.sample(settings, random.randint(1, min(3, len(settings))))
            texts = [str(random.choice((*NUMBERS, "nan", "inf", "none", "all", "karras", "1+2"))) for _ in chosen]
            text = f"{name}:{','.join(f'{key}={value}' for key, value in zip(chosen, texts, strict=True))}"
    if random.random() < 0.5:
        text = mutate_text(random, text, (*words, *TEXTS, ",", "=", ":", "order=9", "sigmas=karras"))
    head = f"{random.choice((4, 4, 4, *STEPS))} {random.randrange(2)}\n"
    return (head + text).encode("utf-8", "surrogatepass")


def _read(content: bytes, seeds: list[str]) -> None:
    head, _, text = content.decode("utf-8", "surrogatepass").partition("\n")
    steps, schedule = head.split()
    compile_plan(SCHEDULES[int(schedule)], read_sampler(text), int(steps))


KINDS = [Kind("sampler", _prepare, _make, _read)]
