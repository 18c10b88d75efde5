"""A package with a plan, and a GPU and a TensorRT of `tensorrt_fakes` that run it."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from ldm_runtime.engines.cuda.device import CudaDevice
from ldm_runtime.engines.tensorrt.engine import TensorRtEngine
from ldm_runtime.engines.tensorrt.fit import plan_name
from ldm_runtime.engines.tensorrt.library import RTX, Flavour
from ldm_runtime.package.artefacts import Artefact, PlanRequirements, Range
from ldm_runtime.package.manifest import FileEntry
from ldm_runtime.package.open import Package, open_package
from tests.runtime.engines.tensorrt_fakes import FakeCuda, FakeEngine, FakeTensorRt, feeds_of

NAME = "rtx-1.7.1.116-sm89-fp32"
NOTHING = {"memory": 0, "streams": 0, "graphs": 0}
SMALL = {"batch": Range(1, 2, 4), "height": Range(2, 4, 8), "width": Range(2, 4, 8), "tokens": Range(1, 12, 48)}
LARGE = {"batch": Range(1, 2, 4), "height": Range(8, 16, 16), "width": Range(8, 16, 16), "tokens": Range(1, 12, 48)}
SIZES = {"batch": 2, "height": 4, "width": 6, "tokens": 12}


def compute(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    text = feeds["encoder_hidden_states"].mean(axis=(1, 2))[:, None, None, None]
    return {"out_sample": 2 * feeds["sample"] + feeds["timestep"] + text}


class Machine:
    """A package with a plan of its UNet, a GPU and a TensorRT that run it; tests change what they like, then `load`."""

    def __init__(self, folder: Path, flavour: Flavour = RTX) -> None:
        self.package = open_package(folder, check="size")
        parts = self.package.manifest.components["unet"]
        digests = [self.package.manifest.files[file].sha256 for file in (parts.canonical.file, parts.weights)]
        content = b"a plan that only the fakes read" * 4
        file = f"engines/{NAME}/unet.plan"
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_bytes(content)
        self.path = folder / file
        self.plan = PlanRequirements(flavour, "1.7.1.116", ("8.9",), (), *digests, (SMALL, LARGE), 5_000_000, 1_000_000)
        self.artefact = Artefact(NAME, "tensorrt", (file,), "tensorrt", "fp32", "exact", None, self.plan)
        entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        self.digest = entry.sha256
        manifest = self.package.manifest
        components = {
            **manifest.components,
            "unet": dataclasses.replace(parts, artefacts=(*parts.artefacts, self.artefact)),
        }
        changed = dataclasses.replace(manifest, components=components, files={**manifest.files, file: entry})
        self.package = Package(folder, changed, self.package.identity, "size")
        self.contract = manifest.contract.components["unet"]
        self.cuda = FakeCuda()
        self.engine = FakeEngine(plan_name("unet", *digests), self.contract, self.plan, self.cuda, compute)
        self.trt = FakeTensorRt(self.engine)
        self.device = CudaDevice(self.cuda)

    def load(self, *, capture: bool = False) -> TensorRtEngine:
        artefact = dataclasses.replace(self.artefact, requires=self.plan)
        library = self.trt.library(self.plan.flavour)
        return TensorRtEngine(self.package, "unet", artefact, library, self.device, capture=capture)

    def feeds(self, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
        return feeds_of(self.contract, {**SIZES, **sizes}, seed)

    def equal(self, engine: TensorRtEngine, feeds: dict[str, np.ndarray]) -> None:
        np.testing.assert_array_equal(engine.run(feeds)["out_sample"], compute(feeds)["out_sample"])
