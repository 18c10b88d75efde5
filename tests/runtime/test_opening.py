"""Opening within a budget: a variant whose engine fails gives way to the next, and at last to the exact graphs."""

import dataclasses
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime import opening
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineError, EngineUnavailable, PackageError
from tests.runtime import cached_package, tiny_package
from tests.runtime.broken_package import BROKEN, GRAPH, broken_variant, with_broken
from tests.runtime.lossy_package import variant, with_variants
from tests.runtime.notices import said

NEXT = variant("next", 35.0, 0.3, ways={}, steps=3)
WHY = "ort does not run broken of unet: ONNX Runtime cannot load "


@pytest.fixture
def broken(package_copy: Path) -> Path:
    """The tiny package with a variant that does not open, and a slower one that does."""
    return with_variants(with_broken(package_copy), NEXT, broken_variant())


def latents(folder: Path, **options: Any) -> np.ndarray:
    with ldm_runtime.load(folder, engine="ort", threads=1, **options) as pipe:
        return list(pipe.sample("red", seed=1))[-1].latents


def test_the_next_variant_within_the_budget_draws_and_the_reason_is_said(broken: Path) -> None:
    with ldm_runtime.load(broken, budget="psnr=30") as pipe:
        assert pipe.variant == NEXT and pipe.info["engines"]["unet"] == "ort"
        first, second = said(pipe.sample("red", seed=1))
    assert first.startswith(f"broken is left out: {WHY}") and "Abacus" in first and "leave it out" not in first
    assert second.startswith("the variant next draws: the worst of 12 images was 35 dB")
    np.testing.assert_array_equal(latents(broken, budget="psnr=30"), latents(broken, variant="next"))


def test_at_last_the_exact_graphs_draw(package_copy: Path) -> None:
    with_variants(with_broken(package_copy), broken_variant(), dataclasses.replace(broken_variant(0.2), name="other"))
    with ldm_runtime.load(package_copy, budget="psnr=30") as pipe:
        assert pipe.variant is None
        first, second, last = said(pipe.sample("red", seed=1))
    assert first.startswith(f"broken is left out: {WHY}") and second.startswith(f"other is left out: {WHY}")
    assert last == "no variant within psnr=30 is of use here: drawn exactly"
    np.testing.assert_array_equal(latents(package_copy, budget="psnr=30"), latents(package_copy))


def test_by_its_name_it_fails(broken: Path) -> None:
    with pytest.raises(EngineUnavailable) as refused:
        ldm_runtime.load(broken, variant="broken")
    text = str(refused.value)
    assert (
        text.startswith(f"the variant broken does not run here: {WHY}") and refused.value.code == "engine.unavailable"
    )
    assert text.endswith("; leave it out to draw exactly") and text.count("does not run here") == 1


def test_what_had_opened_is_gone_before_the_next_is_chosen(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[OrtEngine] = weakref.WeakSet()
    seen: list[int] = []
    opened, chosen = OrtEngine.__init__, opening.choose_variant

    def opening_one(self: OrtEngine, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        alive.add(self)
        seen.append(len(alive))

    def choosing(*arguments: Any, **options: Any) -> Any:
        assert len(alive) == 0
        seen.append(0)
        return chosen(*arguments, **options)

    monkeypatch.setattr(OrtEngine, "__init__", opening_one)
    monkeypatch.setattr(opening, "choose_variant", choosing)
    ldm_runtime.load(broken, budget="psnr=30").close()
    assert seen[:4] == [0, 1, 0, 1]  # a text encoder before the UNet that fails; then from the beginning


def test_graphs_that_only_caching_names_are_the_variants_too(tmp_path: Path) -> None:
    """One that reads what was kept opens after all others."""
    folder = cached_package.make(tmp_path / "cached")
    cached = cached_package.variant()
    (folder / "unet/model.shallow.onnx").write_bytes((with_broken(folder) / GRAPH).read_bytes())
    tiny_package.rehash(folder)
    with_variants(folder, dataclasses.replace(cached, ways={}))
    with ldm_runtime.load(folder, budget="psnr=30") as pipe:
        assert pipe.variant is None and said(pipe.sample("red", seed=1))[0].startswith(
            "cached is left out: ONNX Runtime"
        )


def test_an_engine_that_no_variant_names_ends_the_run_at_once(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def failing(package: Any, component: str, *arguments: Any) -> Any:
        asked.append(component)
        raise EngineError("no memory")

    monkeypatch.setitem(ENGINES, "openvino", dataclasses.replace(ENGINES["openvino"], open=failing))
    with pytest.raises(EngineError, match="^no memory$"):
        ldm_runtime.load(broken, engine="text_encoder=openvino", budget="psnr=30")
    assert asked == ["text_encoder"]


def test_a_graph_that_breaks_its_contract_ends_the_run(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no engine's failure: the package is not what it claims to be."""

    def failing(*arguments: Any) -> Any:
        raise PackageError("other inputs", code="graph.signature")

    monkeypatch.setitem(ENGINES, "openvino", dataclasses.replace(ENGINES["openvino"], open=failing))
    own = dataclasses.replace(BROKEN, engine="openvino")
    with_variants(broken, NEXT, dataclasses.replace(broken_variant(), ways={"unet": own}))
    with pytest.raises(PackageError, match="^other inputs$"):
        ldm_runtime.load(broken, budget="psnr=30")


def test_a_damaged_file_is_said_also_where_the_next_variant_opens(broken: Path) -> None:
    content = (broken / GRAPH).read_bytes()
    (broken / GRAPH).write_bytes(content.replace(b"org.abacus", b"org.abacos"))
    with pytest.raises(PackageError) as refused:
        ldm_runtime.load(broken, budget="psnr=30", check="full")
    assert refused.value.code == "file.hash" and GRAPH in str(refused.value)
