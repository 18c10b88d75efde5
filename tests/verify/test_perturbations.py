"""Seeded ways to spoil a package, hashes corrected: the gate lets none of them pass.

Every kind of change is made in every component that it can strike, and changes of graphs in both graphs. What is not
among them, because it changes nothing that float32 can show:
- the biases of attention keys: they add q·b to every score of a row, and softmax takes it out again;
- the epsilon of one single norm deep inside a residual stream, whose variance is far above it: of the 168 norms of
  the two models, 75 change the output by less than the tolerance, a multiple of torch's own rounding.
  The first two norms of a graph are tried one by one; all norms that share an epsilon, which is what a wrong config
  changes, everywhere;
- one number of a bias or a norm that is 1 % off, in a UNet or between wide convolutions: it moves the output by about
  the tolerance. It is tried 5 % off there, elsewhere 1 %.

Every change that is made here is beyond the tolerance by half of it at least, most by orders of magnitude, so that the
rounding of another processor decides nothing.
"""

from pathlib import Path

import pytest

from ldm_export.verify.gate import verify_package
from ldm_runtime.errors import PackageError
from tests.verify import perturbations
from tests.verify.perturbations import COMPONENTS, FACTS, Edit

KINDS = ("sd15", "sd21")
FILE_EDITS: dict[Edit, tuple[str, ...]] = {
    perturbations.scale_one_channel: COMPONENTS,
    perturbations.swap_two_tensors: COMPONENTS,
    perturbations.round_to_float16: COMPONENTS,
    perturbations.swap_epsilon: COMPONENTS,
    perturbations.swap_one_epsilon: COMPONENTS,
    perturbations.confuse_gelu: ("text_encoder", "unet"),  # an autoencoder has none
    perturbations.bake_a_size: COMPONENTS,
}
FILE_CASES = [
    pytest.param(edit, component, seed, KINDS[(seed + index) % 2], id=f"{edit.__name__}-{component}-{seed}")
    for edit, components in FILE_EDITS.items()
    for index, component in enumerate(components)
    for seed in range(perturbations.EARLY_NORMS * 2 if edit is perturbations.swap_one_epsilon else 2)
]
# The same in a package whose checkpoint is in half precision: rounding to float16 would change nothing there.
HALF_EDITS = (perturbations.scale_one_channel, perturbations.swap_two_tensors, perturbations.round_to_bfloat16)
WIDE_CASES = [
    (perturbations.reverse_a_difference, "vae_encoder"),
    (perturbations.reverse_a_difference, "vae_decoder"),
    (perturbations.scale_one_channel, "unet"),
    (perturbations.scale_one_channel, "vae_encoder"),
    (perturbations.scale_one_channel, "vae_decoder"),
]
# What PNDM, the sampler of the sd15 package, cannot run: the manifest is refused before anything is compared.
NOT_FOR_PNDM = (("contract.schedule.prediction_type", "sample"), ("contract.schedule.rescale_betas_zero_snr", True))

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", [*KINDS, "sd15-fp16", "wide"])
def test_a_copy_without_perturbation_passes(proven, tmp_path, kind):
    package = perturbations.copy(proven(kind), tmp_path / "package")
    perturbations.rehash(package, "unet/model.onnx")
    report = verify_package(package)
    assert report.passed, report.failures


@pytest.mark.parametrize(("edit", "component", "seed", "kind"), FILE_CASES)
def test_a_changed_file_does_not_pass(proven, tmp_path, edit, component, seed, kind):
    refuses(proven(kind), tmp_path, edit, component, seed)


@pytest.mark.parametrize("edit", HALF_EDITS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_changed_file_in_half_precision_does_not_pass(proven, tmp_path, edit, component):
    refuses(proven("sd15-fp16"), tmp_path, edit, component, COMPONENTS.index(component))


@pytest.mark.parametrize(("edit", "component"), WIDE_CASES)
def test_a_changed_file_with_wide_convolutions_does_not_pass(proven, tmp_path, edit, component):
    refuses(proven("wide"), tmp_path, edit, component, 0)


def test_one_number_of_a_wide_bias_does_not_pass(proven, tmp_path):
    """The smallest change that is tried at all."""
    package = perturbations.copy(proven("wide"), tmp_path / "package")

    def change(tensors):
        tensors["up_blocks.0.resnets.0.conv1.bias"][193] *= perturbations.SMALL_PART_SCALE
        return "one number"

    perturbations.edit_weights(package, "unet", change)
    report = verify_package(package, stop_at_first_failure=True)
    assert [case.component for case in report.cases if not case.passed] == ["unet"]


def refuses(proven: Path, folder: Path, edit: Edit, component: str, seed: int) -> None:
    """The gate does, once `edit` was made in a copy; it blames the component."""
    package = perturbations.copy(proven, folder / "package")
    what = edit(package, component, seed)
    report = verify_package(package, stop_at_first_failure=True)
    assert [case.component for case in report.cases if not case.passed] == [component], what
    assert all(fact.passed for fact in report.facts), "only components were changed"


def refusal(kind, place, new):
    """Return what opening says of a change that no package can have, or None."""
    if kind == "sd15" and (perturbations.spelt(place), new) in NOT_FOR_PNDM:
        return "sampler 'pndm' does not take"
    return "a tokenizer of .* tokens for" if place[-1] == "vocab_size" else None


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_fact_does_not_pass(proven, tmp_path, kind):
    """Every fact, by comparison with what torch used, before a graph runs."""
    for index, (place, new, _) in enumerate(FACTS):
        package = perturbations.copy(proven(kind), tmp_path / str(index))
        what = perturbations.edit_fact(package, place, new)
        if (refused := refusal(kind, place, new)) is not None:
            with pytest.raises(PackageError, match=refused):
                verify_package(package)
            continue
        report = verify_package(package, stop_at_first_failure=True)
        wrong = [fact.name for fact in report.facts if not fact.passed]
        assert wrong == [perturbations.spelt(place)] and not report.passed, what
        assert report.cases == ()


RUNS = [(place, new, acts) for place, new, acts in FACTS if acts is not None]


@pytest.mark.parametrize(
    ("place", "new", "acts", "kind"),
    [(*each, KINDS[index % 2]) for index, each in enumerate(RUNS)],
    ids=[perturbations.spelt(place) for place, _, _ in RUNS],
)
def test_a_changed_fact_shows_in_a_run_or_in_tokens_where_they_depend_on_it(proven, tmp_path, place, new, acts, kind):
    package = perturbations.copy(proven(kind), tmp_path / "package")
    what = perturbations.edit_fact(package, place, new)
    report = verify_package(package)
    tokens = [fact.name for fact in report.facts if not fact.passed and fact.name.startswith("tokens of")]
    assert (bool(tokens) or not report.trajectory.passed) == acts, what


def test_the_shared_package_was_not_touched(proven):
    for kind in KINDS:
        report = verify_package(proven(kind))
        assert report.passed, report.failures
