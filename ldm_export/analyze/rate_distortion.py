"""Rate against distortion: quantised latents, and ordinary codecs, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ldm_export.analyze.entropy_coder import FactorisedModel, quantise
from ldm_export.analyze.image_codecs import FORMATS, QUALITIES, code
from ldm_export.analyze.posterior import drawn_latents
from ldm_export.analyze.study import Study, levels

STEPS = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5)  # in standard deviations of the latents
QUICK_STEPS = (0.125, 0.5, 1.0)
SHOWN = 4  # images
LEAST_STREAM = 1000  # bytes: below, a stream's last word is felt


@dataclass(frozen=True)
class Point:
    """A setting of a codec, its quality or step, on N images.

    bits: (N,), of each image. error: (N,), its mean squared error in grey levels of 255. shown: the first few images
    after the codec, uint8 (n, H, W, 3). written: bytes of all images as one stream, where there is one.
    """

    setting: float | None
    bits: np.ndarray
    error: np.ndarray
    shown: np.ndarray
    written: int | None = None

    @property
    def psnr(self) -> float:
        return psnr(float(self.error.mean()))

    @property
    def excess(self) -> float | None:
        """Return by which share the bytes are more than the model's bits; None where too few were written to tell."""
        if self.written is None or self.written < LEAST_STREAM:
            return None
        return 8 * self.written / float(self.bits.sum()) - 1


def psnr(error: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error in grey levels; none is above 138 dB."""
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


@dataclass(frozen=True)
class Curves:
    """What was measured. lines: the points of each codec, by its name. unquantised: (N,) errors of the autoencoder.

    places: of the images that were coded; the others taught the model.
    """

    places: np.ndarray
    lines: dict[str, list[Point]]
    unquantised: np.ndarray


LATENTS, DRAWS, BARE_JPEG = "latents", "draws of the latents", "JPEG without headers"


def measure_curves(study: Study, posterior_bits: np.ndarray | None) -> Curves:
    """Teach the model of symbols half of the images, and code some of the other half at every step and quality.

    posterior_bits: (N,), of each image, the KL of its posterior against a model of all latents: a draw of the posterior
    can be sent in about as many (Hinton and van Camp 1993; Havasi et al. 2019). None without a posterior.
    """
    order = study.random("rate").permutation(len(study.pictures))
    half = len(order) // 2
    taught, places = order[:half], np.sort(order[half:][: study.scaled_by_size(128, 16, least=8)])
    latents, pixels = study.latents, study.pictures.pixels[places]

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
        images = decoded("images of draws", drawn_latents(study, study.random("rate of draws"))[places])
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
    return Curves(places, lines, _errors(levels(study.reconstructions[places]), pixels))


def _point(
    setting: float | None, bits: np.ndarray, images: np.ndarray, pixels: np.ndarray, written: int | None = None
) -> Point:
    return Point(setting, bits, _errors(images, pixels), images[:SHOWN], written)


def _errors(images: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each image, uint8 (N, H, W, 3) both."""
    difference = images.astype(np.float32) - pixels.astype(np.float32)
    return np.asarray(np.square(difference, dtype=np.float64).mean(axis=(1, 2, 3)))


def working_point(curves: Curves, loss: float) -> Point:
    """Return the coarsest step that costs at most `loss` dB against latents as they are, or else the finest."""
    least = psnr(float(curves.unquantised.mean())) - loss
    within = [point for point in curves.lines[LATENTS] if point.psnr >= least]
    return within[-1] if within else curves.lines[LATENTS][0]


def at_equal_error(samples: np.ndarray) -> float:
    """Return the bits per image at which a codec has the first column's error, NaN where no setting is as bad or good.

    samples: (N, 1 + 2 Q): an error to reach, then the errors and the bits of Q settings. Between settings the logarithm
    of the bits goes straight with the PSNR.
    """
    target, *rest = samples.mean(axis=0)
    errors, bits = np.array(rest[: len(rest) // 2]), np.array(rest[len(rest) // 2 :])
    order = np.argsort(-errors)
    reached = np.array([psnr(each) for each in errors[order]])
    found = np.interp(psnr(target), reached, np.log(bits[order]), left=np.nan, right=np.nan)
    return float(np.exp(found))


def equal_error_samples(point: Point, line: Sequence[Point]) -> np.ndarray:
    """Return what `at_equal_error` takes, for a point of latents and another codec's line."""
    return np.stack([point.error, *(each.error for each in line), *(each.bits for each in line)], axis=1)
