"""Components that run in a variant's way: its engine and its precision, and a second artefact beside the first."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_runtime.components import Components
from ldm_runtime.engines.choice import choose
from ldm_runtime.engines.engine import EngineKind, Settings
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineError, EngineUnavailable, PackageError
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.package.variants import Variant, Way
from ldm_runtime.pipeline import Pipeline
from tests.runtime import lossy_package
from tests.runtime.package.varied_package import add_variants


class Recorder:
    """An engine that is the name of what was opened."""

    inputs = outputs = ()
    notices = ("it counts on fingers",)
    maps_weights = True

    def __init__(self, artefact: Artefact, settings: Settings) -> None:
        self.artefact, self.settings = artefact.name, settings

    def run(self, feeds: Any) -> dict[str, np.ndarray]:
        return {"ran": np.array([len(self.artefact)])}

    def close(self) -> None: ...


def kind(missing_for: Callable[[Any], str | None]) -> EngineKind:
    def opened(package: Package, component: str, artefact: Artefact, settings: Settings) -> Recorder:
        return Recorder(artefact, settings)

    return EngineKind("", (("onnx", "any"),), opened, lambda: None, missing_for=missing_for)


@pytest.fixture
def varied(package_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """The tiny package with artefacts of variants, and openvino as a recorder."""
    monkeypatch.setitem(ENGINES, "openvino", kind(lambda precision: None))
    return open_package(add_variants(package_copy))


BF16 = Way("openvino", "canonical", "bf16", ())


def running(way: Way) -> Variant:
    """A variant that runs the UNet in one way."""
    return lossy_package.variant("own", 30.0, 0.5, ways={"unet": way})


def test_a_way_has_its_own_engine_and_precision(varied: Package) -> None:
    components = Components(varied, choose("ort", threads=2), variant=running(BF16))
    unet = components.open("unet")
    assert isinstance(unet, Recorder) and unet.artefact == "canonical"
    assert unet.settings == Settings(2, {}, "bf16")
    components.open("vae_decoder")
    assert components.names == {"unet": "openvino", "vae_decoder": "ort"}
    assert [str(notice) for notice in components.notices] == ["it counts on fingers"]


@pytest.mark.parametrize(
    ("way", "artefact", "expected"),
    [
        (dataclasses.replace(BF16, artefact="int8"), None, "bf16"),
        (dataclasses.replace(BF16, artefact="int8", precision="int8"), None, None),
        (dataclasses.replace(BF16, artefact="int8", precision="int8"), "canonical", None),
        (dataclasses.replace(BF16, artefact="int8", precision="fp32"), None, "fp32"),
        (dataclasses.replace(BF16, precision="fp32"), None, None),
        (dataclasses.replace(BF16, artefact="deep"), "shallow", "bf16"),
    ],
)
def test_an_artefacts_own_precision_is_not_asked_for(varied: Package, way: Way, artefact, expected) -> None:
    opened = Components(varied, choose(), variant=running(way)).open("unet", artefact)
    assert isinstance(opened, Recorder) and opened.settings.precision == expected
    assert opened.artefact == (artefact or way.artefact)


def test_a_second_artefact_runs_beside_the_first(varied: Package) -> None:
    components = Components(varied, choose(), variant=running(dataclasses.replace(BF16, artefact="deep")))
    first, second = components.open("unet"), components.open("unet", "shallow")
    assert components.open("unet", "deep") is first and components.open("unet", "shallow") is second is not first
    assert components.run("unet", {}, "shallow")["ran"] == [len("shallow")]
    assert components.evaluate("unet", {})["ran"] == [len("deep")]
    assert components.names == {"unet": "openvino", "unet/shallow": "openvino"}
    components.rest("unet")
    assert components.engines == {}


def test_without_a_way_the_choice_opens_a_second_artefact_too(varied: Package) -> None:
    components = Components(varied, choose("openvino"))
    assert components.open("unet", "deep") is not components.open("unet")
    assert set(components.engines) == {"unet", "unet/deep"}
    with pytest.raises(PackageError, match="has no 'other' of unet"):
        components.open("unet", "other")


def test_with_caching_what_keeps_is_the_denoisers_own_graph(varied: Package) -> None:
    """Without a way too: the package's own graph would be opened for nothing."""
    cached = varied.manifest.variants[1]
    assert cached.run.caching is not None and cached.ways == {}
    components = Components(varied, choose("openvino"), variant=cached)
    own = components.open("unet")
    assert isinstance(own, Recorder) and own.artefact == "deep" and components.open("unet", "deep") is own
    components.open("unet", "shallow")
    assert set(components.engines) == {"unet", "unet/shallow"}


def test_given_engines_stay_the_components_own(varied: Package) -> None:
    own = Recorder(varied.manifest.components["unet"].canonical, Settings())
    components = Components(varied, choose(), {"unet": own}, running(BF16))
    components.rest("unet")
    assert components.open("unet") is own is components.open("unet", "canonical")


def test_a_precision_that_is_missing_here_is_refused(varied: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "openvino", kind(lambda precision: f"{precision} needs more fingers"))
    with pytest.raises(EngineUnavailable, match="^openvino does not run unet here: bf16 needs more fingers$"):
        Components(varied, choose(), variant=running(BF16)).open("unet")


def test_a_graph_that_the_engine_cannot_load_is_told_with_the_way(varied: Package, monkeypatch) -> None:
    def failing(*arguments: object) -> Recorder:
        raise EngineError("no operator MatMulNBits")

    monkeypatch.setitem(ENGINES, "openvino", dataclasses.replace(ENGINES["openvino"], open=failing))
    with pytest.raises(EngineError, match="^openvino does not run canonical of unet: no operator MatMulNBits$"):
        Components(varied, choose(), variant=running(BF16)).open("unet")


def test_an_engine_computes_in_its_artefacts_precision_unless_it_says_otherwise(varied: Package) -> None:
    way = Way("ort", "canonical", "fp16", ())
    with pytest.raises(EngineUnavailable, match="ort does not run unet here: fp16 is no precision that it computes in"):
        Components(varied, choose(), variant=running(way)).open("unet")


def test_a_pipeline_draws_with_its_variant(varied: Package) -> None:
    mixed = varied.manifest.variants[2]
    variant = dataclasses.replace(mixed, ways={"unet": BF16})
    with Pipeline(varied, choose("ort"), variant=variant) as pipe:
        assert pipe.variant is variant and pipe.info["engines"]["unet"] == "openvino"
    with Pipeline(varied, choose("ort")) as pipe:
        assert pipe.variant is None and pipe.info["engines"]["unet"] == "ort"
