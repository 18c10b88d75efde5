"""The peers: what each is, how it is installed into an environment of its own, and which program measures it."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ldm_runtime.files.atomic import atomic_file

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"  # pins what the tests use too; the rest is pinned in the table
READY = "ready.json"  # in an environment: what was installed into it
ALL_TASKS = ("open", "components", "image")
COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")  # by the names of diffusers' folders
TORCH = ("torch", "diffusers", "transformers", "accelerate==1.15.0", "safetensors", "numpy", "pillow")
RUNTIME = ("numpy", "pillow", "click")
_OPENVINO = "openvino==2026.4.1"
_GENAI = ("openvino-genai==2026.4.1.0", "numpy")
# Between float32 implementations of one model; a wrong weight or constant makes a hundred times more.
LARGEST_ERROR = 1e-3


class PeerFailed(Exception):
    """The reason why a peer could not be installed or run, in one sentence."""


@dataclass(frozen=True)
class Peer:
    """One contender.

    model: what it opens; those of `rounds.MADE_OF` are made for it. tasks: what its interface lets us measure.
    engine: of this project's runtime. precision: what it computes in, a column of the tables. form: of this
    project's graphs. same_noise: whether an image can start from given latents, so that it can be compared.
    own_reference: the peer whose outputs its own are compared with; "": REFERENCE. largest_error: relative RMS of a
    component beyond which it is taken for another model. environment: of the peer with the same requirements.
    """

    title: str
    program: str
    model: Literal["package", "checkpoint", "exported", "openvino", "openvino_int8", "lossy"]
    requirements: tuple[str, ...]
    tasks: tuple[str, ...] = ALL_TASKS
    engine: str = ""
    same_noise: bool = True
    precision: Literal["fp32", "bf16", "int8", "int8+bf16", "q8_0"] = "fp32"
    form: Literal["", "int8", "cached", "int8-cached"] = ""
    own_reference: str = ""
    largest_error: float = LARGEST_ERROR
    environment: str = ""

    @property
    def is_ours(self) -> bool:
        return self.engine != ""

    @property
    def is_cached(self) -> bool:
        """Whether its denoiser is two graphs, `unet` with all blocks and `unet_shallow` with the last ones."""
        return self.form.endswith("cached")


def _ours(title: str, engine: str, **settings: Any) -> Peer:
    """Return one of this project's lossy rows; those of one engine share its environment."""
    requirement, environment = {"ort": ("onnxruntime", "ours"), "openvino": (_OPENVINO, "ours-openvino")}[engine]
    return Peer(
        f"ldm_runtime, {title}",
        "ours",
        "lossy" if "form" in settings else "package",
        (*RUNTIME, requirement),
        engine=engine,
        environment=environment,
        **settings,
    )


def _genai(title: str, **settings: Any) -> Peer:
    """Return a row of OpenVINO GenAI, whose components cannot be called alone."""
    return Peer(f"OpenVINO GenAI{title}", "genai_openvino", tasks=("image",), **settings)


def _stable_diffusion_cpp(title: str, **settings: Any) -> Peer:
    """Return a row of stable-diffusion.cpp, which draws noise of its own."""
    requirements = ("stable-diffusion-cpp-python==0.4.7", "numpy", "pillow")
    return Peer(
        f"stable-diffusion.cpp{title}",
        "stable_diffusion_cpp_python",
        "checkpoint",
        requirements,
        ("image",),
        same_noise=False,
        **settings,
    )


_INT8: dict[str, Any] = {"precision": "int8", "largest_error": 0.3}
_BF16: dict[str, Any] = {"precision": "bf16", "largest_error": 0.15}
_BOTH: dict[str, Any] = {"precision": "int8+bf16", "largest_error": 0.3}
_CONVERTER: dict[str, Any] = {"model": "openvino_int8", "requirements": (*_GENAI, "nncf==3.4.0")}

PEERS = {
    "ours": Peer("ldm_runtime, ort", "ours", "package", (*RUNTIME, "onnxruntime"), engine="ort"),
    "ours-openvino": Peer("ldm_runtime, openvino", "ours", "package", (*RUNTIME, _OPENVINO), engine="openvino"),
    "ours-openvino-bf16": _ours("openvino bf16", "openvino", **_BF16),
    "ours-int8": _ours("ort int8", "ort", form="int8", **_INT8),
    "ours-openvino-int8": _ours("openvino int8", "openvino", form="int8", **_INT8),
    "ours-openvino-int8-bf16": _ours("openvino int8 + bf16", "openvino", form="int8", **_BOTH),
    "ours-cached-bf16": _ours("openvino bf16, cached", "openvino", form="cached", tasks=("components",), **_BF16),
    "ours-cached": _ours(
        "openvino int8 + bf16, cached", "openvino", form="int8-cached", tasks=("components",), **_BOTH
    ),
    "diffusers": Peer("diffusers, torch", "diffusers_torch", "checkpoint", TORCH),
    "diffusers-bf16": Peer(
        "diffusers, torch bf16", "diffusers_torch", "checkpoint", TORCH, environment="diffusers", **_BF16
    ),
    "optimum": Peer(
        "optimum-onnx",
        "optimum_onnx",
        "exported",
        (*TORCH, "optimum-onnx[onnxruntime]", "optimum", "onnx", "onnxruntime"),
    ),
    "openvino-genai": _genai("", model="openvino", requirements=_GENAI),
    "openvino-genai-bf16": _genai(
        " bf16", model="openvino", requirements=_GENAI, environment="openvino-genai", **_BF16
    ),
    "openvino-genai-int8": _genai(" int8", **_CONVERTER, **_INT8),
    "openvino-genai-int8-bf16": _genai(" int8 + bf16", **_CONVERTER, environment="openvino-genai-int8", **_BOTH),
    "sd.cpp": _stable_diffusion_cpp(""),
    "sd.cpp-q8_0": _stable_diffusion_cpp(" q8_0", precision="q8_0", own_reference="sd.cpp", environment="sd.cpp"),
}
"""Name on the command line -> peer, in the order of the tables."""
REFERENCE = "diffusers"  # what the others' outputs are compared with
RIVAL = "optimum"  # what the ratios are against


def environment_python(name: str, folder: Path) -> Path:
    """Return the interpreter of the peer's environment in `folder`; a missing or outdated one is made first.

    Raises PeerFailed where pip cannot install the peer; its output is in `NAME.log` beside the environment.
    """
    peer = PEERS[name]
    name = peer.environment or name
    place = folder / name
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
