"""What `ldm verify` cannot compare: a report or a reference that will not do is refused as in Python."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_export.verify.gate import verify_package
from ldm_export.verify.reference_file import FILE
from ldm_runtime.errors import PackageError
from tests.cpp.verifying import edit_reference, verify
from tests.verify import perturbations

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("private_cache")]


def refused(tool: Path, package: Path, *, same_sentence: bool = True) -> str:
    """Return what the tool says of a package that Python refuses as well: one sentence, and its code."""
    with pytest.raises(PackageError) as error:
        verify_package(package, engine="ort")
    done = verify(tool, package)
    said = [line for line in done.stderr.splitlines() if not line.startswith("[ ")]
    assert (done.returncode, done.stdout, len(said)) == (1, "", 1), done.stderr
    assert said[0].startswith("error: ") and said[0].endswith(f"[{error.value.code}]"), said
    if same_sentence:
        assert said[0] == f"error: {error.value} [{error.value.code}]"
    return said[0]


def edit_report(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = package / "verify" / "report.json"
    value = json.loads(file.read_text())
    change(value)
    perturbations.replace_text(file, json.dumps(value))


REPORTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda report: report.update(schema_version=2),
    "verdict": lambda report: report.update(passed=False),
    "digest": lambda report: report["contract"]["facts"]["image"].update(width=8),
    "type": lambda report: report["cases"][0].update(tolerance="small"),
    "key": lambda report: report["cases"][0].update(colour="red"),
    "missing": lambda report: report["trajectory"].pop("drift"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_will_not_do_is_one_sentence(tool, copy, name):
    edit_report(copy, REPORTS[name])
    refused(tool, copy, same_sentence=name in ("version", "digest"))


def test_without_the_report_of_the_build_nothing_is_compared(tool, copy):
    (copy / "verify" / "report.json").unlink()
    refused(tool, copy)


def test_a_package_without_a_reference_is_one_sentence(tool, tiny_build):
    refused(tool, tiny_build("sd15").package)


def test_a_tampered_reference_is_refused_by_its_hash(tool, copy):
    data = bytearray((copy / FILE).read_bytes())
    data[-1] ^= 1
    (copy / FILE).unlink()
    (copy / FILE).write_bytes(data)
    refused(tool, copy, same_sentence=False)


def put_nan(tensors: dict[str, np.ndarray]) -> None:
    next(array for name, array in tensors.items() if "/output/" in name).flat[3] = np.nan


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda value: value.update(schema_version=2),
    "case": lambda value: value["cases"][0].update(name="../../etc"),
    "twice": lambda value: value["cases"].append(value["cases"][0]),
    "no cases": lambda value: value.update(cases=[]),
    "tolerance": lambda value: value["cases"][0].update(tolerance=1.5),
    "no inputs": lambda value: value["cases"][0].update(inputs=[]),
    "timesteps": lambda value: value["trajectory"].update(timesteps=[]),
    "prompts": lambda value: value.update(prompts=["one"]),
    "tokenizer": lambda value: value["facts"]["tokenizers"].clear(),
    "type": lambda value: value["trajectory"].update(seed="one"),
    "no prompts": lambda value: value.update(prompts=[]),
    "a tolerance of any size": lambda value: value["cases"][0].update(tolerance=0.5),
    "a floor for everything": lambda value: value["trajectory"].update(latents_floor=-1e308),
    "a floor of the image": lambda value: value["trajectory"].update(image_floor=12),
    "a floor for nothing": lambda value: value["trajectory"].update(latents_floor=1e308),
    "seed": lambda value: value["trajectory"].update(seed=-1),
    "guidance": lambda value: value["trajectory"].update(guidance=1),
    "sampler": lambda value: value["trajectory"].update(sampler="euler_a"),
    "steps": lambda value: value["trajectory"].update(steps=1000),
    "a step less": lambda value: value["trajectory"].update(steps=19),
    "no step": lambda value: value["trajectory"].update(steps=0),
    "schedule": lambda value: value["facts"]["schedule"].update(num_train_timesteps=10),
    "another sampler": lambda value: value["facts"]["defaults"].update(sampler="none"),
    "a timestep": lambda value: value["trajectory"]["timesteps"].__setitem__(3, 1.5),
    "another size": lambda value: value["trajectory"].update(size=[8, 8]),
    "channels": lambda value: value["facts"]["latent"].update(channels=5),
    "downsample": lambda value: value["facts"]["latent"].update(downsample=0),
}
SENTENCES_DIFFER = {"version", "case", "twice", "no cases", "tokenizer", "type", "schedule"}
TENSORS: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "NaN": put_nan,
    "too many": lambda tensors: tensors.update(another=np.zeros(3, np.float32)),
    "lacking": lambda tensors: tensors.pop("trajectory/image"),
    "empty": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 0, 0), np.float32)}),
    "integers": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 64, 64), np.int32)}),
    "small": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 8, 8), np.float32)}),
    "another size": lambda tensors: tensors.update({"trajectory/image": np.zeros((3, 32, 64), np.float32)}),
    "steps": lambda tensors: tensors.update({"trajectory/latents": tensors["trajectory/latents"][1:]}),
    "other latents": lambda tensors: tensors.update({"trajectory/latents": tensors["trajectory/latents"][:, :, 1:]}),
    "numbers of latents": lambda tensors: tensors.update(
        {"trajectory/latents": tensors["trajectory/latents"].reshape(len(tensors["trajectory/latents"]), -1)}
    ),
    "tokens": lambda tensors: tensors.update({"text_encoder/tokens": tensors["text_encoder/tokens"].astype(np.int32)}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_reference_with_another_header_is_one_sentence(tool, copy, name):
    edit_reference(copy, header=HEADERS[name])
    refused(tool, copy, same_sentence=name not in SENTENCES_DIFFER)


@pytest.mark.parametrize("name", TENSORS)
def test_a_reference_with_other_tensors_is_one_sentence(tool, copy, name):
    edit_reference(copy, tensors=TENSORS[name])
    refused(tool, copy, same_sentence=name != "too many")


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:4],
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: data.replace(b'"F32"', b'"F64"', 1),
        lambda data: data + b"more",
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    ],
    ids=["cut", "tiny", "immense header", "type", "longer", "stub"],
)
def test_a_damaged_reference_is_one_sentence(tool, copy, bytes_of):
    data = bytes_of((copy / FILE).read_bytes())
    (copy / FILE).unlink()
    (copy / FILE).write_bytes(data)
    perturbations.rehash(copy, FILE)
    refused(tool, copy, same_sentence=False)


def test_a_case_without_an_output_is_one_sentence(tool, copy):
    def rename(value):
        unet = next(case for case in value["cases"] if case["component"] == "unet")
        case.append(f"unet/{unet['name']}/output/")
        unet["outputs"] = ["another"]

    def move(tensors):
        name = next(name for name in tensors if name.startswith(case[0]))
        tensors[case[0] + "another"] = tensors.pop(name)

    case: list[str] = []
    edit_reference(copy, header=rename, tensors=move)
    assert "lacks the output" in refused(tool, copy)


def test_another_mask_in_an_inpainting_reference_is_one_sentence(tool, proven, tmp_path):
    package = perturbations.copy(proven("inpaint"), tmp_path / "package")

    def move_the_mask(tensors):
        array = next(array for name, array in tensors.items() if name.endswith("captured at step 1/input/sample"))
        array[:, 4] = 1 - array[:, 4]

    edit_reference(package, tensors=move_the_mask)
    refused(tool, package)
