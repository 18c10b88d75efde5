"""What a package is called and how `run` draws with it where nobody says: from a checkpoint's own files.

A checkpoint that `train` made says it in `defaults.json`, beside model_index.json. Of another the folder's name is
taken, the solver of its scheduler, and the steps and guidance that its kind of solver is for.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, read_object, write_json
from ldm_export.errors import ConfigError
from ldm_runtime.errors import FormatError, InputError
from ldm_runtime.files import strict_json
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.sampling.solvers import Sampler, read_sampler

FILE = "defaults.json"
STEPS = 20
# Solvers of models that were distilled to draw in a few steps, mostly without guidance: (steps, guidance).
DISTILLED = {"lcm": (4, 1.0), "tcd": (4, 1.0)}


@dataclass(frozen=True)
class OwnDefaults:
    """The content of defaults.json."""

    name: str
    sampler: str
    steps: int
    guidance: float


def default_steps(sampler: Sampler, reads_guidance: bool, guidance: float) -> tuple[int, float]:
    """Return the steps and guidance of a checkpoint whose scheduler names this sampler, and that has no others.

    reads_guidance: the denoiser is told the guidance scale, so it costs nothing; then LCM's pipeline has 8.5.
    guidance: of the family's other models.
    """
    return (4, 8.5) if reads_guidance else DISTILLED.get(sampler.name, (STEPS, guidance))


def read_defaults(folder: ModelFolder) -> OwnDefaults | None:
    """Read a checkpoint's defaults.json; None if it has none. Raises CheckpointError, ConfigError for a wrong one."""
    file = folder.path / FILE
    if not os.path.lexists(file):
        return None
    content = read_object(file, folder=folder, limit=MAX_CONFIG_BYTES)
    try:
        found = strict_json.read(OwnDefaults, content, FILE)
        return OwnDefaults(found.name, read_sampler(found.sampler).canonical, found.steps, found.guidance)
    except (FormatError, InputError) as error:
        raise ConfigError(f"{file}: {error}") from None


def write_defaults(folder: Path, defaults: OwnDefaults) -> None:
    """Write defaults.json into a checkpoint's folder."""
    write_json(folder / FILE, asdict(defaults))
