"""The folder that OpenVINO GenAI opens, beside the graphs that this runtime runs; both use one copy of the weights.

https://github.com/openvinotoolkit/openvino.genai: `Text2ImagePipeline` opens fixed names of folders and files, a UNet
whose timestep is int64 of shape (1,), a tokenizer that is a graph, and a scheduler that it knows. It expects the
weights beside each graph; this runtime reads them from where the manifest says, so they lie in GenAI's folder.
"""

import filecmp
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.json_files import checkpoint_folder, write_json
from ldm_export.checkpoint.package import package_configs
from ldm_export.checkpoint.scheduler import write_scheduler_config
from ldm_export.errors import ExportError
from ldm_export.families import FAMILIES
from ldm_export.process.isolate import StageCost, run_isolated
from ldm_export.targets.openvino.genai_tokenizer import import_tokenizers, write_openvino_tokenizer
from ldm_export.targets.openvino.graph import GRAPH, WEIGHTS
from ldm_export.targets.target import Progress
from ldm_runtime.engines.openvino.library import import_openvino, read_graph
from ldm_runtime.errors import InputError
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.manifest import Contract, Manifest
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import read_sampler

FOLDER = "openvino-genai"
SAMPLERS = ("ddim", "euler", "euler_ancestral", "plms", "lcm")
BETA_SCHEDULES = ("linear", "scaled_linear")

# Folders of the text encoders that GenAI opens -> other inputs that the UNet may have then.
ENCODERS: dict[tuple[str, ...], dict[str, str]] = {
    ("text_encoder",): {"timestep_cond": "guidance_embedding"},
    ("text_encoder", "text_encoder_2"): {"text_embeds": "pooled_text", "time_ids": "image_sizes"},
}


def check_genai(contract: Contract) -> None:
    """Raise InputError unless GenAI can run such a model, EngineUnavailable unless its tokenizers are installed."""
    import_tokenizers()
    encoders = tuple(text.component for text in contract.text)
    known = ENCODERS.get(encoders, {})
    unknown = [name for name, rule in contract.denoiser.extra.items() if known.get(name) != rule]
    for holds, lacking in (
        (encoders in ENCODERS, f"has the text encoders {', '.join(encoders)}"),
        (not unknown, f"has a UNet with the inputs {', '.join(unknown)}"),
        (not contract.concat, "is for inpainting"),
        (_knows(contract), "has a noise schedule that GenAI does not know"),
    ):
        if not holds:
            raise InputError(f"--genai: this model {lacking}; OpenVINO GenAI cannot draw from it, so leave --genai out")


def _knows(contract: Contract) -> bool:
    schedule = contract.schedule
    return isinstance(schedule, NoiseSchedule) and schedule.beta_schedule in BETA_SCHEDULES


def write_genai_folder(
    folder: Path, manifest: Manifest, graphs: dict[str, Artefact], progress: Progress
) -> tuple[dict[str, Artefact], list[StageCost]]:
    """Write GenAI's folder into the package `folder`, whose component -> graph in OpenVINO's format are `graphs`.

    Returns the graphs with the weights' new place, and the cost.

    Raises:
        ExportError: the tokenizer is not CLIP's, or OpenVINO stores other weights with GenAI's UNet.
    """
    out, stages, shared = folder / FOLDER, [], {}
    denoiser = manifest.contract.denoiser
    for name, graph in graphs.items():
        progress(f"openvino: {name} for GenAI")
        (out / name).mkdir(parents=True)
        shutil.copyfile(folder / name / "config.json", out / name / "config.json")
        own, weights = (folder / file for file in graph.files)
        if name == denoiser.component:
            outcome = run_isolated(write_integer_timestep, own, denoiser.timestep, out / name / GRAPH)
            stages.append(outcome.stage(f"openvino {name} for GenAI"))
            share_weights(weights, out / name / WEIGHTS)
        else:
            shutil.copyfile(own, out / name / GRAPH)
            weights.replace(out / name / WEIGHTS)
        shared[name] = replace(graph, files=(graph.file, f"{FOLDER}/{name}/{WEIGHTS}"))
    _write_tokenizer(folder, manifest, out, progress)
    _write_index(folder, manifest, out, progress)
    return shared, stages


def write_integer_timestep(own: Path, timestep: str, out: Path) -> None:
    """Write the graph `own` to `out`, its weights beside it, with a timestep int64 (1,) in place of float32 ().

    It takes a process of its own, as a conversion does, and because OpenVINO maps the weights of `own` until it ends.
    """
    openvino = import_openvino()
    from openvino import opset15 as opset

    model = read_graph(own)
    old = model.input(timestep).get_node()
    new = opset.parameter([1], openvino.Type.i64, name=timestep)
    new.output(0).tensor.set_names({timestep})
    value = opset.squeeze(opset.convert(new, "f32"))  # no axes: they would be one more constant in the weights
    for target in old.output(0).get_target_inputs():
        target.replace_source_output(value.output(0))
    parameters = [
        new if node.get_friendly_name() == old.get_friendly_name() else node for node in model.get_parameters()
    ]
    changed = openvino.Model(model.get_results(), parameters, model.get_friendly_name())
    openvino.save_model(changed, str(out), compress_to_fp16=False)


def share_weights(own: Path, theirs: Path) -> None:
    """Remove the weights `own` for those of GenAI's graph, which must be the same to the byte. Raises ExportError."""
    if not filecmp.cmp(own, theirs, shallow=False):
        raise ExportError(
            f"OpenVINO {import_openvino().__version__} stores other weights with the UNet for GenAI, so that they "
            f"cannot be shared; build without --genai"
        )
    own.unlink()


def _write_tokenizer(folder: Path, manifest: Manifest, out: Path, progress: Progress) -> None:
    progress("openvino: tokenizer for GenAI")
    for text in manifest.contract.text:
        place = out / Path(text.tokenizer.file).parent
        place.mkdir()
        write_openvino_tokenizer(folder / text.tokenizer.file, place, text.tokenizer)


def _write_index(folder: Path, manifest: Manifest, out: Path, progress: Progress) -> None:
    """Write model_index.json and the scheduler's config."""
    scheduler, notice = scheduler_config(manifest.contract)
    if notice is not None:
        progress(f"openvino: {notice}")
    family = FAMILIES[manifest.provenance.family]
    index = family.index_of(package_configs(checkpoint_folder(folder), family), scheduler["_class_name"])
    # It opens a part of any class by the name of the first, as the graph and its config.json stand.
    index |= {name: [part.library, part.config.CLASS_NAME] for name, part in family.parts.items()}
    if family.zeros_key is not None:
        index[family.zeros_key] = manifest.contract.defaults.zero_negative
    (out / "scheduler").mkdir()
    for path, content in (("model_index.json", index), ("scheduler/scheduler_config.json", scheduler)):
        write_json(out / path, content)


def scheduler_config(contract: Contract) -> tuple[dict[str, Any], str | None]:
    """Return the scheduler's config for GenAI: the package's default sampler, or DDIM and a notice why."""
    sampler, notice = contract.defaults.parsed_sampler, None
    if sampler not in map(read_sampler, (*SAMPLERS, "lcm:reach=1")):  # reach changes only what a strength does
        sampler = read_sampler(SAMPLERS[0])
        notice = f"OpenVINO GenAI does not have {contract.defaults.sampler}; the folder {FOLDER} says {SAMPLERS[0]}"
    return write_scheduler_config(contract.schedule, sampler), notice
