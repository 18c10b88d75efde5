"""The verdicts on what was to be reached, from made-up figures."""

import pytest

from benchmarks.peers.environments import PEERS
from benchmarks.peers.results import Results, Settings
from benchmarks.peers.tables import render
from benchmarks.peers.targets import RIVALRIES, Verdict, image_of_steps, verdicts


def results(
    *, components: dict[str, dict[str, list[float]]] | None = None, steps: dict[str, list[float]] | None = None
) -> Results:
    """Made-up results. components: peer -> component -> seconds of each round; steps: peer -> of each round."""
    made = Results(Settings("tiny", "0123", (512, 512), 2, 7.5, 2), "2 x Abacus", "2026-01-01")
    shared = {"import_seconds": 1.0, "peak_bytes": 3e9, "versions": {}, "file_bytes": 2e9, "load_seconds": 1.0}
    for peer, by_name in (components or {}).items():
        for index in range(max(map(len, by_name.values()))):
            seconds = {name: [each[index]] * 3 for name, each in by_name.items()}
            made.answers[f"{peer} components {index}"] = {
                **shared,
                "seconds": seconds,
                "peaks": dict.fromkeys(seconds, 5e9),
            }
    for peer, rounds in (steps or {}).items():
        for index, each in enumerate(rounds):
            times = {"step_seconds": [each], "image_seconds": [3 * each], "first_image_seconds": 4 * each}
            made.answers[f"{peer} image {index}"] = {**shared, **times}
    return made


def judged(made: Results, asked: str) -> Verdict:
    (found,) = [each for each in verdicts(made) if each.asked.startswith(asked)]
    return found


@pytest.mark.parametrize(("seconds", "holds"), [(4.9, True), (5.0, True), (5.1, False)])
def test_a_target_is_met_by_the_median_of_the_ratios_in_rounds(seconds, holds):
    # The machine slows down twofold in the second half: within a round that cancels out.
    slow = [1.0, 1.0, 2.0, 2.0, 2.0]
    found = judged(
        results(
            components={
                "optimum": {"unet": [10.0 * each for each in slow]},
                "ours-openvino-bf16": {"unet": [seconds * each for each in slow]},
            }
        ),
        "bf16, unet",
    )
    assert found.holds is holds
    assert found.found == f"{seconds / 10:.2f} ({seconds / 10:.2f} to {seconds / 10:.2f}) by ldm_runtime, openvino bf16"


def test_the_best_of_the_engines_counts():
    made = results(
        components={
            "optimum": {"unet": [10.0] * 5},
            "ours-int8": {"unet": [4.0] * 5},
            "ours-openvino-int8": {"unet": [3.5] * 5},
            "ours-openvino-int8-bf16": {"unet": [3.0] * 5},
        }
    )
    found = judged(made, "W8A8, unet")
    assert found.holds is True and "int8 + bf16" in found.found
    made.left_out["ours-openvino-int8-bf16"] = "bf16 needs a CPU with AVX512-BF16"
    found = judged(made, "W8A8, unet")
    assert found.holds is False and found.found.startswith("0.35")


def test_few_rounds_are_said():
    found = judged(
        results(components={"optimum": {"unet": [10.0] * 3}, "ours": {"unet": [8.0] * 3}}), "exact float32, unet"
    )
    assert found.holds is True and found.found.endswith("; 3 rounds, fewer than 5")


def test_what_was_not_measured_has_its_reason():
    made = results(components={"optimum": {"unet": [10.0] * 5}})
    made.left_out["ours-openvino-bf16"] = "bf16 needs a CPU with AVX512-BF16 or AMX-BF16; this one has AVX2"
    found = judged(made, "bf16, unet")
    assert found.holds is None and "this one has AVX2" in found.found
    assert judged(made, "exact float32, unet") == Verdict(
        "exact float32, unet: at most 0.88 of optimum-onnx", None, "no round has both"
    )


@pytest.mark.parametrize(("interval", "expected"), [(1, 0.4), (2, 0.22), (3, (7 * 4.0 + 13 * 0.4) / 200)])
def test_an_image_with_caching_is_whole_and_shallow_evaluations(interval, expected):
    made = results(
        components={
            "optimum": {"unet": [10.0] * 5},
            "ours-cached": {"unet": [4.0] * 5, "unet_shallow": [0.4] * 5},
        }
    )
    assert image_of_steps(made, "ours-cached", interval) == pytest.approx(dict.fromkeys(range(5), expected))


def test_caching_is_judged_at_each_interval():
    made = results(
        components={
            "optimum": {"unet": [10.0] * 5},
            "ours-cached": {"unet": [4.0] * 5, "unet_shallow": [1.2] * 5},
        }
    )
    assert judged(made, "caching at interval 2").holds is False  # 0.26
    assert judged(made, "caching at interval 3").holds is True  # 0.22


@pytest.mark.parametrize(
    ("theirs", "holds"),
    [([9.5, 9.6, 9.4, 9.5, 9.5], True), ([8.9, 8.8, 9.0, 8.9, 8.9], False), ([12.0] * 5, True)],
)
def test_a_peer_with_the_same_kernels_may_be_faster_by_the_spread(theirs, holds):
    own = [10.0, 9.8, 10.2, 10.0, 10.3]  # a spread of 0.5 around 10.0
    made = results(steps={"ours-openvino-bf16": own, "openvino-genai-bf16": theirs})
    assert judged(made, "step of OpenVINO GenAI bf16").holds is holds
    assert judged(made, "image of OpenVINO GenAI bf16").holds is holds


@pytest.mark.parametrize(("theirs", "holds"), [(10.1, True), (9.9, False)])
def test_all_other_peers_have_to_be_slower(theirs, holds):
    made = results(steps={"ours-openvino-bf16": [9.0, 10.0, 11.0] * 2, "diffusers-bf16": [theirs] * 6})
    assert judged(made, "step of diffusers, torch bf16").holds is holds


def test_only_rounds_that_both_have_are_compared():
    made = results(steps={"ours-openvino-int8": [10.0, 99.0], "openvino-genai-int8": [10.0]})
    found = judged(made, "step of OpenVINO GenAI int8:")
    assert (
        found.holds is True
        and found.found == "10.00 (10.00 to 10.00) beside 10.00 (10.00 to 10.00) s; 1 rounds, fewer than 5"
    )


def test_the_verdicts_the_memory_and_the_precisions_are_in_the_tables():
    made = results(
        components={
            "optimum": {"unet": [10.0] * 5},
            "ours-cached": {"unet": [4.0] * 5, "unet_shallow": [0.4] * 5},
            "ours-int8": {"unet": [4.0] * 5},
        },
        steps={"sd.cpp-q8_0": [20.0] * 5},
    )
    made.errors["ours-int8"] = {"unet": 0.036}
    made.errors["sd.cpp-q8_0"] = {"image": 1.5}
    text = render(made)
    assert (
        "- W8A8, unet: at most 0.32 of optimum-onnx: **missed**; 0.40 (0.40 to 0.40) by ldm_runtime, ort int8" in text
    )
    assert "caching at interval 2, 20 evaluations: at most 0.25 of optimum-onnx: **met**" in text
    assert (
        "| ldm_runtime, ort int8 | int8 | 4000 (4000 to 4000) | 0.4 (0.4 to 0.4) | 3.6e-02 | 5000 (5000 to 5000) |"
        in text
    )
    assert "| ldm_runtime, openvino int8 + bf16, cached | 2 | 0.22 (0.22 to 0.22) |" in text
    assert "bf16, vae_decoder: at most 0.52 of optimum-onnx: not measured; no round has both" in text
    assert "| stable-diffusion.cpp q8_0 |" in text and "| 1.50 |" in text


def test_rows_of_less_precision_are_known_and_share_environments():
    for rivalry in RIVALRIES:
        assert PEERS[rivalry.peer].precision != "fp32" and PEERS[rivalry.ours].is_ours
    for name, peer in PEERS.items():
        if peer.environment:
            assert PEERS[peer.environment].requirements == peer.requirements, name
        if peer.own_reference:
            assert PEERS[peer.own_reference].precision == "fp32" and not peer.same_noise
        assert (peer.precision == "fp32") == (peer.largest_error == 1e-3) or peer.own_reference, name
