"""What all peers are measured on: the inputs of every component, and the package's weights as a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ldm_export.bench import feeds
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.manifest import Contract


def write_inputs(
    path: Path, contract: Contract, size: tuple[int, int], real: Mapping[str, np.ndarray] = MappingProxyType({})
) -> None:
    """Write the inputs of all peers: seeded inputs of every component, and the noise that an image starts from.

    real: COMPONENT.INPUT -> what takes the place of noise; what was calibrated with real runs is only right for such.
    """
    random = np.random.default_rng(1)
    arrays = {
        f"{component}.{name}": array
        for component in contract.components
        for name, array in feeds(contract, component, size).items()
    }
    factor = contract.latent.downsample
    arrays |= {name: np.array(value) for name, value in real.items()}
    sample = arrays[f"{contract.denoiser.component}.{contract.denoiser.sample}"]
    sample[:] = sample[:1]  # guidance evaluates the same latents with two texts
    for text in contract.text:
        ids = arrays[f"{text.component}.{text.input}"]
        ids[:] = random.integers(0, text.tokenizer.bos_token_id, ids.shape)
        ids[:, 0], ids[:, -1] = text.tokenizer.bos_token_id, text.tokenizer.eos_token_id
    shape = (1, contract.latent.channels, size[1] // factor, size[0] // factor)
    arrays["latents"] = random.standard_normal(shape).astype(np.float32)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def write_checkpoint(package: Path, checkpoint: Path) -> None:
    """Write the package's weights as a folder that diffusers opens, in float32."""
    from ldm_export.checkpoint.open import open_checkpoint
    from ldm_export.checkpoint.save import save_checkpoint

    source = open_checkpoint(package)
    with source.tokenizer_folder("tokenizer") as tokenizer:
        save_checkpoint(
            checkpoint,
            {name: source.load(name) for name in source.family.parts},
            schedule=source.schedule,
            tokenizer_folder=tokenizer,
            family=source.family,
        )
