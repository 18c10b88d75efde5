"""The sections, in the order of the report."""

from ldm_export.analyze.section import Needs, Section

SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section(
            "compression",
            "Compression and cost",
            "By how much does the latent space shrink the image, and how much of that becomes speed?",
        ),
        Section(
            "information",
            "Information and rate",
            "How many bits of an image do its latents keep, and what do they cost beside JPEG and WebP?",
            Needs(pictures=64),
        ),
        Section(
            "geometry",
            "Geometry",
            "Is the latent space flat and smooth, so that a straight line between two images is a sensible path?",
            Needs(pictures=8),
        ),
        Section(
            "regularity",
            "Regularity",
            "Are the latents near the Gaussian that diffusion starts from, with all their dimensions in use?",
            Needs(pictures=64),
        ),
        Section(
            "semantics",
            "Semantics",
            "Are images that look alike near one another in the latent space?",
            Needs(pictures=64),
        ),
        Section(
            "correspondence",
            "Correspondence of latents and pixels",
            "Does a latent cell belong to its own square of pixels?",
            Needs(pictures=8),
        ),
        Section(
            "attention",
            "Attention to the text",
            "Where in the image does each word act, at which resolution, and what does it cost?",
            Needs(pictures=8, captions=True, mask=True),
        ),
        Section(
            "text",
            "Information from the text",
            "How many bits about the image does its caption give, and at which noise level?",
            Needs(pictures=16, captions=True),
        ),
        Section(
            "preservation",
            "What is preserved",
            "Which detail and which labels survive the way through the latent space?",
            Needs(pictures=64),
        ),
        Section(
            "quality",
            "Quality",
            "How near are reconstructions and drawn images to real ones?",
            Needs(pictures=64),
        ),
        Section(
            "parallelism",
            "Parallelism",
            "What do tiles, parallel steps and a pipeline of stages save, and what do they cost?",
        ),
        Section(
            "transport",
            "Transport",
            "How straight are the paths from noise to data, and how few steps do they allow?",
            Needs(pictures=64),
        ),
    )
}
