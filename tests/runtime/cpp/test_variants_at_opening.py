"""Opening within a budget in the C++ library: a variant whose engine fails gives way to the next, as in Python."""

import dataclasses
from pathlib import Path

import pytest

import ldm_runtime
from ldm_runtime.errors import LdmError
from tests.runtime import cached_package, tiny_package
from tests.runtime.broken_package import GRAPH, broken_variant, with_broken
from tests.runtime.cpp.context import Refusal
from tests.runtime.cpp.test_variants import OPTIONS, Open, both, opened, without_binding  # noqa: F401 - a fixture
from tests.runtime.lossy_package import variant, with_variants

pytestmark = pytest.mark.slow
NEXT = variant("next", 35.0, 0.3, ways={}, steps=3)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return with_broken(tiny_package.make(tmp_path / "package"))


def test_the_next_variant_within_the_budget_draws(broken: Path, opened: Open) -> None:  # noqa: F811
    _, name = both(with_variants(broken, NEXT, broken_variant()), opened, OPTIONS, budget="psnr=30")
    assert name == "next"


def test_at_last_the_exact_graphs_draw(broken: Path, opened: Open) -> None:  # noqa: F811
    other = dataclasses.replace(broken_variant(0.2), name="other")
    _, name = both(with_variants(broken, other, broken_variant()), opened, OPTIONS, budget="psnr=30")
    assert name is None
    told = opened(broken, budget="psnr=30").said
    assert [line.partition(":")[0] for line in told[:2]] == ["broken is left out", "other is left out"]


def test_a_graph_that_only_caching_names_is_the_variants_too(tmp_path: Path, opened: Open) -> None:  # noqa: F811
    folder = with_broken(cached_package.make(tmp_path / "cached"))
    (folder / "unet/model.shallow.onnx").write_bytes((folder / GRAPH).read_bytes())
    tiny_package.rehash(folder)
    with_variants(folder, dataclasses.replace(cached_package.variant(), ways={}))
    _, name = both(folder, opened, OPTIONS, budget="psnr=30")
    assert name is None


def test_by_its_name_it_is_refused_in_the_same_words(broken: Path, opened: Open) -> None:  # noqa: F811
    with_variants(broken, broken_variant())
    with pytest.raises(LdmError, match="the variant broken does not run here: ort does not run broken") as expected:
        ldm_runtime.load(broken, variant="broken")
    with pytest.raises(Refusal) as found:
        opened(broken, variant="broken")
    assert (found.value.code, found.value.text) == (expected.value.code, without_binding(str(expected.value)))


def test_a_damaged_file_is_said_also_where_the_next_variant_opens(broken: Path, opened: Open) -> None:  # noqa: F811
    with_variants(broken, NEXT, broken_variant())
    content = (broken / GRAPH).read_bytes()
    (broken / GRAPH).write_bytes(content.replace(b"org.abacus", b"org.abacos"))
    with pytest.raises(Refusal) as found:
        opened(broken, budget="psnr=30")
    assert found.value.code == "file.hash" and GRAPH in found.value.text
