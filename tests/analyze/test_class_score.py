"""The score of classes that are known, its interval, and torchmetrics' inception score."""

import numpy as np
import pytest
import torch
from torchmetrics.image.inception import InceptionScore

from ldm_export.analyze.class_score import class_score, class_score_interval, is_at_ceiling


def sure(classes: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count)[classes]


def random_probabilities(count: int, seed: int) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).normal(size=(count, 10))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_score_counts_classes() -> None:
    classes = np.arange(60) % 6
    assert class_score(sure(classes, 10)) == pytest.approx(6)
    assert class_score(np.full((60, 10), 0.1)) == pytest.approx(1), "it is sure of none"
    assert class_score(sure(np.zeros(60, int), 10)) == pytest.approx(1), "all are of one class"


class Logits(torch.nn.Module):
    """Images are logits."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def test_the_score_is_torchmetrics() -> None:
    probabilities = random_probabilities(50, 0)
    oracle = InceptionScore(feature=Logits(), splits=1)
    oracle.update(torch.from_numpy(np.log(probabilities)))
    assert class_score(probabilities) == pytest.approx(float(oracle.compute()[0]), rel=1e-5)


def test_the_interval_holds_what_other_images_give() -> None:
    found = [class_score_interval(random_probabilities(60, seed)) for seed in range(40)]
    values = [each.value for each in found]
    middle = np.median(values)
    assert np.mean([each.low <= middle <= each.high for each in found]) > 0.85
    assert 0.5 < np.std(np.log(values)) / np.median([np.log(each.high / each.value) / 1.96 for each in found]) < 2


def test_the_ceiling_is_the_number_of_images() -> None:
    alone = class_score(sure(np.arange(40), 100))
    assert alone == pytest.approx(40) and is_at_ceiling(alone, 40)
    assert not is_at_ceiling(class_score(sure(np.arange(40) % 20, 100)), 40)
