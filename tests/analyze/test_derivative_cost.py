"""Work and memory of derivatives that are known from shapes, and what is said where they do not fit."""

import pytest
import torch

from ldm_export.analyze import derivative_cost
from ldm_export.analyze.derivative_cost import Work, count_work, lacking_memory


def test_the_work_of_a_product_is_its_multiply_accumulates_and_what_is_kept_its_numbers():
    weights = torch.randn(30, 50)
    found = count_work(lambda x: (x @ weights).sin().sin(), (20, 30))
    assert found.macs == 20 * 30 * 50
    assert found.kept == 4 * (30 * 50 + 2 * 20 * 50)  # weights, for the way back, and what each sine is of


def test_counting_takes_no_memory_of_its_own():
    found = count_work(lambda x: (x.repeat(1000, 1) ** 3) ** 3, (10**4, 10**4))  # two times 400 GB
    assert found.kept == 2 * 4 * 10**11 and found.macs == 0


@pytest.mark.parametrize(("left", "fits"), [(None, True), (130, True), (124, False)])
def test_what_does_not_fit_says_what_it_needs(monkeypatch, left, fits):
    monkeypatch.setattr(derivative_cost, "available_memory", lambda: left and left * 10**8)
    assert lacking_memory(Work(0, 10**10)) == (
        "" if fits else "It needs about 12.5 GB of memory, and 12.4 GB are left: free some, or use a larger machine."
    )
