"""What words change in pixels: of a denoiser that paints an object, and of ones that are broken."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ldm_export.analyze.denoiser import Condition
from ldm_export.analyze.overlap import by_chance, intersection_over_union
from ldm_export.analyze.sections.attention_pixels import control_overlaps
from ldm_export.analyze.word_effect import effect_maps
from ldm_runtime.sampling.solvers.rows import Level
from tests.analyze.codec_study import CELL, spread_cell

SIDE = 48
LEVELS = [Level(900.0, 0.2, 0.96**0.5), Level(100.0, 0.8, 0.6)]
WITH, WITHOUT = (Condition(np.full((1, 1, 1), each, np.float32), np.zeros((1, 0), np.float32)) for each in (1, 0))
SIZES = [(SIDE // CELL, SIDE // CELL), (3, 3)]


def ring() -> np.ndarray:
    """An object with a hole, (H, W), which coarse cells do not see."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x - 21, y - 25)
    return (distance > 8) & (distance < 15)


def decode(latents: np.ndarray) -> np.ndarray:
    """Latents are the pixels themselves, those of a cell as its channels."""
    return spread_cell(torch.from_numpy(latents)).numpy()


class Painter:
    """A denoiser that knows the noise, and in clean latents paints a mask where it is told the words."""

    def __init__(self, clean: np.ndarray, noise: np.ndarray, mask: np.ndarray) -> None:
        self.clean, self.noise = clean, noise
        painted = torch.from_numpy(np.repeat(mask[None, None].astype(np.float32), 3, axis=1))
        self.paint = torch.nn.functional.pixel_unshuffle(painted, CELL).numpy() * 0.5
        self.prediction_type = "epsilon"

    def output(self, x: np.ndarray, timestep: float, condition: Condition) -> np.ndarray:
        (level,) = [each for each in LEVELS if each.timestep == timestep]
        wanted = self.clean + condition.context[0, 0, 0] * self.paint
        eps = (x - np.float32(level.alpha) * wanted) / np.float32(level.sigma)
        if self.prediction_type == "v_prediction":
            return np.asarray(level.alpha * eps - level.sigma * wanted, np.float32)
        return np.asarray(wanted if self.prediction_type == "sample" else eps, np.float32)


def maps_of(make: Callable[[np.ndarray], np.ndarray], kind: str = "epsilon") -> np.ndarray:
    """Maps (L, H, W) of a denoiser that paints `make(mask)` of a ring."""
    random = np.random.default_rng(0)
    shape = (3 * CELL**2, SIDE // CELL, SIDE // CELL)
    clean, noise = (random.uniform(-0.4, 0.4, shape).astype(np.float32) for _ in range(2))
    painter = Painter(clean, noise, make(ring()))
    painter.prediction_type = kind
    return effect_maps(painter, decode, kind, clean, noise, LEVELS, (WITH, WITHOUT))


@pytest.mark.parametrize("kind", ("epsilon", "v_prediction", "sample"))
def test_a_denoiser_that_paints_the_object_is_exact_at_every_pixel(kind: str) -> None:
    maps = maps_of(lambda mask: mask, kind)
    assert maps.shape == (2, SIDE, SIDE)
    for each in maps:
        np.testing.assert_allclose(each, 0.5 * ring(), atol=1e-5)
        assert intersection_over_union(each, ring()) == 1


def test_one_that_paints_the_ground_misses_it() -> None:
    for each in maps_of(lambda mask: ~mask):
        assert intersection_over_union(each, ring()) == 0


def test_one_that_does_not_read_the_words_changes_nothing() -> None:
    for each in maps_of(np.zeros_like):
        assert each.max() < 1e-5
        assert intersection_over_union(each > 1e-5, ring()) == pytest.approx(by_chance(ring()))


def test_the_grid_costs_what_the_pixels_have() -> None:
    moved = np.roll(ring(), 9, axis=1)
    found = control_overlaps(np.stack([maps_of(lambda mask: mask)] * 2), [ring(), moved], SIZES)
    assert list(found) == ["pixels", "12x12", "3x3", "another", "ranking"]
    own = {name: values[0] for name, values in found.items()}
    assert (own["pixels"] == 1).all() and (own["ranking"] == 1).all()
    assert (own["12x12"] < 0.95).all() and (own["3x3"] < own["12x12"] - 0.2).all()
    assert found["pixels"][1].max() < 0.6 and found["another"][1] == pytest.approx([1, 1])
