"""The peers: what each is, how it is installed into an environment of its own, and which program measures it."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldm_runtime.files.atomic import atomic_file

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"  # pins what the tests use too; the rest is pinned in the table
READY = "ready.json"  # in an environment: what was installed into it
ALL_TASKS = ("open", "components", "image")
TORCH = ("torch", "diffusers", "transformers", "accelerate==1.15.0", "safetensors", "numpy", "pillow")
RUNTIME = ("numpy", "pillow", "click")


class PeerFailed(Exception):
    """The reason why a peer could not be installed or run, in one sentence."""


@dataclass(frozen=True)
class Peer:
    """One contender.

    model: what it opens; "exported" is what its program's task `convert` makes of the checkpoint.

    tasks: what its interface lets us measure. engine: of this project's runtime. same_noise: whether an image can
    start from given latents, so that it can be compared.
    """

    title: str
    program: str
    model: Literal["package", "checkpoint", "exported", "openvino"]
    requirements: tuple[str, ...]
    tasks: tuple[str, ...] = ALL_TASKS
    engine: str = ""
    same_noise: bool = True

    @property
    def is_ours(self) -> bool:
        return self.engine != ""


PEERS = {
    "ours": Peer("ldm_runtime, ort", "ours", "package", (*RUNTIME, "onnxruntime"), engine="ort"),
    "ours-openvino": Peer(
        "ldm_runtime, openvino", "ours", "package", (*RUNTIME, "openvino==2026.4.1"), engine="openvino"
    ),
    "diffusers": Peer("diffusers, torch", "diffusers_torch", "checkpoint", TORCH),
    "optimum": Peer(
        "optimum-onnx",
        "optimum_onnx",
        "exported",
        (*TORCH, "optimum-onnx[onnxruntime]", "optimum", "onnx", "onnxruntime"),
    ),
    "openvino-genai": Peer(
        "OpenVINO GenAI", "genai_openvino", "openvino", ("openvino-genai==2026.4.1.0", "numpy"), ("image",)
    ),
    "sd.cpp": Peer(
        "stable-diffusion.cpp",
        "stable_diffusion_cpp_python",
        "checkpoint",
        ("stable-diffusion-cpp-python==0.4.7", "numpy", "pillow"),
        ("image",),
        same_noise=False,
    ),
}
"""Name on the command line -> peer, in the order of the tables."""
REFERENCE = "diffusers"  # what the others' outputs are compared with
RIVAL = "optimum"  # what the ratios are against


def environment_python(name: str, folder: Path) -> Path:
    """Return the interpreter of the peer's environment in `folder`; a missing or outdated one is made first.

    Raises PeerFailed where pip cannot install the peer; its output is in `NAME.log` beside the environment.
    """
    peer, place = PEERS[name], folder / name
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = {"requirements": list(peer.requirements), "constraints": CONSTRAINTS.read_text(encoding="utf-8")}
    ready = place / READY
    if ready.is_file() and json.loads(ready.read_text(encoding="utf-8")) == wanted:
        return python
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    run_logged([sys.executable, "-m", "venv", str(place)], log, f"no environment can be made for {name}")
    run_logged([*pip, "-c", str(CONSTRAINTS), *peer.requirements], log, f"pip cannot install {name}")
    with atomic_file(ready) as temporary:
        temporary.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def run_logged(command: list[str], log: Path, what: str, env: dict[str, str] | None = None) -> None:
    """Run a command with its output in `log`. Raises PeerFailed with `what`, how it ended and its last line."""
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)
    if code.returncode == 0:
        return
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    how = f"killed by signal {-code.returncode}" if code.returncode < 0 else f"exit code {code.returncode}"
    raise PeerFailed(f"{what} ({how}): {lines[-1] if lines else 'it said nothing'}")


def environment_bytes(folder: Path) -> int:
    """Return the disk space of an environment's installed packages, links not followed."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
