"""The measures against closed forms, oracles and images whose answer is known."""

import numpy as np
import pytest

from benchmarks.quality.measures import (
    border_colours,
    close_pairs,
    colour_differences,
    concept_ranks,
    distance_between,
    distances_within,
    lab_of_rgb,
    unit,
    wilson_interval,
)


def test_the_rank_counts_what_is_nearer_than_the_right_concept():
    gallery = unit(np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]))
    queries = unit(np.array([[1.0, 0.0], [1.0, 0.0], [0.1, 1.0], [1.0, 0.3]]))
    right = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]], dtype=bool)
    assert concept_ranks(queries, gallery, right).tolist() == [0, 2, 0, 1]


def test_any_of_several_right_images_counts():
    gallery = unit(np.array([[1.0, 0.0], [0.0, 1.0]]))
    query = unit(np.array([[0.1, 1.0]]))
    assert concept_ranks(query, gallery, np.array([[True, True]])).tolist() == [0]
    with pytest.raises(ValueError, match="no right row"):
        concept_ranks(query, gallery, np.array([[False, False]]))


def test_close_pairs_are_counted_once_and_nothing_pairs_with_itself():
    rows = unit(np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]))
    assert close_pairs(rows, 0.01) == 1 and close_pairs(rows[1:], 0.01) == 0


def test_the_binomial_interval_is_wilsons():
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_distances_within_a_prompt_and_between_prompts_of_a_kind():
    x, y = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    groups = np.array([[x, x], [x, y], [y, y]])
    assert distances_within(groups).tolist() == [0, 1, 0]
    assert distance_between(groups, np.array(["a", "b", "a"])) == 1
    assert distance_between(groups[:2], np.array(["a", "a"])) == 0.5
    assert distance_between(groups[:2], np.array(["a", "b"])) is None


def test_the_border_is_told_from_what_stands_on_it():
    images = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    images[0], images[1] = (250, 0, 0), (0, 0, 250)
    images[:, 4:-4, 4:-4] = (0, 255, 0)
    images[:, :, 10:14] = (0, 255, 0)  # a part that sticks out
    palette = np.array([(255, 255, 255), (0, 0, 255), (255, 0, 0)])
    assert colour_differences(border_colours(images, 4), palette).argmin(axis=1).tolist() == [2, 1]


def test_lab_has_its_published_values():
    colours = np.array([(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)])
    expected = [(100, 0, 0), (0, 0, 0), (53.24, 80.09, 67.20), (32.30, 79.19, -107.86)]
    np.testing.assert_allclose(lab_of_rgb(colours), expected, atol=0.02)
