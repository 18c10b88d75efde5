"""Symbols as bytes, and back; the rate of a Gaussian source."""

import math
import sys

import numpy as np
import pytest

from ldm_export.analyze.entropy_coder import FactorisedModel, quantise
from ldm_runtime.errors import InputError


def gaussian(count: int = 100) -> np.ndarray:
    return np.random.default_rng(0).normal(0, (1, 5), (count, 8, 8, 2)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_bytes_are_within_a_hundredth_of_the_rate_and_are_read_again(step: float) -> None:
    symbols = quantise(gaussian(), step)
    model = FactorisedModel.learn(symbols[:50])
    held_out = model.clip(symbols[50:])
    written = model.encode(held_out)
    assert 8 * len(written) == pytest.approx(model.bits(held_out).sum(), rel=0.01)
    assert (model.decode(written, held_out.shape) == held_out).all()


def test_the_rate_of_a_gaussian_source() -> None:
    """Finely quantised, it takes h(z) - log2(step) bits a number: a quarter of a bit above its rate-distortion law."""
    step = 0.25
    symbols = quantise(gaussian(1000), step)
    rate = FactorisedModel.learn(symbols[:500]).bits(symbols[500:]).mean() / 128
    entropy = 0.5 * math.log2(2 * math.pi * math.e) + 0.5 * math.log2(5)  # mean of both channels
    assert rate == pytest.approx(entropy - math.log2(step), abs=0.02)
    law = 0.5 * math.log2(5 / (step**2 / 12))
    assert rate - law == pytest.approx(0.254, abs=0.02)


def test_a_model_of_other_images_takes_more() -> None:
    symbols = quantise(gaussian(), 0.5)
    own, other = (FactorisedModel.learn(each) for each in (symbols, symbols[:, ::-1]))
    assert other.bits(other.clip(symbols)).sum() > 1.1 * own.bits(symbols).sum()


def test_symbols_that_were_not_seen_are_coded_or_clipped() -> None:
    model = FactorisedModel.learn(np.zeros((4, 1, 2, 2), np.int64))
    symbols = np.array([1, -2, 7, 0]).reshape(1, 1, 2, 2)
    assert model.clip(symbols).ravel().tolist() == [1, -2, 2, 0]
    assert np.isfinite(model.bits(model.clip(symbols))).all()


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(InputError, match=r"constriction is not installed; install it with: pip install 'ldm-export"):
        FactorisedModel.learn(np.zeros((1, 1, 2, 2), np.int64)).encode(np.zeros((1, 1, 2, 2), np.int64))
