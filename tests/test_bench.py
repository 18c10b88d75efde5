"""The bench: what it measures is there and sane, engines that do not run here are refused, outputs are kept."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from ldm_export import bench
from ldm_export.bench import bench_package, feeds
from ldm_export.cli.main import verbs
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.units import cpu_units, describe_units
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.package.open import open_package
from tests.runtime.tiny_package import COMPONENTS

ABSENT = "ort:directml" if sys.platform != "win32" else "ort:coreml"


@pytest.fixture(scope="module")
def report(proven) -> bench.BenchReport:
    return bench_package(proven("sd15"), engines=("ort", "auto"), rounds=2, steps=2, size=(32, 32), threads=1)


@pytest.mark.slow
def test_every_engine_is_measured_in_every_round(report):
    assert [result.engine for result in report.results] == ["ort", "auto"]
    for result in report.results:
        assert len(result.rounds) == 2
        for each in result.rounds:
            assert tuple(each.graphs) == COMPONENTS
            assert len(each.step_seconds) == 2 and min(each.step_seconds) > 0
            assert each.image_seconds > sum(each.step_seconds)
            assert 20e6 < each.peak_bytes < 2e9
            for graph in each.graphs.values():
                assert graph.engine == "ort"
                assert graph.load_seconds > 0 and len(graph.seconds) >= 2 and min(graph.seconds) > 0


@pytest.mark.slow
def test_the_error_is_that_of_the_reference(report):
    for result in report.results:
        error = bench.worst_error(result)
        assert error is not None and 1e-9 < error < 1e-5


@pytest.mark.slow
def test_the_files_are_those_that_the_engine_reads(proven, report):
    package = proven("sd15")
    names = [f"{component}/{file}" for component in COMPONENTS for file in ("model.ort_cpu.onnx", "model.safetensors")]
    assert report.results[0].file_bytes == sum((package / name).stat().st_size for name in names)


@pytest.mark.slow
def test_the_report_is_a_table_and_json(report):
    table = report.table()
    for text in ("ort: ", "auto: ", "unet", "vae_decoder", "images a minute", "32x32, 2 steps"):
        assert text in table
    facts = json.loads(report.to_json())
    assert facts["threads"] == 1 and len(facts["results"][0]["rounds"]) == 2
    for parts in report.bars().values():
        assert set(parts) == {"text, twice", "2 steps", "decoder"} and min(parts.values()) > 0


def test_inputs_are_those_of_a_guided_run(proven):
    contract = open_package(proven("sd15")).manifest.contract
    shapes = {name: array.shape for name, array in feeds(contract, "unet", (64, 32)).items()}
    factor = contract.latent.downsample
    assert shapes["sample"] == (2, contract.latent.channels, 32 // factor, 64 // factor)
    assert shapes["encoder_hidden_states"][:2] == (2, contract.text[0].tokenizer.max_length)
    assert feeds(contract, "vae_encoder", (64, 32))["sample"].shape == (1, 3, 32, 64)
    assert feeds(contract, "unet", (64, 32), batch=3)["sample"].shape[0] == 3


def test_without_a_choice_all_engines_that_run_here_are_measured(proven, monkeypatch):
    present = {name for name, kind in ENGINES.items() if kind.missing() is None}
    assert "ort" in present and ABSENT not in present
    assert set(bench._that_run_here(open_package(proven("sd15")))) == present


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"engines": ("abacus",)}, InputError, "engine is 'abacus'"),
        ({"engines": (ABSENT,)}, EngineUnavailable, f"{ABSENT} does not run here: it exists for"),
        ({"rounds": 0}, InputError, "rounds is 0"),
        ({"steps": 0}, InputError, "steps is 0"),
        ({"size": (33, 32)}, InputError, "the size is 33x32"),
        ({"threads": 0}, InputError, "threads is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_work(proven, arguments, error, message):
    said: list[str] = []
    with pytest.raises(error, match=message):
        bench_package(proven("sd15"), **arguments, progress=said.append)
    assert said == []


@pytest.mark.slow
def test_the_verb_writes_its_results_and_keeps_existing_ones(proven, tmp_path: Path):
    arguments = ["bench", str(proven("sd15")), "--engine", "ort", "--rounds", "1", "--steps", "1", "--size", "32x32"]
    out = tmp_path / "bench"
    result = CliRunner().invoke(verbs, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "images a minute" in result.stdout and "round 1 of 1, ort" in result.stderr
    assert json.loads((out / "bench.json").read_text())["steps"] == 1
    with Image.open(out / "bench.png") as plot:
        assert plot.size[0] == 720 and plot.info["package"]
    before = (out / "bench.json").read_bytes()
    again = CliRunner().invoke(verbs, [*arguments, "--out", str(out)])
    assert again.exit_code == 1 and "bench.json exists already" in again.stderr
    assert (out / "bench.json").read_bytes() == before


def test_a_machine_is_named_with_its_units():
    named = bench.machine()
    assert f"({describe_units(cpu_units())})" in named and "Python" in named
