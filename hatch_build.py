"""Build hooks of ldm-export: the source of its runtime.

In a clone, `runtime/` stands beside this file: ldm-export depends on it by its path, so that `pip install .` installs
both. Elsewhere it depends on the ldm-runtime of its own version. An editable install puts the clone's runtime first on
the path, before the copy that pip has installed.
"""

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


def runtime_beside(root: str) -> Path | None:
    """Return the runtime's project in the clone at `root`, or None if this is not a clone."""
    folder = Path(root, "runtime")
    return folder if (folder / "pyproject.toml").is_file() else None


class RuntimeDependency(MetadataHookInterface):
    """The dependencies: those of pyproject.toml, and the runtime."""

    def update(self, metadata: dict[str, Any]) -> None:
        beside = runtime_beside(self.root)
        where = f"=={metadata['version']}" if beside is None else f" @ {beside.as_uri()}"
        metadata["dependencies"] = [f"ldm-runtime{where}", *self.config["dependencies"]]


class EditableRuntime(BuildHookInterface):
    """The clone's own runtime for `pip install -e .`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "sdist" and runtime_beside(self.root) is not None:
            raise ValueError(
                "an sdist would name the path of this clone; scripts/build_wheels.sh builds what is released"
            )
        if version != "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        line = Path(self._folder.name, "runtime.pth")
        line.write_text(f"import sys; sys.path.insert(0, {str(Path(self.root, 'runtime'))!a})\n", encoding="utf-8")
        build_data["force_include_editable"][str(line)] = "_ldm_export_runtime.pth"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version == "editable":
            self._folder.cleanup()
