"""What is to be reached beside the peers, and the verdicts on it by the figures of a run."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.environments import PEERS, RIVAL
from benchmarks.peers.figures import IMAGE, component_seconds, divided, figures
from benchmarks.peers.results import Results
from ldm_export.tables import spread

FEWEST_ROUNDS = 5
STEPS = 20  # of the image that caching is judged by
INTERVALS = (1, 2, 3, 4, 5)  # rows of a plan from one whole evaluation to the next

EXACT = ("ours", "ours-openvino")
BF16 = ("ours-openvino-bf16",)
INT8 = ("ours-int8", "ours-openvino-int8", "ours-openvino-int8-bf16")
CACHED = ("ours-cached", "ours-cached-bf16")


@dataclass(frozen=True)
class Target:
    """The most that the best of `peers` may take, as a share of the rival's time in the same round."""

    what: str
    peers: tuple[str, ...]
    component: str
    most: float


TARGETS = (
    Target("exact float32", EXACT, "unet", 0.88),
    Target("exact float32 with savings of work", EXACT, "unet", 0.82),
    Target("exact float32", EXACT, "vae_decoder", 0.80),
    Target("bf16", BF16, "unet", 0.50),
    Target("bf16", BF16, "vae_decoder", 0.52),
    Target("W8A8", INT8, "unet", 0.32),
    Target("W8A8", INT8, "vae_decoder", 0.45),
)
MOST_CACHED = 0.25  # of an image's evaluations


@dataclass(frozen=True)
class Rivalry:
    """A peer's lossy row and this project's of the same kind. same_kernels: both call one engine."""

    peer: str
    ours: str
    same_kernels: bool


RIVALRIES = (
    Rivalry("diffusers-bf16", "ours-openvino-bf16", False),
    Rivalry("openvino-genai-bf16", "ours-openvino-bf16", True),
    Rivalry("openvino-genai-int8", "ours-openvino-int8", True),
    Rivalry("openvino-genai-int8-bf16", "ours-openvino-int8-bf16", True),
    Rivalry("sd.cpp-q8_0", "ours-openvino-int8-bf16", False),
)


@dataclass(frozen=True)
class Verdict:
    """What was asked, whether it is so, and the figures. holds: None where they are missing, and `found` says why."""

    asked: str
    holds: bool | None
    found: str


def verdicts(results: Results) -> list[Verdict]:
    """Judge every target and every rivalry."""
    return [
        *(_target(results, target) for target in TARGETS),
        *(_cached(results, interval) for interval in INTERVALS[1:]),
        *(_rivalry(results, rivalry, what) for rivalry in RIVALRIES for what in ("step", "image")),
    ]


def image_of_steps(results: Results, peer: str, interval: int) -> dict[int, float]:
    """Return the time of the evaluations of an image, as a share of the rival's, by round.

    With caching every `interval`th evaluation is whole, the first one among them, and the others are shallow.
    """
    whole = figures(results, peer, "components", component_seconds("unet"))
    shallow = figures(results, peer, "components", component_seconds("unet_shallow")) if interval > 1 else whole
    rival = figures(results, RIVAL, "components", component_seconds("unet"))
    count = math.ceil(STEPS / interval)
    return {
        index: (count * whole[index] + (STEPS - count) * shallow[index]) / (STEPS * rival[index])
        for index in whole
        if index in rival and index in shallow
    }


def _target(results: Results, target: Target) -> Verdict:
    asked = f"{target.what}, {target.component}: at most {target.most:.2f} of {PEERS[RIVAL].title}"
    shares = {
        peer: divided(results, peer, RIVAL, "components", component_seconds(target.component)) for peer in target.peers
    }
    return _best(results, asked, shares, target.most)


def _cached(results: Results, interval: int) -> Verdict:
    asked = f"caching at interval {interval}, {STEPS} evaluations: at most {MOST_CACHED:.2f} of {PEERS[RIVAL].title}"
    return _best(results, asked, {peer: image_of_steps(results, peer, interval) for peer in CACHED}, MOST_CACHED)


def _best(results: Results, asked: str, shares: Mapping[str, Mapping[int, float]], most: float) -> Verdict:
    """Judge the peer with the smallest median."""
    medians = {peer: statistics.median(found.values()) for peer, found in shares.items() if found}
    if not medians:
        return Verdict(asked, None, _missing(results, [*shares, RIVAL]))
    best = min(medians, key=lambda peer: medians[peer])
    values = list(shares[best].values())
    found = f"{spread(values, form='.2f')} by {PEERS[best].title}{_few(len(values))}"
    return Verdict(asked, medians[best] <= most, found)


def _rivalry(results: Results, rivalry: Rivalry, what: str) -> Verdict:
    """Judge seconds of the same rounds: those of a peer with the same kernels may be less by their spread."""
    ours, theirs = (figures(results, peer, "image", IMAGE[what]) for peer in (rivalry.ours, rivalry.peer))
    rounds = sorted(ours.keys() & theirs.keys())
    title = PEERS[rivalry.peer].title
    how = "not faster by more than the spread of the rounds" if rivalry.same_kernels else "slower"
    asked = f"{what} of {title}: {how} than {PEERS[rivalry.ours].title}"
    if not rounds:
        return Verdict(asked, None, _missing(results, [rivalry.ours, rivalry.peer]))
    own, other = ([found[index] for index in rounds] for found in (ours, theirs))
    allowed = max(max(own) - min(own), max(other) - min(other)) if rivalry.same_kernels else 0.0
    lead = statistics.median(other) - statistics.median(own)
    holds = lead >= -allowed if rivalry.same_kernels else lead > 0
    found = f"{spread(other, form='.2f')} beside {spread(own, form='.2f')} s{_few(len(rounds))}"
    return Verdict(asked, holds, found)


def _missing(results: Results, peers: Sequence[str]) -> str:
    """Say why there are no figures."""
    reasons = [f"{PEERS[peer].title}: {results.left_out[peer]}" for peer in peers if peer in results.left_out]
    return "; ".join(reasons) or "no round has both"


def _few(rounds: int) -> str:
    return f"; {rounds} rounds, fewer than {FEWEST_ROUNDS}" if rounds < FEWEST_ROUNDS else ""
