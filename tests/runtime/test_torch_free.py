"""The proof that the runtime needs no framework: it draws where importing one raises."""

import subprocess
from pathlib import Path

from tests.wall import run_behind_wall

ROOT = Path(__file__).parents[2]
BLOCKED = ["torch", "onnx", "onnxscript", "diffusers", "transformers", "optimum", "safetensors", "ldm_export"]

DRAW = """
import ldm_runtime
with ldm_runtime.load({package!r}, check="full") as pipe:
    images = pipe("red apple, 3d style", negative="blue", seed=1, steps=3, sampler="euler_ancestral")
    pipe.encode(images[0])
    images[0].save({out!r})
print(sorted(name for name in sys.modules if name.partition(".")[0] in {blocked!r}))
"""


def run(body: str) -> "subprocess.CompletedProcess[str]":
    return run_behind_wall(body, blocked=BLOCKED, paths=[ROOT / "runtime"])


def test_runtime_draws_with_every_framework_blocked(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "apple.png"
    done = run(DRAW.format(package=str(tiny), out=str(out), blocked=BLOCKED))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_wall_does_block() -> None:
    for name in BLOCKED:
        done = run(f"import {name}")
        assert done.returncode != 0 and f"blocked: {name}" in done.stderr


def test_import_takes_less_than_300_ms() -> None:
    """Of processor time, so that a busy machine does not fail it; start of Python included."""
    done = run("import ldm_runtime, time\nprint(time.process_time())")
    assert float(done.stdout) < 0.3, done.stderr


def test_a_start_imports_nothing_that_openvino_alone_needs() -> None:
    """But its row in the table, and what that needs: whether OpenVINO is here, is faster, and what it is told."""
    done = run('import ldm_runtime.pipeline\nprint(sorted(name for name in sys.modules if "engines.openvino" in name))')
    light = ("", ".library", ".properties", ".row", ".rule")
    assert done.stdout.strip() == str([f"ldm_runtime.engines.openvino{which}" for which in light]), done.stderr


def test_import_brings_no_engine_and_no_imaging(tmp_path: Path) -> None:
    heavy = ["onnxruntime", "tokenizers", "PIL", "numpy", "click"]
    body = f"import ldm_runtime\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = run(body)
    assert done.stdout.strip() == "[]", done.stderr
