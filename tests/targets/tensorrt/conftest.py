"""The golden package, to build plans in and with plans in it.

What needs TensorRT for RTX is imported where it is used: other tests of this folder do without.
"""

import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "package"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each stage run here; one that has a process of its own takes a second longer."""
    from ldm_export.targets.tensorrt import build
    from tests.stages import here

    monkeypatch.setattr(build, "run_isolated", here)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden package with plans for two kinds of GPUs; read only."""
    from ldm_export.targets.tensorrt import build
    from tests.stages import here
    from tests.targets.tensorrt.planning import asked, build_tensorrt

    folder = Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("built") / "package"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "run_isolated", here)
        build_tensorrt(folder, asked("rtx", ("8.9", "8.6")))
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "package"))
