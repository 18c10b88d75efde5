"""The contenders: how each is told to draw the same image, where its weights are, and what it says after a step."""

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ldm_export.bench import PROMPT
from ldm_runtime.errors import InputError
from ldm_runtime.package.open import Package

SAMPLER = "euler"  # which all contenders have
# Of Stable Diffusion 1 and 2, and of SDXL: other UNets of this kind are not in stable-diffusion.cpp's source.
PUBLISHED_WIDTHS = ([320, 640, 1280, 1280], [320, 640, 1280])
TOOL, COPYING = "`ldm run`", "`ldm run --no-map-weights`"
RUNTIME, EXPORT = "the runtime in Python", "`ldm-export run`"
GENAI_PARTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")
PYTHON = """
import sys
import ldm_runtime

package, prompt, sampler, steps, guidance, width, height, threads, out = sys.argv[1:]
with ldm_runtime.load(package, engine="ort", threads=int(threads)) as pipe:
    told = {"steps": int(steps), "guidance": float(guidance), "size": (int(width), int(height))}
    for step in pipe.sample(prompt, seed=1, sampler=sampler, **told):
        print("step", step.index + 1, flush=True)
    step.images()[0].save(out)
"""


@dataclass(frozen=True)
class Drawing:
    """The image that the contenders of one table draw.

    size: width, height in pixels. threads: of each contender.
    """

    package: Package
    size: tuple[int, int]
    steps: int
    threads: int

    @property
    def guidance(self) -> float:
        return self.package.manifest.contract.defaults.guidance

    def weights(self) -> tuple[Path, ...]:
        """Return the files that a drawing reads weights from: those of all components but the encoder."""
        manifest = self.package.manifest
        encoder = manifest.contract.codec.encoder.component
        names = {manifest.components[name].weights for name in manifest.contract.components if name != encoder}
        return tuple(self.package.path / name for name in sorted(names))


@dataclass(frozen=True)
class Programs:
    """What is not of Python: the tool `ldm`, the program `genai.cpp` and stable-diffusion.cpp's `sd-cli`."""

    ldm: Path
    genai: Path | None
    sd_cli: Path | None


@dataclass(frozen=True)
class Contender:
    """A way to draw.

    weights: files that hold what it draws with. out: the image that it writes. first_step: what it says when that step
    is done, a regular expression.
    """

    command: list[str]
    weights: tuple[Path, ...]
    out: Path
    first_step: str = r"step 1\b"
    is_ours: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.weights)


Contenders = dict[str, Contender | str]
"""Title -> the contender, or why it is not measured. The first is what the others' ratios are against."""


def contenders(
    drawing: Drawing, programs: Programs, checkpoint: Path | None, folder: Path, ways: Collection[str]
) -> Contenders:
    """Return who draws, with images that are written into `folder`.

    checkpoint: stable-diffusion.cpp's model. ways: titles of this project's own.
    """
    return {
        **{title: way for title, way in ours(drawing, programs.ldm, folder).items() if title in ways},
        "OpenVINO GenAI, C++": genai(drawing, programs.genai, folder),
        "stable-diffusion.cpp": stable_diffusion_cpp(drawing, programs.sd_cli, checkpoint, folder),
    }


def ours(drawing: Drawing, ldm: Path, folder: Path) -> dict[str, Contender]:
    """Return the tool as it chooses to read weights and as it is told to copy them, and both ways to draw in Python."""
    place, out, weights = str(drawing.package.path), folder / "ours.png", drawing.weights()
    size = "x".join(map(str, drawing.size))
    told = ["--prompt", PROMPT, "--seed", "1", "--sampler", SAMPLER, "--steps", str(drawing.steps), "--size", size]
    told += ["--guidance", f"{drawing.guidance:g}", "--threads", str(drawing.threads), "--out", str(out), "--force"]
    values = [PROMPT, SAMPLER, drawing.steps, drawing.guidance, *drawing.size, drawing.threads, out]
    tool, python = [str(ldm), "run", place, *told], [sys.executable, "-P"]
    engine = {"LDM_ONNXRUNTIME": onnxruntime()}
    return {
        TOOL: Contender(tool, weights, out, environment=engine),
        COPYING: Contender([*tool, "--no-map-weights"], weights, out, environment=engine),
        RUNTIME: Contender([*python, "-c", PYTHON, place, *map(str, values)], weights, out),
        EXPORT: Contender([*python, "-m", "ldm_export", "run", place, *told], weights, out),
    }


def onnxruntime() -> str:
    """Return the shared library that Python's package has, so that both run the same engine."""
    package = find_spec("onnxruntime")
    files = [] if package is None or package.origin is None else Path(package.origin).parent.glob("capi/*onnxruntime*")
    libraries = sorted(str(file) for file in files if ".so" in file.name or file.suffix in (".dll", ".dylib"))
    libraries = [file for file in libraries if "pybind" not in file and "providers" not in file]
    if not libraries:
        raise InputError("onnxruntime is not installed; install it with: pip install '.[cpu]'")
    return libraries[0]


def genai(drawing: Drawing, program: Path | None, folder: Path) -> Contender | str:
    model, out = drawing.package.path / "openvino-genai", folder / "genai.ppm"
    if program is None:
        return "no `--genai`, which is built from benchmarks/start/programs/genai.cpp"
    if not (model / "model_index.json").is_file():
        return f"the package has no folder {model.name}; build it with `--target openvino --genai`"
    values = [model, PROMPT, drawing.steps, drawing.guidance, *drawing.size, drawing.threads, out]
    weights = tuple(file for part in GENAI_PARTS for file in sorted((model / part).glob("*.bin")))
    return Contender([str(program), *map(str, values)], weights, out, is_ours=False)


def stable_diffusion_cpp(
    drawing: Drawing, program: Path | None, checkpoint: Path | None, folder: Path
) -> Contender | str:
    config = drawing.package.path / "unet" / "config.json"
    widths = json.loads(config.read_text(encoding="utf-8"))["block_out_channels"]
    if widths not in PUBLISHED_WIDTHS:
        return f"it draws with the published architectures only, and a UNet of widths {widths} is none"
    if program is None:
        return "no `--sd-cli`"
    if checkpoint is None:
        return "no `--checkpoint`"
    out = folder / "stable-diffusion-cpp.png"
    width, height = drawing.size
    command = [str(program), "--model", str(checkpoint), "--prompt", PROMPT, "--seed", "1", "--output", str(out)]
    command += ["--sampling-method", SAMPLER, "--steps", str(drawing.steps), "--cfg-scale", f"{drawing.guidance:g}"]
    command += ["--width", str(width), "--height", str(height), "--threads", str(drawing.threads)]
    weights = tuple(sorted(checkpoint.rglob("*.safetensors")))
    return Contender(command, weights, out, rf"\| 1/{drawing.steps} - ", is_ours=False)
