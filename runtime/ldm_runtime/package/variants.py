"""Variants of a package: faster ways to draw, each with the error that was measured of it."""

import dataclasses

from ldm_runtime.package.artefacts import Difference, Precision


@dataclasses.dataclass(frozen=True)
class Way:
    """What a component runs as: an artefact, its engine and the precision that this computes in.

    engine: by its name in the table of engines, such as "openvino". units: of the CPU, such as "avx512_bf16"; all that
    it cannot do without.
    """

    engine: str
    artefact: str
    precision: Precision
    units: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Caching:
    """What most of the denoiser makes is kept for a few rows of the plan.

    interval: rows from one whole evaluation to the next. keeps: the artefact of a whole one, which also gives what is
    kept. reads: that of the others, which takes it.
    """

    interval: int
    keeps: str
    reads: str


@dataclasses.dataclass(frozen=True)
class VariantRun:
    """Defaults of a run with the variant; None: the package's own. guidance_until: the run's share with guidance."""

    caching: Caching | None
    guidance_until: float
    steps: int | None
    sampler: str | None


WHOLE_RUN = VariantRun(caching=None, guidance_until=1.0, steps=None, sampler=None)
"""A run as the package has it, of a variant whose graphs alone are lossy."""


@dataclasses.dataclass(frozen=True)
class MeasuredPrompts:
    """The prompts of a measurement. sha256: of their lines."""

    sha256: str
    count: int


@dataclasses.dataclass(frozen=True)
class MeasuredError:
    """The difference of a variant's runs from the exact ones, from the same noise.

    components: of one evaluation, by component. latents: the relative RMS after each evaluation of a run, of the worst.
    psnr, ssim: of the images as bytes, of the worst, PSNR in dB; None: all are equal. worst: the place of its prompt.
    seeds: the first and the last. The rest is what was measured with: steps, sampler, guidance, width and height, units
    of the CPU, and versions of what computed.
    """

    components: dict[str, Difference]
    latents: tuple[float, ...]
    psnr: float | None
    ssim: float
    worst: int
    prompts: MeasuredPrompts
    seeds: tuple[int, int]
    steps: int
    sampler: str
    guidance: float
    size: tuple[int, int]
    units: tuple[str, ...]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A lossy way to draw: ways by component, and defaults of a run.

    methods: what makes it lossy, such as "int8". time: of a run, in that of the exact one where it was built. bytes: of
    the files that only it needs.
    """

    name: str
    methods: tuple[str, ...]
    ways: dict[str, Way]
    run: VariantRun
    error: MeasuredError
    time: float
    bytes: int

    def artefacts_of(self, component: str, denoiser: str) -> set[str]:
        """Return the names of a component's artefacts that it uses; `denoiser`: the component that caching is about."""
        caching = self.run.caching if component == denoiser else None
        cached = set() if caching is None else {caching.keeps, caching.reads}
        return cached | {way.artefact for name, way in self.ways.items() if name == component}
