"""What a peer's program measures of its components."""

import sys

import numpy as np
import pytest

from benchmarks.peers.programs.protocol import Request, forget_peak, measure_components, peak_memory


def request(folder, **changes) -> Request:
    made = {
        "task": "components",
        "started": 0.0,
        "answer": "",
        "model": "",
        "engine": "",
        "precision": "fp32",
        "form": "",
        "threads": 1,
        "size": (64, 64),
        "steps": 2,
        "guidance": 3.0,
        "prompt": "",
        "components": ("unet", "vae_decoder"),
        "component_seconds": 0.0,
        "evaluations": 3,
        "seed": 0,
        "inputs": "",
        "outputs": str(folder / "outputs.npz"),
    }
    return Request(**{**made, **changes})


def test_each_component_is_evaluated_as_often_as_asked_and_once_before(tmp_path):
    calls = {"unet": 0, "unet_shallow": 0, "text_encoder": 0}

    def evaluation(name: str):
        def once() -> np.ndarray:
            calls[name] += 1
            return np.full(2, calls[name])

        return once

    found = measure_components(request(tmp_path), {name: evaluation(name) for name in calls})
    assert calls == {"unet": 4, "unet_shallow": 4, "text_encoder": 0}  # which was not asked for
    assert {name: len(each) for name, each in found["seconds"].items()} == {"unet": 3, "unet_shallow": 3}
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert set(outputs.files) == {"unet", "unet_shallow"} and outputs["unet"][0] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_the_peak_of_a_component_is_not_that_of_the_one_before(tmp_path):
    def once(megabytes: int):
        return lambda: np.ones(megabytes * 2**17)[:1]

    before = peak_memory()
    found = measure_components(request(tmp_path), {"vae_decoder": once(400), "unet": once(1)})["peaks"]
    assert found["vae_decoder"] > before + 300e6 and found["unet"] < found["vae_decoder"] - 300e6
    forget_peak()
    assert peak_memory() < found["vae_decoder"] - 300e6
