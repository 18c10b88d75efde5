"""`ldm verify` and the Python gate on one package, and other references for it."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.verify.gate import verify_package
from ldm_export.verify.reference_file import FILE
from ldm_export.verify.report import Report
from ldm_runtime.package import safetensors
from tests.cpp.cpp_build import environment
from tests.verify import perturbations

CLOSE = 1e-2  # of a figure: both runtimes run the same graphs, but the rounding around them may differ
# Beneath these a figure is the rounding of float32 itself. PSNR: from 100 dB on it is, where 1 % is 1 dB.
NOISE = {"relative_rms": 1e-8, "max_abs": 1e-6, "image_ssim": 1e-9}
FIGURES = ("relative_rms", "max_abs", "psnr", "image_psnr", "image_ssim")


def verify(tool: Path, package: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [str(tool), "verify", str(package), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)


def both(tool: Path, package: Path, engine: str = "ort") -> tuple[Report, dict[str, Any]]:
    """Return both reports of a package, held equal; the tool's status and its sentences are those of Python too."""
    expected = verify_package(package, engine=engine)
    done = verify(tool, package, "--json", *(() if engine == "auto" else ("--engine", engine)))
    assert done.returncode == (0 if expected.passed else 1), done.stderr
    found = json.loads(done.stdout)
    assert_alike(found, json.loads(expected.to_json()))
    said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == len(expected.failures)
    return expected, found


def assert_alike(found: Any, expected: Any, place: str = "report") -> None:
    """Hold two reports equal: every name and verdict to the letter, figures nearly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            if key == "problem" and value is not None:
                assert found[key], f"{place}.{key}"  # the sentence of an engine is its own
            elif key in FIGURES and value is not None:
                assert is_near(key, found[key], value), f"{place}.{key}: {found[key]}, Python has {value}"
            else:
                assert_alike(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_alike(found[index], value, f"{place}[{index}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=1e-6), f"{place}: {found}, Python has {expected}"
    else:
        assert type(found) is type(expected) and found == expected, f"{place}: {found!r}, Python has {expected!r}"


def is_near(figure: str, found: float | None, expected: float) -> bool:
    noise = NOISE.get(figure, 3.0 if expected > 100 else 0.1)
    return found is not None and math.isclose(found, expected, rel_tol=CLOSE, abs_tol=noise)


def edit_reference(
    package: Path,
    header: Callable[[dict[str, Any]], object] = lambda value: None,
    tensors: Callable[[dict[str, np.ndarray]], object] = lambda value: None,
) -> None:
    """Write another reference, whose hash is right."""
    file = package / FILE
    arrays = {name: np.array(array) for name, array in safetensors.read(file).items()}
    value = json.loads(safetensors.read_header(file).metadata["reference"])
    header(value)
    tensors(arrays)
    file.unlink()
    safetensors.write(file, arrays, {"reference": json.dumps(value)})
    perturbations.rehash(package, FILE)
