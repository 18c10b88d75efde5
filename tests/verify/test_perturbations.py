"""Two hundred seeded ways to spoil a package, hashes corrected: the gate lets none of them pass.

What is not among them, because it changes nothing that float32 can show:
- the biases of attention keys: they add q·b to every score of a row, and softmax takes it out again;
- the epsilon of one single norm deep inside a residual stream, whose variance is far above it: of the 168 norms of
  the two models, 75 change the output by less than the tolerance, a multiple of torch's own rounding.
  Norms near the input are tried one by one; all norms that share an epsilon, which is what a wrong config
  changes, everywhere.
"""

from pathlib import Path

import numpy as np
import pytest

from ldm_export.verify.gate import verify_package
from ldm_runtime.errors import PackageError
from tests.verify import perturbations
from tests.verify.perturbations import FACTS, Edit

KINDS = ("sd15", "sd21")
FILE_EDITS: dict[Edit, int] = {
    perturbations.scale_one_channel: 34,
    perturbations.swap_two_tensors: 24,
    perturbations.round_to_float16: 20,
    perturbations.swap_epsilon: 20,
    perturbations.swap_one_epsilon: 6,
    perturbations.confuse_gelu: 18,
    perturbations.bake_a_size: 18,
}
FILE_CASES = [(edit, seed) for edit, count in FILE_EDITS.items() for seed in range(count)]
# The same in a package whose checkpoint is in half precision: rounding to float16 would change nothing there.
HALF_EDITS = (perturbations.scale_one_channel, perturbations.swap_two_tensors, perturbations.round_to_bfloat16)
HALF_CASES = [(edit, seed) for edit in HALF_EDITS for seed in range(4)]
FACT_CASES = [(place, new, shows, kind) for place, new, shows in FACTS for kind in KINDS]
# What PNDM, the sampler of the sd15 package, cannot run: the manifest is refused before anything is compared.
NOT_FOR_PNDM = (("contract.schedule.prediction_type", "sample"), ("contract.schedule.rescale_betas_zero_snr", True))

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_there_are_two_hundred_cases():
    assert len(FILE_CASES) + len(FACT_CASES) == 200


@pytest.mark.parametrize("kind", [*KINDS, "sd15-fp16", "wide"])
def test_a_copy_without_perturbation_passes(proven, tmp_path, kind):
    package = perturbations.copy(proven(kind), tmp_path / "package")
    perturbations.rehash(package, "unet/model.onnx")
    report = verify_package(package)
    assert report.passed, report.failures


@pytest.mark.parametrize(("edit", "seed"), FILE_CASES, ids=[f"{edit.__name__}-{seed}" for edit, seed in FILE_CASES])
def test_a_changed_file_does_not_pass(proven, tmp_path, edit, seed):
    refuses(proven(KINDS[seed % 2]), tmp_path, edit, seed)


@pytest.mark.parametrize(("edit", "seed"), HALF_CASES, ids=[f"{edit.__name__}-{seed}" for edit, seed in HALF_CASES])
def test_a_changed_file_in_half_precision_does_not_pass(proven, tmp_path, edit, seed):
    refuses(proven("sd15-fp16"), tmp_path, edit, seed)


@pytest.mark.parametrize("edit", [perturbations.reverse_a_difference, perturbations.scale_one_channel])
@pytest.mark.parametrize("seed", range(3))
def test_a_changed_file_with_wide_convolutions_does_not_pass(proven, tmp_path, edit, seed):
    refuses(proven("wide"), tmp_path, edit, seed)


def refuses(proven: Path, folder: Path, edit: Edit, seed: int) -> None:
    """The gate does, once `edit` was made in a copy."""
    package = perturbations.copy(proven, folder / "package")
    what = edit(package, np.random.default_rng(seed))
    report = verify_package(package, stop_at_first_failure=True)
    assert not report.passed, what
    assert all(fact.passed for fact in report.facts), "only components were changed"


@pytest.mark.parametrize(
    ("place", "new", "shows", "kind"),
    FACT_CASES,
    ids=[f"{perturbations.spelt(place)}-{index // 2}-{kind}" for index, (place, _, _, kind) in enumerate(FACT_CASES)],
)
def test_a_changed_fact_does_not_pass(proven, tmp_path, place, new, shows, kind):
    """By comparison with what torch used, and, where sampling or tokens depend on it, by what it does."""
    package = perturbations.copy(proven(kind), tmp_path / "package")
    what = perturbations.edit_fact(package, place, new)
    if kind == "sd15" and (perturbations.spelt(place), new) in NOT_FOR_PNDM:
        with pytest.raises(PackageError, match="sampler 'pndm' does not take"):
            verify_package(package)
        return
    report = verify_package(package)
    assert not report.passed, what
    wrong = [fact.name for fact in report.facts if not fact.passed]
    assert perturbations.spelt(place) in wrong
    acts = not report.trajectory.passed or any(name.startswith("tokens of") for name in wrong)
    assert acts == shows, what


def test_the_shared_package_was_not_touched(proven):
    for kind in KINDS:
        report = verify_package(proven(kind))
        assert report.passed, report.failures
