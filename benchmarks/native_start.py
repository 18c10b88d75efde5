"""Measures what an application's user waits for at the start, and pays in memory: the C++ library's tool `ldm` beside
Python and other runtimes, from the start of a process to its first step and to its image.

Each contender is a process of its own, which draws one image and says "step 1" when its first step is done.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ldm_export.bench import PROMPT, machine
from ldm_export.tables import markdown_table
from ldm_runtime.errors import InputError, LdmError
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.pipeline import builtin_package

# Starts a contender and says how long it took; little itself, as a child's peak is at least its parent's.
WATCH = """
import json, os, re, subprocess, sys, time

terminal, its = os.openpty()  # programs tell a person of each step, and a file of few
begun = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=its, stderr=its, stdin=subprocess.DEVNULL)
os.close(its)


def read():
    try:
        return os.read(terminal, 65536)
    except OSError:  # all have closed it
        return b""


said, first = b"", None
while chunk := read():
    said += chunk
    if first is None and re.search(rb"step 1\\b", said):
        first = time.perf_counter() - begun
status, used = os.wait4(child.pid, 0)[1:]
answer = {"status": status, "said": said.decode(errors="replace")[-2000:], "first": first}
answer |= {"image": time.perf_counter() - begun, "processor": used.ru_utime + used.ru_stime}
print(json.dumps({**answer, "peak": used.ru_maxrss * 1024}))
"""
PYTHON = """
import sys
import ldm_runtime

package, steps, guidance, prompt, out = sys.argv[1:]
with ldm_runtime.load(package, engine="ort") as pipe:
    for step in pipe.sample(prompt, seed=1, steps=int(steps), guidance=float(guidance)):
        print("step", step.index + 1, flush=True)
    step.images()[0].save(out)
"""
GENAI = """
import sys
sys.modules.setdefault("openvino_telemetry", None)  # else the import reports over the network
import openvino_genai
from PIL import Image

folder, steps, guidance, prompt, out = sys.argv[1:]

def end(step, steps, latent):
    print("step", step + 1, flush=True)
    return False

pipe = openvino_genai.Text2ImagePipeline(folder, "CPU", INFERENCE_PRECISION_HINT="f32")
made = pipe.generate(prompt, num_inference_steps=int(steps), guidance_scale=float(guidance), callback=end)
Image.fromarray(made.data[0]).save(out)
"""
SD_CPP = """
import sys
import stable_diffusion_cpp

folder, steps, guidance, prompt, out, size = sys.argv[1:]

def end(step, total, seconds):
    if total == int(steps) and step > 0:  # it counts other work too
        print("step", step, flush=True)

model = stable_diffusion_cpp.StableDiffusion(model_path=folder, vae_decode_only=True, verbose=False)
made = model.generate_image(
    prompt=prompt, width=int(size), height=int(size), cfg_scale=float(guidance), sample_method="euler",
    sample_steps=int(steps), seed=1, progress_callback=end,
)
made[0].save(out)
"""


@dataclass(frozen=True)
class Contender:
    """A way to draw. weights: the bytes of the files that hold what it runs."""

    command: list[str]
    weights: int
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes of one process. first: None where it does not say when its first step is done."""

    first: float | None
    image: float
    processor: float
    peak: int


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("package", required=False, type=click.Path(path_type=Path))
@click.option("--ldm", required=True, type=click.Path(path_type=Path, exists=True), help="The tool, as it was built.")
@click.option("--genai", type=click.Path(path_type=Path, exists=True), help="The package's folder for OpenVINO GenAI.")
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True), help="For stable-diffusion.cpp.")
@click.option("--steps", type=int, help="Steps of the image (default: the package's).")
@click.option("--rounds", default=7, show_default=True, help="Rounds in which the contenders take turns.")
def main(
    package: Path | None, ldm: Path, genai: Path | None, checkpoint: Path | None, steps: int | None, rounds: int
) -> None:
    """Measure the start of contenders that draw with PACKAGE (default: the built-in model) in turns.

    OpenVINO GenAI draws if --genai is given, and stable-diffusion.cpp, which knows only the published architectures, if
    --checkpoint is; both by their Python packages, as the wheel of GenAI has no headers for C++.

    \b
    Examples:
      python benchmarks/native_start.py --ldm build/cpp/ldm
      python benchmarks/native_start.py ./sd15 --ldm build/cpp/ldm --genai ./sd15/openvino-genai --steps 2
    """
    try:
        opened = open_package(builtin_package() if package is None else package)
        opened.confirm()
        with tempfile.TemporaryDirectory() as folder:
            table = contenders(opened, ldm.absolute(), genai, checkpoint, steps, Path(folder))
            click.echo(f"{machine()}; {rounds} rounds in turns; {sizes(ldm.absolute())}\n")
            click.echo(render(table, measure_all(table, rounds)))
    except LdmError as error:
        raise click.ClickException(str(error)) from None


def contenders(
    package: Package, ldm: Path, genai: Path | None, checkpoint: Path | None, steps: int | None, folder: Path
) -> dict[str, Contender]:
    """Return the contenders by their titles; the first is what the others' ratios are against."""
    contract, place = package.manifest.contract, str(package.path)
    drawn = {name for name in contract.components if name != contract.codec.encoder.component}
    weights = sum(package.manifest.files[package.manifest.components[name].weights].size for name in drawn)
    count, guidance = str(contract.defaults.steps if steps is None else steps), str(contract.defaults.guidance)
    given, out = [count, guidance, PROMPT], str(folder / "image.png")
    options = ["--prompt", PROMPT, "--seed", "1", "--steps", count, "--out", out, "--force"]
    python = [sys.executable, "-P", "-c"]
    engine = {"LDM_ONNXRUNTIME": onnxruntime()}
    found = {
        "ldm run": Contender([str(ldm), "run", place, *options], weights, engine),
        "ldm run --no-map-weights": Contender([str(ldm), "run", place, *options, "--no-map-weights"], weights, engine),
        "ldm_runtime in Python": Contender([*python, PYTHON, place, *given, out], weights),
        "ldm-export run": Contender([sys.executable, "-P", "-m", "ldm_export", "run", place, *options], weights),
    }
    if genai is not None:
        parts = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")
        theirs = sum(file.stat().st_size for part in parts for file in (genai / part).glob("*.bin"))
        found["OpenVINO GenAI"] = Contender([*python, GENAI, str(genai), *given, out], theirs)
    if checkpoint is not None:
        theirs = sum(file.stat().st_size for file in checkpoint.rglob("*.safetensors"))
        command = [*python, SD_CPP, str(checkpoint), *given, out, str(contract.image.width)]
        found["stable-diffusion.cpp"] = Contender(command, theirs)
    return found


def onnxruntime() -> str:
    """Return the shared library that Python's package has, so that both run the same engine."""
    package = find_spec("onnxruntime")
    files = [] if package is None or package.origin is None else Path(package.origin).parent.glob("capi/*onnxruntime*")
    libraries = sorted(str(file) for file in files if ".so" in file.name or file.suffix in (".dll", ".dylib"))
    libraries = [file for file in libraries if "pybind" not in file and "providers" not in file]
    if not libraries:
        raise InputError("onnxruntime is not installed; install it with: pip install '.[cpu]'")
    return libraries[0]


def sizes(ldm: Path) -> str:
    libraries = (file for file in ldm.parent.glob("libldm_runtime*") if not file.is_symlink())
    return ", ".join(f"{file.name} {file.stat().st_size / 1e3:.0f} kB" for file in (ldm, *libraries))


def measure_all(table: Mapping[str, Contender], rounds: int) -> dict[str, list[Measured]]:
    """Measure each contender in each round, in the opposite order each time, after one round that does not count."""
    found: dict[str, list[Measured]] = {title: [] for title in table}
    for index in range(rounds + 1):
        for title in list(table)[:: 1 if index % 2 else -1]:
            measured = measure(title, table[title])
            if index > 0:
                found[title].append(measured)
    return found


def measure(title: str, contender: Contender) -> Measured:
    command = [sys.executable, "-I", "-S", "-c", WATCH, *contender.command]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **contender.environment})
    answer: dict[str, Any] = {"status": result.returncode, "said": result.stderr}
    if result.returncode == 0:
        answer = json.loads(result.stdout)
    if answer["status"] != 0:
        lines = answer["said"].strip().splitlines()
        raise InputError(f"{title} cannot draw: {lines[-1] if lines else 'it said nothing'}")
    return Measured(answer["first"], answer["image"], answer["processor"], answer["peak"])


def render(table: Mapping[str, Contender], measured: Mapping[str, list[Measured]]) -> str:
    """Render medians, with the smallest and the largest in brackets, and the medians of ratios within a round."""
    head = ["", "to the first step, s", "to the image, s", "processor, s", "peak, MB", "beyond the weights, MB"]
    rows = []
    first = next(iter(measured))
    for title, runs in measured.items():
        firsts = [run.first for run in runs if run.first is not None]
        row = [title, spread(firsts), spread([run.image for run in runs]), spread([run.processor for run in runs])]
        row.append(spread([run.peak / 1e6 for run in runs]))
        row.append(spread([(run.peak - table[title].weights) / 1e6 for run in runs]))
        ratios = [run.image / own.image for run, own in zip(runs, measured[first], strict=True)]
        rows.append([*row, f"{statistics.median(ratios):.2f}"])
    return markdown_table([*head, f"image / {first}"], rows, "<" + ">" * (len(head)))


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
