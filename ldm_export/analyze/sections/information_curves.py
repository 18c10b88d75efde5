"""The images of an analysis, coded: as latents in steps, as draws of the posterior, and by ordinary codecs."""

from dataclasses import replace

import numpy as np

from ldm_export.analyze.entropy_coder import FactorisedModel, quantise
from ldm_export.analyze.image_codecs import FORMATS, QUALITIES, code
from ldm_export.analyze.posterior import drawn_latents
from ldm_export.analyze.rate_distortion import BARE_JPEG, DRAWS, LATENTS, Curves, Point
from ldm_export.analyze.similarity import squared_errors
from ldm_export.analyze.study import Study, levels

STEPS = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5)  # in standard deviations of the latents
QUICK_STEPS = (0.125, 0.5, 1.0)
SHOWN = 4  # images


def measure_curves(study: Study, posterior_bits: np.ndarray | None) -> Curves:
    """Teach the model of symbols half of the images, and code some of the other half at every step and quality.

    posterior_bits: (N,), of each image, the KL of its posterior against a model of all latents: a draw of the posterior
    can be sent in about as many (Hinton and van Camp 1993; Havasi et al. 2019). None without a posterior.
    """
    order = study.random("rate").permutation(len(study.pictures))
    half = len(order) // 2
    taught, places = order[:half], np.sort(order[half:][: study.scaled_by_size(128, 16, least=8)])
    latents, pixels, space = study.latents, study.pictures.pixels[places], study.subject.contract.latent

    def decoded(name: str, part: np.ndarray) -> np.ndarray:
        decode = study.subject.pipe.decode_array
        return levels(study.in_blocks(name, list(part.astype(np.float32)), 16, lambda each: decode(np.stack(each))))

    deviation = float(np.sqrt(latents.var(axis=(0, 2, 3)).mean()))
    lines: dict[str, list[Point]] = {LATENTS: []}
    steps = QUICK_STEPS if study.quick else STEPS
    for step in steps:
        size = step * deviation
        model = FactorisedModel.learn(quantise(latents[taught], size))
        symbols = model.clip(quantise(latents[places], size))
        images = decoded(f"images of latents in steps of {step:g}", symbols * size)
        written = len(model.encode(symbols))
        lines[LATENTS].append(_point(step, model.bits(symbols), images, pixels, written))
    if posterior_bits is not None:
        images = decoded("images of draws", drawn_latents(study.moments, space, study.random("rate of draws"))[places])
        lines[DRAWS] = [_point(None, posterior_bits[places], images, pixels)]
    for codec in FORMATS:
        lines[codec] = []
        for quality in QUALITIES:
            coded = [code(each, codec, quality) for each in pixels]
            images = np.stack([each.pixels for each in coded])
            point = _point(quality, np.array([8.0 * each.size for each in coded]), images, pixels)
            lines[codec].append(point)
            if codec == "JPEG":
                bare = replace(point, bits=np.array([8.0 * each.content for each in coded]))
                lines.setdefault(BARE_JPEG, []).append(bare)
    return Curves(places, lines, squared_errors(levels(study.reconstructions[places]), pixels))


def _point(
    setting: float | None, bits: np.ndarray, images: np.ndarray, pixels: np.ndarray, written: int | None = None
) -> Point:
    return Point(setting, bits, squared_errors(images, pixels), images[:SHOWN], written)
