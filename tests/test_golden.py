"""The Python runtime against the conformance kit, and the kit against the script that writes it."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from PIL import Image

import ldm_runtime
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.noise import philox as rng
from ldm_runtime.noise.cuda import CudaGenerator
from ldm_runtime.noise.torch_cpu import TorchGenerator
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import open_package
from ldm_runtime.sampling.loop import guide, slerp
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import schedule_from_dict
from ldm_runtime.sampling.solvers import read_sampler
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import parse_prompt, weigh, windows
from tests.runtime.tiny_package import rehash

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]
MEGABYTE = 1 << 20


def load(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text("ascii"))


def tensors(name: str) -> dict[str, np.ndarray]:
    return dict(safetensors.read(GOLDEN / f"{name}.safetensors"))


def test_the_kit_is_small() -> None:
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 10 * MEGABYTE


def test_tokens() -> None:
    kit = load("tokenizer")
    file = GOLDEN / kit["tokenizer"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == kit["sha256"]
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    assert len(kit["cases"]) > 3000
    for text, ids in kit["cases"]:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


def test_prompts() -> None:
    kit = load("prompts")
    for case in kit["parse"]:
        if case["parts"] is None:
            with pytest.raises(InputError):
                parse_prompt(case["prompt"])
            continue
        read = parse_prompt(case["prompt"])
        assert [[piece.text for piece in part] for part in read] == [
            [text for text, _ in part] for part in case["parts"]
        ]
        for part, expected in zip(read, case["parts"], strict=True):
            assert [piece.weight for piece in part] == pytest.approx([weight for _, weight in expected], abs=1e-12)
    assert any(case["parts"] is None for case in kit["parse"])
    for case in kit["weigh"]:
        result = weigh(np.array(case["embedding"], np.float32), np.array(case["weights"]))
        np.testing.assert_allclose(result, case["result"], rtol=1e-6)


def test_windows() -> None:
    tokenizer = Tokenizer(open_package(GOLDEN / "package"))
    cases = load("prompts")["windows"]
    assert len(cases) > 10 and any(case["windows"] is None for case in cases)
    for case in cases:
        if case["windows"] is None:
            with pytest.raises(InputError):
                windows(case["prompt"], tokenizer)
            continue
        made = windows(case["prompt"], tokenizer)
        assert [window.ids.tolist() for window in made] == [window["ids"] for window in case["windows"]], case["prompt"]
        for window, expected in zip(made, case["windows"], strict=True):
            np.testing.assert_allclose(window.weights, expected["weights"], rtol=1e-12)


def test_noise() -> None:
    values = tensors("noise")
    generators: dict[tuple[str, int], Any] = {}
    for case in load("noise"):
        shape, expected = tuple(case["shape"]), values[case["tensor"]]
        if case["mode"] == "philox":
            drawn = rng.philox_normal(int(case["seed"]), case["stream"], shape)
            assert hashlib.sha256(drawn.astype("<f4").tobytes()).hexdigest() == case["sha256"]
            np.testing.assert_array_equal(drawn.reshape(-1)[:64], expected)
            continue
        if case["mode"] == "slerp":
            ends = [rng.philox_normal(int(seed), 0, shape) for seed in case["seeds"]]
            drawn = slerp(ends[0], ends[1], case["share"])
        else:
            seed = int(case["seed"])
            make = {
                "torch": lambda seed: TorchGenerator(seed),
                "cuda": lambda seed: CudaGenerator(seed),
                "cuda:4096": lambda seed: CudaGenerator(seed, 4096),
            }[case["mode"]]
            if case["draw"] == 0:
                generators[case["mode"], seed] = make(seed)
            drawn = generators[case["mode"], seed].normal(shape)
        np.testing.assert_allclose(drawn.reshape(-1)[:64], expected, rtol=0, atol=1e-6)


def test_guidance() -> None:
    values = tensors("guidance")
    for case in load("guidance"):
        guided = guide(values["uncond"], values["cond"], case["scale"], case["rescale"])
        np.testing.assert_allclose(guided, values[case["tensor"]], rtol=2e-6, atol=2e-6)


def test_plans() -> None:
    kit = load("plans")
    schedules = {name: schedule_from_dict(values) for name, values in kit["schedules"].items()}
    assert len(kit["cases"]) > 300
    for case in kit["cases"]:
        plan = compile_plan(schedules[case["schedule"]], read_sampler(case["sampler"]), case["steps"], case["start"])
        expected = case["plan"]
        assert (plan.sampler.canonical, plan.identity, plan.history) == tuple(
            expected[key] for key in ("sampler", "identity", "history")
        )
        assert plan.initial_scale == pytest.approx(expected["initial_scale"], rel=1e-12)
        hook = (
            None if plan.hook is None else {"kind": plan.hook.kind, "limit": plan.hook.limit, "ratio": plan.hook.ratio}
        )
        assert hook == expected["hook"]
        for row, wanted in zip(plan.rows, expected["rows"], strict=True):
            where = (case["sampler"], case["schedule"], case["steps"], row.timestep)
            assert list(row.noise_rows) == wanted["noise_rows"], where
            assert row.ends_step == wanted["ends_step"], where
            numbers = [row.timestep, row.input_scale, row.alpha, row.sigma, row.alpha_next, row.sigma_next]
            assert numbers == pytest.approx([wanted["timestep"], wanted["input_scale"], *wanted["levels"]], rel=1e-12)
            matrix = np.array(wanted["matrix"])
            assert np.abs(row.matrix - matrix).max() <= 1e-9 * np.abs(matrix).max(), where


def change(folder: Path, edits: list[dict[str, Any]]) -> None:
    """The edits that tests/golden/README.md defines."""
    for edit in edits:
        file = folder / edit.get("file", "manifest.json")
        if edit["do"] == "delete":
            file.unlink()
        elif edit["do"] == "write":
            file.write_bytes(bytes.fromhex(edit["hex"]) if "hex" in edit else edit["text"].encode())
        elif edit["do"] == "append":
            file.write_bytes(file.read_bytes() + bytes.fromhex(edit["hex"]))
        elif edit["do"] == "truncate":
            file.write_bytes(file.read_bytes()[: -edit["bytes"]])
        elif edit["do"] == "flip":
            content = bytearray(file.read_bytes())
            content[edit["offset"]] ^= 0xFF
            file.write_bytes(content)
        elif edit["do"] == "set":
            whole = json.loads(file.read_text())
            place = whole
            for key in edit["path"][:-1]:
                place = place[key]
            place[edit["path"][-1]] = edit["value"]
            file.write_text(json.dumps(whole))
        elif edit["do"] == "link":
            file.unlink()
            file.symlink_to(edit["target"])
        else:
            assert edit["do"] == "rehash"
            rehash(folder)


@pytest.mark.parametrize("case", load("packages"), ids=lambda case: case["why"])
def test_packages(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = Path(shutil.copytree(GOLDEN / "package", tmp_path / "package"))
    (tmp_path / "model.safetensors").write_bytes((folder / "unet" / "model.safetensors").read_bytes())
    change(folder, case["edits"])
    if case["opens"]:
        with ldm_runtime.load(folder, check="full") as pipe:
            assert pipe("red", steps=1, seed=1)[0].size == (64, 48)
    else:
        with pytest.raises((PackageError, ldm_runtime.EngineError)):
            ldm_runtime.load(folder, check="full").close()


def test_runs() -> None:
    values = tensors("runs")
    image, mask = Image.fromarray(values["image"]), Image.fromarray(values["mask"])
    with ldm_runtime.load(GOLDEN / "package") as pipe:
        for case in load("runs"):
            variation = case["variation"]
            steps = list(
                pipe.sample(
                    case["prompt"],
                    negative=case["negative"],
                    steps=case["steps"],
                    guidance=case["guidance"],
                    guidance_rescale=case["guidance_rescale"],
                    guidance_interval=case["guidance_interval"],
                    sampler=case["sampler"],
                    seed=int(case["seed"]),
                    variation=None if variation is None else (int(variation[0]), variation[1]),
                    image=None if case["strength"] is None else image,
                    strength=case["strength"],
                    mask=mask if case["mask"] else None,
                    syntax=case["syntax"],
                ).evaluations()
            )
            expected = values[f"{case['tensors']}/latents"]
            latents = np.concatenate([step.latents for step in steps])
            assert latents.shape == expected.shape, case
            away = np.sqrt(
                np.square(latents - expected).mean(axis=(1, 2, 3)) / np.square(expected).mean(axis=(1, 2, 3))
            )
            assert away.max() < 1e-5, case
            picture = np.asarray(steps[-1].images()[0], int)
            assert np.abs(picture - values[f"{case['tensors']}/picture"]).max() <= 1, case


@pytest.mark.slow
def test_the_script_writes_the_kit_again(tmp_path: Path) -> None:
    """To the byte; but of plans to 1e-12, since cos and exp of two machines may differ in their last bit."""
    script = ROOT / "tests" / "make_golden.py"
    subprocess.run([sys.executable, script, tmp_path / "golden"], check=True, capture_output=True)
    again = {path.relative_to(tmp_path / "golden") for path in (tmp_path / "golden").rglob("*") if path.is_file()}
    here = {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    assert again == here - {Path("README.md")}
    for name in again - {Path("plans.json")}:
        assert (tmp_path / "golden" / name).read_bytes() == (GOLDEN / name).read_bytes(), name
    assert_near(json.loads((tmp_path / "golden" / "plans.json").read_text("ascii")), load("plans"))


def assert_near(value: Any, expected: Any) -> None:
    """Of one structure, texts and whole numbers equal, other numbers to 1e-12."""
    assert type(value) is type(expected)
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        value, expected = list(value.values()), list(expected.values())
    if isinstance(expected, list):
        for one, other in zip(value, expected, strict=True):
            assert_near(one, other)
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-15)
    else:
        assert value == expected


@pytest.mark.parametrize("value", [{"a": [1.0, 2]}, {"a": [1.0, 2.0 + 1e-11]}, {"a": [1.0]}, {"b": [1.0, 2.0]}])
def test_another_plan_is_noticed(value: Any) -> None:
    with pytest.raises((AssertionError, ValueError)):
        assert_near(value, {"a": [1.0, 2.0]})
