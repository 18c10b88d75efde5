"""Which published checkpoints open, and what the others are refused with; docs/models.md has the table.

    python -m tests.published_coverage          # print the coverage
    python -m tests.published_coverage --write  # and write the table into docs/models.md

Each is laid out as a diffusers folder, and as the parts that `build` takes from elsewhere. The weights are headers over
a hole in the file: the classes of diffusers and transformers, on the meta device, say which tensors they hold. No
network, and no memory for weights.
"""

import functools
import json
import logging
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
import transformers

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.replaced import with_parts
from ldm_export.package.few_step import as_few_step
from ldm_export.package.write import contract_of
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import LdmError
from ldm_runtime.package.manifest import Defaults
from tests.oracles import build_tiny_tokenizer
from tests.published_checkpoints import PUBLISHED, Published

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- from here on written by tests/published_coverage.py -->\n", "<!-- to here -->\n"


@dataclass(frozen=True)
class Outcome:
    """What became of a row: its family, defaults, size and weights, or the sentence of a refusal."""

    row: Published
    family: str = ""
    defaults: str = ""
    size: str = ""
    weights: int = 0
    refused: str = ""

    @property
    def line(self) -> str:
        """Return the row of the table in Markdown."""
        row = self.row
        size = f"{self.size}, {self.weights / 1e9:.2f} billion weights"
        what = self.refused or f"{self.family}{_told(row)}; {self.defaults}; {size}"
        return f"| {row.name} | {row.architecture} | {row.use} | {'no' if self.refused else 'yes'} | {what} |"


def _told(row: Published) -> str:
    """Return the options that `build` is told for a row."""
    parts = [f"--{name} {'FILE' if config is None else 'FOLDER'}" for name, config in row.elsewhere.items()]
    options = " ".join([*parts, *([] if row.few_step is None else [f"--few-step {row.few_step}"])])
    return f", `{options}`" if options else ""


def outcomes(work: Path) -> Iterator[Outcome]:
    """Open every row in the empty folder `work`. Models without weights are made once for each config."""
    build_tiny_tokenizer(work / "tokenizer")
    with _models_made_once():
        for row in PUBLISHED:
            folder = work / "row"
            lay_out(row, folder, work / "tokenizer")
            yield outcome(row, folder)
            shutil.rmtree(folder)


def _models_made_once() -> AbstractContextManager[object]:
    """Let checkpoints share models without weights, which they read the shapes of."""
    made: dict[tuple[object, ...], torch.nn.Module] = {}
    make = Checkpoint.empty

    def once(checkpoint: Checkpoint, part: str) -> torch.nn.Module:
        config = checkpoint.configs[part]
        key = (checkpoint.family.parts[part].model, type(config), repr(config))
        if key not in made:
            made[key] = make(checkpoint, part)
        return made[key]

    return mock.patch.object(Checkpoint, "empty", once)


def outcome(row: Published, folder: Path) -> Outcome:
    """Do what a build does before its first export, short of reading weights."""
    elsewhere = {name: _elsewhere(row, name, folder) for name in row.elsewhere}
    try:
        checkpoint = with_parts(open_checkpoint(folder / "pipeline"), elsewhere)
        checkpoint.check()
        if row.few_step is not None:
            checkpoint = as_few_step(checkpoint, row.few_step)
        contract = contract_of(checkpoint, BuildRecipe())
    except LdmError as error:
        return Outcome(row, refused=_sentence(error, folder))
    size = f"{contract.image.width}x{contract.image.height}"
    weights = sum(map(checkpoint.parameter_count, checkpoint.family.parts))
    return Outcome(row, checkpoint.family.name, _defaults(contract.defaults), size, weights)


def _defaults(run: Defaults) -> str:
    """Return the defaults of `run` as the table has them; a scale of 1 is no guidance."""
    steps = "1 step" if run.steps == 1 else f"{run.steps} steps"
    guidance = "no guidance" if run.guidance == 1.0 else f"guidance {run.guidance:g}"
    return f"`{run.sampler}`, {steps}, {guidance}"


def lay_out(row: Published, folder: Path, tokenizer: Path) -> None:
    """Write the folder of a pipeline and the parts that are beside it, their weights empty."""
    pipeline = folder / "pipeline"
    index: dict[str, Any] = {"_class_name": row.pipeline, "scheduler": ["diffusers", row.scheduler["_class_name"]]}
    index |= {name: ["transformers", "CLIPTokenizer"] for name in row.tokenizers}
    index |= {name: ["transformers", "AModel"] for name in row.beside}
    for name, config in row.parts.items():
        is_text = "architectures" in config
        index[name] = ["transformers", *config["architectures"]] if is_text else ["diffusers", config["_class_name"]]
        _write_part(pipeline / name, config)
    for name in row.tokenizers:
        shutil.copytree(tokenizer, pipeline / name)
    _write(pipeline / "scheduler" / "scheduler_config.json", row.scheduler)
    _write(pipeline / "model_index.json", index)
    for name, own in row.elsewhere.items():
        place = _elsewhere(row, name, folder)
        if own is None:
            _write_hollow(place, _header(json.dumps(row.parts[name])))
        else:
            _write_part(place, own)


def _elsewhere(row: Published, name: str, folder: Path) -> Path:
    """Return the file or the folder of a part that is beside the pipeline."""
    return folder / (name if row.elsewhere[name] is not None else f"{name}.safetensors")


def _write_part(place: Path, config: dict[str, Any]) -> None:
    stem = "model" if "architectures" in config else "diffusion_pytorch_model"
    _write(place / "config.json", config)
    _write_hollow(place / f"{stem}.safetensors", _header(json.dumps(config)))


def _write(file: Path, value: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


@functools.cache
def _header(config: str) -> dict[str, Any]:
    """Return the header of a file with all tensors of a config's model, in half precision."""
    header: dict[str, Any] = {}
    end = 0
    for name, value in _model(json.loads(config)).state_dict().items():
        begin, end = end, end + 2 * value.numel()
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [begin, end]}
    return header


def _model(config: dict[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        if "architectures" in config:
            kind = getattr(transformers, config["architectures"][0])
            return kind(transformers.CLIPTextConfig.from_dict(config))
        return getattr(diffusers, config["_class_name"]).from_config(config)


def _write_hollow(file: Path, header: dict[str, Any]) -> None:
    """Write a safetensors file whose values are a hole: no disk is used for them."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(out.tell() + max(entry["data_offsets"][1] for entry in header.values()))


def _sentence(error: LdmError, folder: Path) -> str:
    """Return an error without the place of the folder, as a cell of a table."""
    text = re.sub(rf"{re.escape(str(folder))}(/pipeline)?/?", "", str(error)).replace("|", "\\|")
    text = text.lstrip(": ")
    return text if len(text) < 260 else text[:257] + "..."


def covered(found: list[Outcome]) -> int:
    """Return the weight of use of what opens."""
    return sum(each.row.use for each in found if not each.refused)


def table(found: list[Outcome]) -> str:
    """Return the part of docs/models.md that is written from the rows."""
    total = sum(row.use for row in PUBLISHED)
    lines = [
        f"Together these open for {covered(found)} of {total} of the estimated use.",
        "",
        "| checkpoint | architecture | use | opens | as, or refused with |",
        "|---|---|---|---|---|",
        *(each.line for each in found),
    ]
    return "\n".join(lines) + "\n"


def written(page: str, found: list[Outcome]) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as work:
        found = list(outcomes(Path(work)))
    print(table(found))
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
