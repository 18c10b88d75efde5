"""The target OpenVINO: every component in OpenVINO's own format, in a folder that OpenVINO GenAI opens.

https://docs.openvino.ai and https://github.com/openvinotoolkit/openvino.genai: `Text2ImagePipeline` wants its own class
names, a UNet whose timestep is int64 of shape (1,), a tokenizer that is a graph, and a scheduler that it knows.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from ldm_export.checkpoint.scheduler import write_scheduler_config
from ldm_export.process.isolate import run_isolated
from ldm_export.targets.openvino.genai_tokenizer import import_tokenizers, write_openvino_tokenizer
from ldm_export.targets.openvino.graph import convert_and_measure
from ldm_export.targets.target import Made, Progress
from ldm_export.verify import reference_file
from ldm_runtime.engines.openvino import import_openvino
from ldm_runtime.package.manifest import Artefact, Contract, Difference, Manifest, Precision
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import read_sampler

FOLDER = "openvino"
GRAPH, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
NAME = "openvino"  # of the artefact
GENAI_SAMPLERS = ("ddim", "euler", "euler_ancestral", "plms", "lcm")
GENAI_BETA_SCHEDULES = ("linear", "scaled_linear")


def check_openvino() -> None:
    """Raise EngineUnavailable unless all that the target needs is installed."""
    import_openvino()
    import_tokenizers()


def build_openvino(precision: Precision, folder: Path, manifest: Manifest, progress: Progress) -> Made:
    """Make the folder `openvino` with every component's graph, each measured against torch.

    precision: of the stored weights; what they are computed with is up to who runs them.

    Raises:
        ExportError: the tokenizer is not one that OpenVINO's can be made of.
        VerificationError: a graph differs from its reference by more than its precision explains.
    """
    out = folder / FOLDER
    stages, artefacts = [], {}
    for name, component in manifest.components.items():
        progress(f"openvino: {name}")
        (out / name).mkdir(parents=True)
        shutil.copyfile(folder / name / "config.json", out / name / "config.json")
        outcome = run_isolated(
            convert_and_measure,
            folder / component.canonical.file,
            out / name / GRAPH,
            precision,
            manifest.contract,
            name,
            folder / reference_file.FILE,
        )
        stages.append(outcome.stage(f"openvino {name}"))
        difference: Difference | None = outcome.value
        exactness: Literal["exact", "lossy"] = "exact" if difference is None else "lossy"
        files = (f"{FOLDER}/{name}/{GRAPH}", f"{FOLDER}/{name}/{WEIGHTS}")
        artefacts[name] = [Artefact(NAME, "openvino", files, "openvino", precision, exactness, difference)]
    write_genai_files(folder, out, manifest, progress)
    return Made(artefacts, stages)


def write_genai_files(folder: Path, out: Path, manifest: Manifest, progress: Progress) -> None:
    """Write tokenizer, index and scheduler as OpenVINO GenAI reads them, where the model is of its kind."""
    if len(manifest.contract.text) != 1 or manifest.contract.denoiser.extra:
        progress("openvino: OpenVINO GenAI cannot open this model by our folder; this runtime runs it with OpenVINO")
        return
    progress("openvino: tokenizer")
    (out / "tokenizer").mkdir()
    facts = manifest.contract.text[0].tokenizer
    write_openvino_tokenizer(folder / facts.file, out / "tokenizer", facts)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", ""],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    scheduler, problem = genai_scheduler(manifest.contract)
    if problem is not None:
        progress(f"openvino: {problem}")
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    (out / "scheduler").mkdir()
    for path, content in (("model_index.json", index), ("scheduler/scheduler_config.json", scheduler)):
        (out / path).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def genai_scheduler(contract: Contract) -> tuple[dict[str, Any], str | None]:
    """The scheduler's config for OpenVINO GenAI, and what is to be said about it.

    It is the package's default sampler where GenAI has that, else DDIM.
    """
    asked = contract.defaults.parsed_sampler
    known = isinstance(contract.schedule, NoiseSchedule) and contract.schedule.beta_schedule in GENAI_BETA_SCHEDULES
    if not known:
        what = "OpenVINO GenAI does not know the model's noise schedule; this runtime runs it with OpenVINO"
        return write_scheduler_config(contract.schedule, asked), what
    if asked not in map(read_sampler, GENAI_SAMPLERS):
        what = f"OpenVINO GenAI does not have {contract.defaults.sampler}; the folder openvino says {GENAI_SAMPLERS[0]}"
        return write_scheduler_config(contract.schedule, read_sampler(GENAI_SAMPLERS[0])), what
    return write_scheduler_config(contract.schedule, asked), None
