"""What is measured of an image: all its parts, long runs by some of their evaluations, whole cycles of them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ldm_export.tune import measure as measuring
from ldm_export.tune.candidates import DEFAULT, EXACT, Candidate
from ldm_export.tune.measure import measure, parts_of
from ldm_runtime.errors import LdmError
from ldm_runtime.package.open import open_package
from tests.runtime import cached_package


@dataclasses.dataclass
class Clock:
    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclasses.dataclass
class Step:
    latents: np.ndarray


@dataclasses.dataclass
class Plan:
    rows: list[float]


@dataclasses.dataclass
class Request:
    plan: Plan


class Run:
    """Evaluations that each take what they are told. Its steps are not asked for: some have more than one."""

    def __init__(self, clock: Clock, seconds: list[float]) -> None:
        self.clock, self.seconds, self.request, self.drawn = clock, seconds, Request(Plan(seconds)), 0

    def evaluations(self) -> Iterator[Step]:
        for seconds in self.seconds:
            self.clock.now += seconds
            self.drawn += 1
            yield Step(np.zeros(1))

    def cancel(self) -> None:
        pass


class Pipe:
    """A pipeline whose text takes 0.25 s and whose decoder takes 2 s."""

    def __init__(self, clock: Clock, guided: list[float], unguided: float = 0.0) -> None:
        self.clock, self.guided, self.unguided = clock, guided, unguided
        self.runs: list[Run] = []

    def sample(self, prompt: str, **options: Any) -> Run:
        self.clock.now += 0.25
        without = options.get("guidance") == 1.0
        self.runs.append(Run(self.clock, [self.unguided] * len(self.guided) if without else self.guided))
        return self.runs[-1]

    def decode_array(self, latents: np.ndarray) -> None:
        self.clock.now += 2.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    return clock


@dataclasses.dataclass
class Caching:
    interval: int


@dataclasses.dataclass
class VariantRun:
    caching: Caching | None = None
    guidance_until: float = 1.0


@dataclasses.dataclass
class Variant:
    run: VariantRun


def image(pipe: Pipe, variant: Variant | None = None) -> dict[str, float]:
    return measuring._image(pipe, {}, variant)  # type: ignore[arg-type]


def test_a_short_run_is_drawn_to_its_end(clock):
    pipe = Pipe(clock, [0.125, 0.25, 0.125])
    assert image(pipe) == {"text": 0.25, "denoiser": 0.5, "decoder": 2.0}
    assert pipe.runs[0].drawn == 3


def test_a_long_run_is_told_by_two_evaluations(clock):
    pipe = Pipe(clock, [4.0] * 20)
    assert image(pipe)["denoiser"] == 80.0
    assert pipe.runs[0].drawn == 2


def test_evaluations_go_on_until_a_second_has_passed(clock):
    pipe = Pipe(clock, [0.25] * 20)
    assert image(pipe)["denoiser"] == 5.0
    assert pipe.runs[0].drawn == 4


def test_of_a_run_with_caching_whole_cycles_are_drawn(clock):
    pipe = Pipe(clock, [4.0, 1.0, 1.0] * 6)
    assert image(pipe, Variant(VariantRun(Caching(3))))["denoiser"] == 36.0
    assert pipe.runs[0].drawn == 6


def test_what_is_drawn_without_guidance_counts_by_its_share(clock):
    pipe = Pipe(clock, [4.0] * 20, unguided=2.0)
    assert image(pipe, Variant(VariantRun(guidance_until=0.75)))["denoiser"] == 15 * 4.0 + 5 * 2.0
    assert [run.drawn for run in pipe.runs] == [2, 2]
    whole = Pipe(clock, [0.25] * 2 + [0.125] * 2, unguided=9.0)
    assert image(whole, Variant(VariantRun(guidance_until=0.5)))["denoiser"] == 0.75 and len(whole.runs) == 1


@pytest.mark.slow
def test_an_image_of_a_package_is_measured_in_a_process_of_its_own(tiny):
    package = open_package(tiny)
    timing = measure(tiny, (64, 48), DEFAULT)
    assert set(timing.parts) == set(parts_of(package)) == {"text", "denoiser", "decoder"}
    assert min(timing.parts.values()) > 0 and timing.seconds == sum(timing.parts.values())
    assert dict(timing.engines) == dict.fromkeys(("text_encoder", "unet", "vae_decoder"), "ort")
    assert timing.load_seconds > 0 and 20e6 < timing.peak_bytes < 2e9
    one = measure(tiny, (64, 48), Candidate(EXACT, {"unet": "openvino"}, 1))
    assert one.engines["unet"] == "openvino" and one.engines["vae_decoder"] == "ort"


@pytest.mark.slow
def test_a_variant_with_caching_is_measured(tmp_path):
    timing = measure(cached_package.make(tmp_path / "cached"), (64, 48), Candidate("cached", {}, 1, 0.03))
    assert min(timing.parts.values()) > 0 and set(timing.engines.values()) == {"ort"}


@pytest.mark.slow
def test_what_cannot_be_opened_says_why(tiny):
    with pytest.raises(LdmError, match="tensorrt"):
        measure(tiny, (64, 48), Candidate(EXACT, {"unet": "tensorrt"}, None))
