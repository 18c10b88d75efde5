"""Guidance ends as early, and steps are as few, as the budget of whole runs allows."""

import dataclasses
from pathlib import Path

import pytest

from ldm_export.errors import ExportError
from ldm_export.lossy import caching
from ldm_export.lossy.caching import cached, write_cut
from ldm_export.lossy.shorter import make_guidance, make_steps
from ldm_runtime.package.open import read_manifest
from ldm_runtime.package.variants import VariantRun
from tests.lossy.trial_runs import exact_draft, order, say


def test_guidance_ends_as_early_as_it_may(builtin: Path, made_up: list[VariantRun]) -> None:
    cut = write_cut(builtin, read_manifest(builtin), read_manifest(builtin).components["unet"].artefacts[1], 1)
    cache = cached(exact_draft(), cut, 2, 1, "unet")
    made = make_guidance(order(builtin, "psnr=30", cache), progress=say)
    assert [(each.name, each.methods, each.run.guidance_until) for each in made.drafts] == [
        ("guidance", ("guidance",), 0.7),
        ("cached-guidance", ("caching", "guidance"), 0.8),
    ]
    assert made.drafts[1].run.caching == cut.caching(2) and not made.artefacts
    caching.remove_cut(builtin, cut)


def test_steps_are_as_few_as_may_be(builtin: Path, made_up: list[VariantRun]) -> None:
    made = make_steps(order(builtin, "psnr=30"), progress=say)
    assert [(each.name, each.methods, each.run.steps) for each in made.drafts] == [("steps", ("steps",), 14)]


def test_steps_are_not_left_out_where_the_runs_that_are_compared_have_fewer(
    builtin: Path, made_up: list[VariantRun]
) -> None:
    """8 of 10 steps say nothing of a model that draws in 20: the exact image would be that of 10."""
    given = order(builtin)
    shorter = dataclasses.replace(given, setting=dataclasses.replace(given.setting, steps=10))
    with pytest.raises(ExportError, match="draws in 20 steps, .* its runs are compared in 10"):
        make_steps(shorter, progress=say)
    assert made_up == []


def test_a_model_without_guidance_has_none_to_end(builtin: Path) -> None:
    known = read_manifest(builtin)
    defaults = dataclasses.replace(known.contract.defaults, guidance=1.0)
    without = dataclasses.replace(known, contract=dataclasses.replace(known.contract, defaults=defaults))
    with pytest.raises(ExportError, match="with guidance 1 this model evaluates no negative prompt"):
        make_guidance(dataclasses.replace(order(builtin), manifest=without), progress=say)
