"""A package that methods write into, and trials whose errors are made up."""

import shutil
from pathlib import Path

import pytest

from ldm_export.lossy import trials
from ldm_export.lossy.measure import Runs, Setting
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import Variant, VariantRun
from tests.lossy.trial_runs import made_up_runs

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built-in model that graphs may be written into."""
    return Path(shutil.copytree(BUILTIN, tmp_path_factory.mktemp("packages") / "builtin"))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[VariantRun]:
    """Runs whose images differ by what the variant leaves out, and the runs that were tried."""
    tried: list[VariantRun] = []

    def fake(folder: Path, manifest: Manifest, setting: Setting, variant: Variant) -> Runs:
        run = variant.run
        tried.append(run)
        interval = 1 if run.caching is None else run.caching.interval
        depth = 1 if run.caching is None else int(run.caching.keeps[-1])
        steps = setting.steps if run.steps is None else run.steps
        level = 2.0 * (interval - 1) / depth + 20 * (1 - run.guidance_until) + (setting.steps - steps)
        return made_up_runs(setting, level + (3 if "int8" in variant.methods else 0))

    monkeypatch.setattr(trials, "draw", fake)
    return tried
