"""What the section on regularity says of the decoder: how strongly it reacts, and what each axis does."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from ldm_export.analyze.derivative_cost import Work, count_work, lacking_memory
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.hutchinson import column_energies
from ldm_export.analyze.posterior import drawn_latents
from ldm_export.analyze.sections.work_budget import affordable, said_of_work
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.plots import image_grid, to_png

MOST_CHANNELS, COMPONENTS = 8, 4  # axes that are shown
SHIFTS = (-3, -2, -1, 0, 1, 2, 3)  # standard deviations
BLOCK = 4  # images of 128x128 whose derivatives are computed at once
PROBES = 2  # of each image
NOISE = 0.1  # of the latents' deviation
JACOBIAN = "E |dD/dz|²: squared change of the image, summed over unit changes of each number of the latents"
GAIN = f"Change of a pixel where noise of {NOISE:.0%} of the latents' deviation is added to them"
HALF_RANGE = 127.5  # grey levels of a pixel's unit


def add_reaction(findings: Findings, study: Study, latents: np.ndarray) -> None:
    """Measure how the decoder reacts to small changes, and show large ones."""
    codec = study.subject.codec
    work = count_work(codec.decode, (1, *latents.shape[1:]))
    wanted = min(study.scaled(32, 8), len(latents))
    count = affordable(work, wanted, least=min(4, wanted))
    block = study.at_once(BLOCK)
    lacking = lacking_memory(Work(work.macs, block * work.kept))
    deviation = latents.std(axis=(0, 2, 3))
    if lacking:
        findings.figures += [
            Figure("jacobian", JACOBIAN, None, "", "Hutchinson's", "", note=lacking),
            Figure("gain", GAIN, None, "grey levels of 255", "Hutchinson's", "", note=lacking),
        ]
        findings.sentences.append(f"The decoder's reaction was not measured. {lacking}")
    else:
        findings.sentences += said_of_work(work, "the decoder's reaction is of fewer images")
        energies = study.in_blocks(
            "decoder's reaction", range(count), block, lambda places: _energies(study, places)
        )  # (N, C)
        _add_gain(findings, study, energies, float(np.sqrt(np.mean(deviation**2))))
        _add_channels(findings, energies, deviation)
    _add_own_noise(findings, study, count)
    findings.pictures.append(_traversals(study, latents))


def _energies(study: Study, places: Sequence[int]) -> np.ndarray:
    """Return the squared norm of the decoder's Jacobian in each channel's numbers, (B, C)."""
    codec, at = study.subject.codec, torch.from_numpy(study.latents[list(places)])
    generator = study.torch_random(f"decoder's reaction {places[0]}")
    return np.asarray(column_energies(codec.decode, at, PROBES, generator).sum(dim=(2, 3)))


def _add_gain(findings: Findings, study: Study, energies: np.ndarray, deviation: float) -> None:
    """energies: (N, C). deviation: of the latents."""
    energy, over = over_images(energies.sum(axis=1), study.random("regularity gain"))
    findings.figures.append(
        Figure.measured(
            "jacobian",
            JACOBIAN,
            energy,
            "",
            f"Hutchinson's, {PROBES} vectors of random signs for each image, by backward derivatives at the means",
            "Of small changes. Pixels go from -1 to 1; latents are as the denoiser has them.",
            over,
        )
    )
    noise = NOISE * deviation
    scale = noise * HALF_RANGE / math.sqrt(study.pixels[0].size)
    gain = Interval(*(scale * math.sqrt(each) for each in (energy.value, energy.low, energy.high)))
    findings.figures.append(
        Figure.measured(
            "gain",
            GAIN,
            gain,
            "grey levels of 255",
            f"root mean square, from the figure above; the deviation of the latents' means is {deviation:.3g}",
            "To first order.",
            over,
        )
    )
    findings.sentences.append(
        f"Noise in the latents of {NOISE:.0%} of their deviation, {noise:.2g}, moves a pixel by {gain.value:.2g} grey "
        f"levels: an error of the denoiser of {noise / gain.value:.2g} is one grey level in the image."
        if gain.value > 0
        else "The decoder does not react to small changes of the latents."
    )


def _add_channels(findings: Findings, energies: np.ndarray, deviation: np.ndarray) -> None:
    """energies: (N, C). deviation: (C,), of the latents."""
    shares = energies.mean(axis=0) * deviation**2
    if shares.sum() == 0:
        return
    shares = shares / float(shares.sum())
    rows = tuple(
        (channel + 1, float(energies[:, channel].mean()), float(deviation[channel]), float(shares[channel]))
        for channel in range(len(shares))
    )
    head = ("channel", "E |dD/dz|²", "standard deviation", "share")
    note = "share: of the change that all channels make if each moves by its own standard deviation, to first order."
    findings.tables.append(Table("reaction", "How strongly the decoder reacts, by channel", head, rows, note))
    for channel, share in enumerate(shares):
        if share < 0.2 / len(shares):
            findings.warnings.append(
                f"The image hardly depends on channel {channel + 1} ({share:.1%} of the decoder's reaction): fewer "
                "channels would do, or what it holds is drowned in the posterior's noise."
            )


def _add_own_noise(findings: Findings, study: Study, count: int) -> None:
    """Measure what drawing latents from the posterior changes, against decoding its mean."""
    if not study.subject.contract.encodes_moments:
        return
    space, random = study.subject.contract.latent, study.random("regularity own noise")
    drawn = drawn_latents(study.moments, space, random)[:count].astype(np.float32)
    decode = study.subject.pipe.decode_array
    images = study.in_blocks("images of drawn latents", list(drawn), 16, lambda part: decode(np.stack(part)))
    error = np.square(images - study.reconstructions[:count], dtype=np.float64).mean(axis=(1, 2, 3))
    found, over = over_images(error, study.random("regularity own noise interval"))
    moved = Interval(*(HALF_RANGE * math.sqrt(each) for each in (found.value, found.low, found.high)))
    findings.figures.append(
        Figure.measured(
            "own_noise",
            "Change of a pixel by drawing the latents from the posterior, against its mean",
            moved,
            "grey levels of 255",
            "root mean square over images that were decoded from both",
            "Hold it against the error of reconstructions, 255 / 10^(PSNR / 20) grey levels. The decoder was trained "
            "on draws, so the mean is not always the better one.",
            over,
        )
    )


def _traversals(study: Study, latents: np.ndarray) -> Picture:
    """Show what moving one axis does to an image: channels as a whole, then principal components."""
    base = study.latents[0]
    axes = {}
    for channel, deviation in enumerate(latents.std(axis=(0, 2, 3))[:MOST_CHANNELS]):
        axes[f"channel {channel + 1}"] = np.zeros_like(base)
        axes[f"channel {channel + 1}"][channel] = deviation
    flat = latents.reshape(len(latents), -1)
    _, singular, right = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    for place, (size, direction) in enumerate(zip(singular[:COMPONENTS], right[:COMPONENTS], strict=True)):
        axes[f"component {place + 1}"] = (direction * size / math.sqrt(len(flat) - 1)).reshape(base.shape)
    moved = [(base + shift * axis).astype(np.float32) for axis in axes.values() for shift in SHIFTS]
    decode = study.subject.pipe.decode_array
    images = study.in_blocks("axis traversals", moved, len(SHIFTS), lambda part: decode(np.stack(part)))
    captions = [f"{name} {shift:+d}" if shift else name for name in axes for shift in SHIFTS]
    return Picture(
        "traversals",
        "One image, with one axis of its latents moved by -3 to 3 standard deviations: all cells of a channel "
        "together, then the first principal components of all latents.",
        to_png(image_grid(images, len(SHIFTS), captions)),
    )
