"""The ways between pairs of images that are compared: straight, spherical, the shortest found, and a cross-fade."""

from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.changes import decoded
from ldm_export.analyze.geodesic import Geodesic, geodesic, path_length, spherical, straight
from ldm_export.analyze.study import Study, levels

KNOTS, PIECES = 4, 10  # of a path whose energy is minimised: free points, and pieces of the sum
STRAIGHT, SPHERICAL, SHORTEST, FADE = "straight", "spherical", "shortest found", "cross-fade"


@dataclass(frozen=True)
class Path:
    """The images of one way between two of them, and its lengths: in levels, and in features."""

    name: str
    images: np.ndarray
    pixels: float
    features: float


def find_geodesic(study: Study, number: int) -> Geodesic:
    """Return the shortest path between two images that the budget finds; kept, as it takes long."""
    start, end = study.latents[2 * number : 2 * number + 2]

    def find() -> np.ndarray:
        most = study.scaled(24, 5)
        path = geodesic(study.subject.codec.decode, start, end, knots=KNOTS, steps=PIECES, most=most)
        return np.concatenate([path.knots.reshape(-1), [path.converged, path.evaluations]])

    *knots, converged, evaluations = study.kept(f"geometry geodesic {number}", find)
    return Geodesic(np.array(knots).reshape(KNOTS + 2, *start.shape), bool(converged), int(evaluations))


def compare_paths(study: Study, number: int, shortest: Geodesic) -> list[Path]:
    start, end = study.latents[2 * number : 2 * number + 2]
    steps = study.scaled(24, 8)
    ways = (straight(start, end, steps), spherical(start, end, steps), shortest.points(steps))
    images = study.kept(f"geometry paths {number}", lambda: decoded(study, np.concatenate(ways)))
    parts = np.split(images, len(ways))
    parts.append(straight(parts[0][0], parts[0][-1], steps))
    features = np.split(study.features_of(f"geometry paths {number}", levels(np.concatenate(parts))), len(parts))
    return [
        Path(name, part, to_levels(study) * path_length(part), path_length(feature))
        for name, part, feature in zip((STRAIGHT, SPHERICAL, SHORTEST, FADE), parts, features, strict=True)
    ]


def to_levels(study: Study) -> float:
    """Return what turns the norm of an image's difference into a root mean square of 8-bit levels."""
    return 127.5 / float(np.sqrt(study.pixels[0].size))
