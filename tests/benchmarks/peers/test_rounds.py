"""The comparison with peers: ratios and tables from made-up figures, going on after a stop, what is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.peers.environments import PEERS, PeerFailed, environment_python, run_logged
from benchmarks.peers.figures import ratios
from benchmarks.peers.inputs import write_inputs
from benchmarks.peers.results import Results, Settings, open_results
from benchmarks.peers.rounds import Models, Runner, run_rounds
from benchmarks.peers.run import main
from benchmarks.peers.tables import bars, render
from ldm_runtime.engines.units import missing_units
from ldm_runtime.errors import InputError
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package
from tests.runtime.tiny_package import COMPONENTS

SETTINGS = Settings("tiny", "0123", (64, 32), 4, 3.0, 2)
MACHINE = "2 x Abacus"


def answer(task: str, seconds: float) -> dict:
    """What a program would answer whose every second is `seconds`."""
    shared = {"import_seconds": seconds, "peak_bytes": 3e8, "versions": {"abacus": "1.0"}, "file_bytes": 2e8}
    return (
        shared
        | {
            "open": {"load_seconds": seconds},
            "components": {
                "seconds": dict.fromkeys(COMPONENTS, [seconds, 9 * seconds, seconds]),
                "peaks": dict.fromkeys(COMPONENTS, 4e8),
            },
            "image": {
                "load_seconds": seconds,
                "image_seconds": [2 * seconds, seconds],
                "step_seconds": [2 * seconds, seconds],
                "first_image_seconds": 4 * seconds,
            },
        }[task]
    )


def results(**seconds: list[float]) -> Results:
    """Made-up results; seconds: peer -> of each round."""
    made = Results(SETTINGS, MACHINE, "2026-01-01")
    for peer, rounds in seconds.items():
        for index, each in enumerate(rounds):
            for task in PEERS[peer].tasks:
                made.answers[f"{peer} {task} {index}"] = answer(task, each)
    return made


def runner(out: Path, made: Results, say=lambda text: None) -> tuple[Runner, list[str]]:
    """A runner whose programs are not started, and the list of what it would have asked."""
    asked: list[str] = []
    made_up = Runner(out, made, Models(*[out] * 6), lambda peer: Path(sys.executable), say)

    def ask(peer: str, task: str, model: Path, outputs: Path) -> dict:
        asked.append(f"{peer} {task}")
        if peer == "sd.cpp":
            raise PeerFailed("its task image failed (killed by signal 11): it said nothing")
        return answer(task, 1.0)

    made_up._ask = ask  # type: ignore[method-assign]
    return made_up, asked


def test_a_ratio_is_taken_within_each_round():
    found = ratios(results(ours=[1.0, 3.0, 2.0], optimum=[2.0, 3.0, 8.0]), "ours", "optimum")
    assert found["unet"] == found["opening the UNet"] == found["step"] == (0.5, 1.0, 0.25)
    assert found["peak memory"] == (1.0, 1.0, 1.0)
    assert found.keys() >= set(COMPONENTS)


def test_a_round_that_only_one_of_them_has_gives_no_ratio():
    assert ratios(results(ours=[1.0, 3.0], optimum=[2.0]), "ours", "optimum")["unet"] == (0.5,)
    assert ratios(results(ours=[1.0]), "ours", "optimum") == {}


def test_the_tables_hold_medians_spread_and_what_was_left_out():
    made = results(ours=[1.0, 3.0, 2.0], optimum=[2.0, 3.0, 8.0], diffusers=[5.0, 5.0, 5.0])
    made.left_out["sd.cpp"] = "pip cannot install sd.cpp (exit code 1): no compiler"
    made.errors["ours"] = {"unet": 2e-6, "image": 0.25}
    text = render(made)
    assert "64x32 pixels, 4 steps" in text and MACHINE in text and "2026-01-01" in text and "3 rounds" in text
    assert "| ldm_runtime, ort | 2 (1 to 3) |" in text
    assert "| unet | 0.50 | 0.25 | 1 |" in text
    assert "stable-diffusion.cpp: left out; pip cannot install sd.cpp (exit code 1): no compiler" in text
    assert "2.0e-06" in text and "| 0.25 |" in text and "1.5 (1.5 to 1.5)" in text  # peak over size of files


def test_peers_with_fewer_rounds_are_named():
    text = render(results(ours=[1.0, 3.0, 2.0], optimum=[2.0, 3.0]))
    assert "the median of 3 rounds, 2 for optimum-onnx, in which the peers took turns" in text


def test_a_table_needs_neither_rival_nor_reference():
    text = render(results(ours=[1.0]))
    assert "ldm_runtime, ort /" not in text and "left out" not in text
    assert "left out" in render(replace(results(), left_out={"ours": "no engine"}))


def test_the_bars_are_of_peers_that_were_measured():
    made = results(ours=[1.0, 3.0], optimum=[2.0])
    assert bars(made) == {
        "ldm_runtime, ort": {"import": 2, "load": 2, "first image": 4},
        "optimum-onnx": {"import": 2, "load": 2, "first image": 4},
    }
    made.left_out["optimum"] = "it is not the same model"
    assert list(bars(made)) == ["ldm_runtime, ort"]


def test_a_second_call_measures_only_what_is_missing(tmp_path):
    made_up, asked = runner(tmp_path, Results(SETTINGS, MACHINE, "2026-01-01"))
    run_rounds(made_up, ["ours", "diffusers"], 1)
    assert len(asked) == 6
    again = open_results(tmp_path, SETTINGS, MACHINE, force=False)
    assert again.answers == made_up.results.answers
    made_up, asked = runner(tmp_path, again)
    run_rounds(made_up, ["ours", "diffusers"], 2)
    # The second round goes the other way round.
    tasks = ("open", "components", "image")
    assert asked == [f"{peer} {task}" for task in tasks for peer in ("diffusers", "ours")]


def test_force_measures_everything_anew(tmp_path):
    made_up, _ = runner(tmp_path, results(ours=[1.0]))
    made_up.save()
    assert open_results(tmp_path, SETTINGS, MACHINE, force=True).answers == {}


@pytest.mark.parametrize(
    ("settings", "machine", "said"),
    [
        (replace(SETTINGS, threads=1), MACHINE, "threads 2 there, 1 now"),
        (replace(SETTINGS, package="4567"), MACHINE, "package 0123 there, 4567 now"),
        (SETTINGS, "1 x Abacus", "machine 2 x Abacus there"),
    ],
)
def test_results_of_other_settings_are_not_mixed(tmp_path, settings, machine, said):
    made_up, _ = runner(tmp_path, results(ours=[1.0]))
    made_up.save()
    with pytest.raises(InputError, match=said):
        open_results(tmp_path, settings, machine, force=False)


@pytest.mark.parametrize("key", ["ours picture 0", "theirs image 0", "ours image", "ours image x"])
def test_figures_of_another_version_are_refused(tmp_path, key):
    made = results(ours=[1.0])
    made.answers[key] = made.answers["ours image 0"]
    made_up, _ = runner(tmp_path, made)
    made_up.save()
    with pytest.raises(InputError, match=f"has figures of '{key}'.*open, components, image.*--force"):
        open_results(tmp_path, SETTINGS, MACHINE, force=False)
    assert open_results(tmp_path, SETTINGS, MACHINE, force=True).answers == {}


@pytest.mark.parametrize("text", ["[]", "{", '{"settings": {"size": [1, 2]}}'])
def test_another_file_in_the_results_place_is_refused(tmp_path, text):
    (tmp_path / "peers.json").write_text(text)
    with pytest.raises(InputError, match="not a results file"):
        open_results(tmp_path, SETTINGS, MACHINE, force=False)


def test_a_peer_that_fails_is_left_out_with_the_reason_and_gets_another_chance(tmp_path):
    said: list[str] = []
    made_up, asked = runner(tmp_path, Results(SETTINGS, MACHINE, "2026-01-01"), said.append)
    run_rounds(made_up, ["ours", "sd.cpp"], 3)
    assert asked.count("sd.cpp image") == 1 and asked.count("ours image") == 3
    assert "killed by signal 11" in made_up.results.left_out["sd.cpp"]
    assert any(text.startswith("sd.cpp is left out") for text in said)
    assert open_results(tmp_path, SETTINGS, MACHINE, force=False).left_out == {}


@pytest.mark.parametrize(("factor", "accepted"), [(1 + 1e-6, True), (1.01, False)])
def test_a_peer_with_other_outputs_is_left_out(tmp_path, factor, accepted):
    made_up, _ = runner(tmp_path, results(ours=[1.0], diffusers=[1.0]))
    array = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "outputs" / "diffusers.components.npz", unet=array)
    np.savez(tmp_path / "outputs" / "ours.components.npz", unet=array * np.float32(factor))
    made_up.compare("ours", "components")
    assert ("ours" not in made_up.results.left_out) == accepted
    assert made_up.results.errors["ours"]["unet"] == pytest.approx(factor - 1, rel=0.1)


def test_all_peers_get_the_same_inputs(tmp_path):
    contract = open_package(builtin_package()).manifest.contract
    for name in ("a.npz", "b.npz"):
        write_inputs(tmp_path / name, contract, (64, 32))
    with np.load(tmp_path / "a.npz") as first, np.load(tmp_path / "b.npz") as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)
        assert first["latents"].shape == (1, 4, 4, 8) and first["unet.sample"].shape == (2, 4, 4, 8)
        assert np.array_equal(*first["unet.sample"])  # as guidance has it
        assert not np.array_equal(*first["unet.encoder_hidden_states"])
        ids = first["text_encoder.input_ids"]
        assert ids[0, -1] == contract.text[0].tokenizer.eos_token_id not in ids[0, :-1]


def test_a_command_that_fails_says_its_last_line(tmp_path):
    run_logged([sys.executable, "-c", "print('fine')"], tmp_path / "log", "it failed")
    assert (tmp_path / "log").read_text() == "fine\n"
    with pytest.raises(PeerFailed, match=r"it failed \(exit code 3\): no compiler"):
        run_logged(
            [sys.executable, "-c", "import sys; print('no compiler'); sys.exit(3)"], tmp_path / "log", "it failed"
        )


def test_an_environment_that_is_ready_is_not_made_again(tmp_path, monkeypatch):
    made: list[list[str]] = []

    def record(command, log, what, env=None):
        made.append(command)
        (tmp_path / "ours").mkdir(exist_ok=True)

    monkeypatch.setattr("benchmarks.peers.environments.run_logged", record)
    python = environment_python("ours", tmp_path)
    assert len(made) == 2 and made[1][0] == str(python) and "onnxruntime" in made[1]
    assert environment_python("ours", tmp_path) == python and len(made) == 2
    (tmp_path / "ours" / "ready.json").write_text("{}")  # of other requirements
    environment_python("ours", tmp_path)
    assert len(made) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["./sd15"], "give --package too"),
        (["--steps", "1"], "steps"),
        (["--rounds", "0"], "rounds"),
        (["--threads", "0"], "threads"),
        (["--size", "63x64"], "size"),
        (["nowhere", "--package", str(builtin_package())], "no model_index.json"),
        (["--package", "nowhere"], "nowhere"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_a_sentence(tmp_path, arguments, said):
    outcome = CliRunner().invoke(main, ["--out", str(tmp_path / "out"), *arguments])
    assert outcome.exit_code == 1 and outcome.output.startswith("Error: ") and said in outcome.output


@pytest.mark.slow
def test_the_programs_of_ours_diffusers_and_optimum_agree_on_one_model(proven, tiny_build, tmp_path):
    """optimum opens our package here, which spares its export."""
    package = proven("sd15")
    contract = open_package(package).manifest.contract
    write_inputs(tmp_path / "inputs.npz", contract, (48, 32))
    made = Results(replace(SETTINGS, size=(48, 32), steps=2), MACHINE, "2026-01-01")
    models = Models(package, tiny_build("sd15").source, package, package / "openvino-genai", tmp_path, tmp_path)
    programs = Runner(tmp_path, made, models, lambda peer: Path(sys.executable), lambda text: None)
    programs.component_seconds, programs.evaluations = 0.0, 1
    for peer in ("ours", "diffusers", "optimum"):
        programs.prepare(peer)
        programs.measure(peer, "components", 0)
    programs.measure("ours", "open", 0)
    programs.measure("ours", "image", 0)
    assert made.left_out == {} and len(made.answers) == 5
    for peer in ("ours", "optimum"):
        programs.compare(peer, "components")
        assert made.errors[peer].keys() == set(COMPONENTS) and max(made.errors[peer].values()) < 1e-5
        assert min(min(seconds) for seconds in made.of(peer, "components")[0]["seconds"].values()) > 0
    assert np.load(tmp_path / "outputs" / "ours.image.npy").shape == (32, 48, 3)
    assert 0 < made.of("ours", "open")[0]["load_seconds"] < made.of("ours", "image")[0]["first_image_seconds"]


@pytest.mark.slow
def test_the_lossy_forms_are_made_and_measured(proven, tiny_build, tmp_path):
    package = proven("sd15")
    contract = open_package(package).manifest.contract
    write_inputs(tmp_path / "inputs.npz", contract, (48, 32))
    made = Results(replace(SETTINGS, size=(48, 32), steps=2), MACHINE, "2026-01-01")
    models = Models(package, tiny_build("sd15").source, package, package, tmp_path / "int8", tmp_path / "lossy")
    programs = Runner(tmp_path, made, models, lambda peer: Path(sys.executable), lambda text: None, ("unet",))
    programs.component_seconds, programs.evaluations = 0.0, 2
    whole = {"ours", "ours-int8", "ours-openvino-int8"}
    bf16 = {"ours-openvino-bf16", "ours-openvino-int8-bf16", "ours-cached", "ours-cached-bf16"}
    for peer in sorted(whole | bf16):
        programs.prepare(peer)
        programs.measure(peer, "components", 0)
    programs.measure("ours-int8", "image", 0)
    (tmp_path / "outputs" / "diffusers.components.npz").hardlink_to(tmp_path / "outputs" / "ours.components.npz")
    for peer in sorted(whole | bf16):
        programs.compare(peer, "components")
    assert made.errors["ours"]["unet"] == 0.0
    for peer in ("ours-int8", "ours-openvino-int8"):
        assert 1e-4 < made.errors[peer]["unet"] < 0.3, peer
        (seconds,) = made.of(peer, "components")[0]["seconds"].values()
        assert len(seconds) == 2 and made.of(peer, "components")[0]["peaks"]["unet"] > 1e7
    assert np.load(tmp_path / "outputs" / "ours-int8.image.npy").shape == (32, 48, 3)
    if missing_units("bf16", ("avx512_bf16", "amx_bf16")) is not None:
        assert made.left_out.keys() == bf16
        return
    assert made.left_out == {}
    assert made.errors["ours-openvino-int8"]["unet"] < 3 * made.errors["ours-openvino-int8-bf16"]["unet"]
    shallow = made.of("ours-cached", "components")[0]["seconds"]
    assert shallow.keys() == {"unet", "unet_shallow"} and min(shallow["unet_shallow"]) < max(shallow["unet"])
