"""The target OpenVINO: every component in OpenVINO's own format, and as an option the folder of OpenVINO GenAI.

https://docs.openvino.ai
"""

from pathlib import Path
from typing import Literal

from ldm_export.process.isolate import StageCost, run_isolated
from ldm_export.targets.openvino.genai import check_genai, write_genai_folder
from ldm_export.targets.openvino.graph import GRAPH, WEIGHTS, convert_and_measure
from ldm_export.targets.target import Built, Order, Progress
from ldm_export.verify import reference_file
from ldm_runtime.engines.openvino.library import import_openvino
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.manifest import Manifest

FOLDER = "openvino"
NAME = "openvino"  # of the artefact


def check_openvino(order: Order) -> Order:
    """Return the order as it is.

    Raises:
        EngineUnavailable: what the target needs is not installed.
        InputError: a folder for OpenVINO GenAI is asked for, which cannot run such a model.
    """
    import_openvino()
    if order.options.genai:
        check_genai(order.contract)
    return order


def build_openvino(order: Order, folder: Path, manifest: Manifest, progress: Progress) -> Built:
    """Make the folder `openvino` with every component's graph, each measured against torch.

    The precision is that of the stored weights; what they are computed with is up to who runs them.

    Raises:
        ExportError: the folder for OpenVINO GenAI cannot be made.
        VerificationError: a graph differs from its reference by more than its precision explains.
    """
    stages: list[StageCost] = []
    graphs = {name: _convert(name, order, folder, manifest, stages, progress) for name in manifest.components}
    if order.options.genai:
        graphs, costs = write_genai_folder(folder, manifest, graphs, progress)
        stages += costs
    return Built({name: [graph] for name, graph in graphs.items()}, stages)


def _convert(
    name: str, order: Order, folder: Path, manifest: Manifest, stages: list[StageCost], progress: Progress
) -> Artefact:
    progress(f"openvino: {name}")
    (folder / FOLDER / name).mkdir(parents=True)
    outcome = run_isolated(
        convert_and_measure,
        folder / manifest.components[name].canonical.file,
        folder / FOLDER / name / GRAPH,
        order.precision,
        manifest.contract,
        name,
        folder / reference_file.FILE,
    )
    stages.append(outcome.stage(f"openvino {name}"))
    difference: Difference | None = outcome.value
    exactness: Literal["exact", "lossy"] = "exact" if difference is None else "lossy"
    files = (f"{FOLDER}/{name}/{GRAPH}", f"{FOLDER}/{name}/{WEIGHTS}")
    return Artefact(NAME, "openvino", files, "openvino", order.precision, exactness, difference)
