"""What stays in a package of the lossy methods has the error that was measured of it."""

from dataclasses import replace
from pathlib import Path

from ldm_export.lossy.keep import with_differences
from ldm_export.lossy.measure import provisional
from ldm_export.lossy.method import Draft
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.open import read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, Caching, Way
from tests.runtime import tiny_package


def test_every_lossy_graph_has_the_difference_that_was_measured(tmp_path: Path) -> None:
    """That which reads deep features, too: it is in no way of its variant."""
    manifest = read_manifest(tiny_package.make(tmp_path / "package"))
    nothing, plain, cached = Difference(0.0, 0.0), Difference(0.03, 0.2), Difference(0.04, 0.3)
    names = ("int8", "int8-deep-1", "int8-shallow-1")
    lossy = [Artefact(name, "onnx", (f"unet/{name}.onnx",), "any", "int8", "lossy", nothing) for name in names]
    unet = manifest.components["unet"]
    components = {**manifest.components, "unet": replace(unet, artefacts=(*unet.artefacts, *lossy))}
    drafts = [
        Draft("int8", ("int8",), {"unet": Way("ort", names[0], "int8", ())}, WHOLE_RUN),
        Draft(
            "int8-cached",
            ("int8", "caching"),
            {"unet": Way("ort", names[1], "int8", ())},
            replace(WHOLE_RUN, caching=Caching(2, names[1], names[2])),
        ),
    ]
    measured = [
        replace(variant, error=replace(variant.error, components={"unet": found}))
        for variant, found in zip(map(provisional, drafts), (plain, cached), strict=True)
    ]
    noted = with_differences(replace(manifest, components=components), measured).components["unet"].artefacts
    assert noted[:-3] == unet.artefacts and [each.difference for each in noted[-3:]] == [plain, cached, cached]
