"""A checkpoint that the runtime draws from without a build: torch models in place of engines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.tokenizer import complete_tokenizer
from ldm_export.families.spec import ComponentSpec
from ldm_export.package.write import contract_of
from ldm_export.recipes.build import BuildRecipe
from ldm_export.verify.evaluate import run_model
from ldm_runtime.engines.choice import choose
from ldm_runtime.package.manifest import SCHEMA_VERSION, Manifest, Proof, Provenance, Source
from ldm_runtime.package.open import Package
from ldm_runtime.package.tensor_spec import TensorSpec
from ldm_runtime.pipeline import Pipeline


class TorchEngine:
    """A component's torch model as an engine."""

    notices: tuple[str, ...] = ()

    def __init__(self, spec: ComponentSpec, model: nn.Module) -> None:
        self._spec, self._model = spec, model
        self.inputs: tuple[TensorSpec, ...] = spec.inputs
        self.outputs: tuple[TensorSpec, ...] = spec.outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds.keys() == {tensor.name for tensor in self.inputs}
        return run_model(self._spec, self._model, {name: np.array(value) for name, value in feeds.items()})

    def close(self) -> None:
        pass


def torch_pipeline(source: Path | Checkpoint, work: Path, **recipe: Any) -> Pipeline:
    """Open a checkpoint as its package would be opened; `work`: an empty folder, for its tokenizers."""
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    checkpoint.check()
    contract = contract_of(checkpoint, BuildRecipe(**recipe))
    for name, part in checkpoint.family.tokenizers.items():
        config = checkpoint.configs[part]
        window, size = config.max_position_embeddings, config.vocab_size
        with checkpoint.tokenizer_folder(name) as folder:
            complete_tokenizer(folder, window=window, vocab_size=size).write(work / name)
    provenance = Provenance(checkpoint.family.name, Source("torch", {}), {}, 18, 10, {}, "a test")
    made = Manifest(SCHEMA_VERSION, "torch", contract, {}, {}, provenance, (), Proof(True, "", {}))
    models = {part: checkpoint.load(part) for part in checkpoint.family.parts}
    engines = {name: TorchEngine(spec, models[spec.part]) for name, spec in checkpoint.specs.items()}
    return Pipeline(Package(work, made, "", "size"), choose("auto"), engines=engines)
