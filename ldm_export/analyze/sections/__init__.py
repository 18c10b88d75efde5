"""The sections, in the order of the report."""

from ldm_export.analyze.section import Needs, Section
from ldm_export.analyze.sections import (
    attention,
    compression,
    correspondence,
    geometry,
    information,
    parallelism,
    preservation,
    quality,
    regularity,
    semantics,
    text,
    transport,
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
            "attention",
            "Attention to the text",
            "Is attention to the text cheap on latents, and does it still know where in the image a word belongs?",
            attention.measure,
            Needs(pictures=4, captions=True),
        ),
        Section(
            "text",
            "Text and image",
            "How many bits does a caption tell of its image, at which noise levels, and which of its words tell them?",
            text.measure,
            Needs(pictures=8, captions=True),
        ),
        Section(
            "preservation",
            "What is preserved",
            "Which detail and which labels survive the way through the latent space?",
            preservation.measure,
            Needs(pictures=64),
        ),
        Section(
            "quality",
            "Quality",
            "How close are reconstructions to their images, and drawn images to real ones?",
            quality.measure,
            Needs(pictures=8),
        ),
        Section(
            "parallelism",
            "Parallelism",
            "Can an image be drawn by several workers at once, in space, in time or in stages, and what does it gain?",
            parallelism.measure,
            Needs(pictures=4),
        ),
        Section(
            "transport",
            "Transport",
            "How straight are the ways from noise to images, and how few steps follow them?",
            transport.measure,
            Needs(pictures=8),
        ),
    )
}
