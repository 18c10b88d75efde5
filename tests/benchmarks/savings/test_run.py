"""What exact savings give: inputs are those of a guided run, both engines take turns, and wrong wishes are said."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.savings import run
from benchmarks.savings.run import ALL, STEPS, Measured, Setting, feeds_of, main, measure
from ldm_export.process.isolate import Outcome
from ldm_runtime.engines.openvino.library import missing_openvino
from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import builtin_package

CONTRACT = read_manifest(builtin_package()).contract

needs_openvino = pytest.mark.skipif(missing_openvino() is not None, reason="needs OpenVINO")


def test_a_denoiser_reads_equal_latents_in_both_halves_at_the_time_of_each_step() -> None:
    found = feeds_of(CONTRACT, "unet", 4, 64)
    assert len(found) == STEPS and [float(each["timestep"]) for each in found[:: STEPS - 1]] == [951.0, 1.0]
    sample = found[0]["sample"]
    assert len(sample) == 4 and (sample == sample[:1]).all() and len(np.unique(sample[0])) > 100
    context = found[0]["encoder_hidden_states"]
    assert not np.array_equal(context[0], context[-1])
    assert len(feeds_of(CONTRACT, "vae_decoder", 4, 64)) == 1


@needs_openvino
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--component", "vae"), "Error: --component got 'vae'; "),
        (("--size", "30"), "Error: --size "),
        (("--rounds", "0"), "0 is not in the range"),
        (("--saving", "magic"), "'magic' is not one of 'sizes'"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_before_the_work(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(run, "run_isolated", lambda *args: pytest.fail("the work began"))
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code in (1, 2) and said in done.stderr and "Traceback" not in done.output


@needs_openvino
def test_every_saving_of_a_component_and_all_together_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured([2.0, 4.0, 2.0], [1.0, 3.0, 1.5], 0.7, 2e-6)
    monkeypatch.setattr(run, "run_isolated", lambda *args: Outcome(measured, 10**9, 1.0))
    done = CliRunner().invoke(main, ("--component", "vae_decoder", "--rounds", "3"))
    assert done.exit_code == 0, done.output
    rows = [line for line in done.stdout.splitlines() if line.startswith("| vae_decoder")]
    assert rows[-1].startswith(f"| vae_decoder | {ALL} | ") and len(rows) > 2
    assert "| 2.000 | 1.500 | 0.750 (0.500 to 0.750) | 0.7 | 1.0 | 2.0e-06 |" in rows[0]


@needs_openvino
@pytest.mark.slow
def test_a_saving_makes_the_same_outputs(tmp_path: Path) -> None:
    found = measure(Setting(builtin_package(), "vae_decoder", 2, 32, 1, None, 2), "sizes")
    assert len(found.without) == len(found.spared) == len(found.ratios) == 2 and found.first > 0
    assert found.relative_rms < 1e-5
