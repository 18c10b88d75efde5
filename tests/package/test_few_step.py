"""Kinds of distilled models are drawn with as their authors do it."""

from pathlib import Path

import diffusers
import pytest

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.scheduler import read_scheduler_config
from ldm_export.package.choices import FEW_STEP, PackageChoices
from ldm_export.package.few_step import as_few_step
from ldm_export.package.write import contract_of
from ldm_runtime.sampling.plan import compile_plan
from tests.oracles import build_tiny_sd


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("few") / "sd15")


@pytest.mark.parametrize("kind", FEW_STEP)
def test_a_kind_gives_the_defaults_and_the_scheduler(tiny: Path, kind: str) -> None:
    checkpoint = as_few_step(open_checkpoint(tiny), kind)
    defaults = contract_of(checkpoint, PackageChoices()).defaults
    assert (defaults.steps, defaults.guidance) == (FEW_STEP[kind].steps, 1.0)
    schedule, sampler = read_scheduler_config(checkpoint.scheduler_config)
    assert (schedule, sampler) == (checkpoint.schedule, defaults.parsed_sampler)
    theirs = getattr(diffusers, checkpoint.scheduler_config["_class_name"]).from_config(checkpoint.scheduler_config)
    theirs.set_timesteps(defaults.steps)
    plan = compile_plan(schedule, sampler, defaults.steps)
    assert [row.timestep for row in plan.rows] == [float(timestep) for timestep in theirs.timesteps]
    if kind == "dmd2":
        assert [row.timestep for row in plan.rows] == [999.0, 749.0, 499.0, 249.0]


def test_the_choices_of_a_recipe_replace_those_of_the_kind(tiny: Path) -> None:
    checkpoint = as_few_step(open_checkpoint(tiny), "turbo")
    defaults = contract_of(checkpoint, PackageChoices(steps=2, guidance=1.5)).defaults
    assert (defaults.steps, defaults.guidance) == (2, 1.5)


@pytest.mark.parametrize("kind", FEW_STEP)
def test_a_unet_that_reads_the_guidance_scale_keeps_it(tmp_path: Path, kind: str) -> None:
    reading = open_checkpoint(build_tiny_sd(tmp_path / "lcm", unet={"time_cond_proj_dim": 8}))
    assert contract_of(as_few_step(reading, kind), PackageChoices()).defaults.guidance == 8.5
