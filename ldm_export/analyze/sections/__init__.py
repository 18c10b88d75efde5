"""The sections, in the order of the report."""

from ldm_export.analyze.section import Needs, Section
from ldm_export.analyze.sections import (
    compression,
    correspondence,
    geometry,
    information,
    parallelism,
    preservation,
    regularity,
    semantics,
)

SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section(
            "compression",
            "Compression and cost",
            "By how much does the latent space shrink the image, and how much of that becomes speed?",
            compression.measure,
        ),
        Section(
            "information",
            "Information and rate",
            "How many bits of an image do its latents keep, and what do they cost beside JPEG and WebP?",
            information.measure,
            Needs(pictures=64),
        ),
        Section(
            "geometry",
            "Geometry",
            "Is the latent space flat and smooth, so that a straight line between two images is a sensible path?",
            geometry.measure,
            Needs(pictures=8),
        ),
        Section(
            "regularity",
            "Regularity",
            "Are the latents near the Gaussian that diffusion starts from, with all their dimensions in use?",
            regularity.measure,
            Needs(pictures=64),
        ),
        Section(
            "semantics",
            "Semantics",
            "Are images that look alike near one another in the latent space?",
            semantics.measure,
            Needs(pictures=64),
        ),
        Section(
            "correspondence",
            "Correspondence of latents and pixels",
            "Does a latent cell belong to its own square of pixels?",
            correspondence.measure,
            Needs(pictures=8),
        ),
        Section(
            "preservation",
            "What is preserved",
            "Which detail and which labels survive the way through the latent space?",
            preservation.measure,
            Needs(pictures=64),
        ),
        Section(
            "parallelism",
            "Parallelism",
            "Can an image be drawn by several workers at once, in space, in time or in stages, and what does it gain?",
            parallelism.measure,
            Needs(pictures=4),
        ),
    )
}
