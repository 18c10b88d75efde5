"""Kinds of distilled models are drawn with as their authors do it."""

from dataclasses import replace
from pathlib import Path

import diffusers
import pytest

from ldm_export.build import require_sampling
from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.scheduler import read_scheduler_config, write_scheduler_config
from ldm_export.package.choices import FEW_STEP, PackageChoices
from ldm_export.package.few_step import as_few_step
from ldm_export.package.write import contract_of
from ldm_runtime.package.manifest import Defaults
from ldm_runtime.sampling.plan import compile_plan
from tests.oracles import build_tiny_sd

# The timesteps that the authors pass to diffusers' pipeline; it spaces those of the other kinds.
TIMESTEPS = {"hyper-1step": [800], "dmd2": [999, 749, 499, 249], "dmd2-1step": [399]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("few") / "sd15")


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("few") / "lcm", unet={"time_cond_proj_dim": 8})


def _defaults(checkpoint: Checkpoint, choices: PackageChoices | None = None) -> Defaults:
    return contract_of(checkpoint, choices or PackageChoices()).defaults


@pytest.mark.parametrize("kind", FEW_STEP)
def test_a_kind_gives_the_defaults_and_the_scheduler(tiny: Path, kind: str) -> None:
    checkpoint = as_few_step(open_checkpoint(tiny), kind)
    defaults = _defaults(checkpoint)
    assert (defaults.steps, defaults.guidance) == (FEW_STEP[kind].steps, 1.0)
    schedule, sampler = checkpoint.schedule, defaults.parsed_sampler
    assert checkpoint.scheduler_config == write_scheduler_config(schedule, sampler)
    assert read_scheduler_config(checkpoint.scheduler_config)[0] == schedule
    theirs = getattr(diffusers, checkpoint.scheduler_config["_class_name"]).from_config(checkpoint.scheduler_config)
    if kind in TIMESTEPS:
        theirs.set_timesteps(timesteps=TIMESTEPS[kind])
    else:
        theirs.set_timesteps(defaults.steps)
    plan = compile_plan(schedule, sampler, defaults.steps)
    assert [row.timestep for row in plan.rows] == [float(timestep) for timestep in theirs.timesteps]


@pytest.mark.parametrize("kind", FEW_STEP)
def test_a_build_can_prove_a_kind(tiny: Path, kind: str) -> None:
    require_sampling(contract_of(as_few_step(open_checkpoint(tiny), kind), PackageChoices()), "tiny")


def test_a_kind_keeps_the_checkpoints_own_solver_if_it_is_one_of_its_own(tiny: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    run = replace(checkpoint.defaults.run, sampler="euler_ancestral")
    ancestral = replace(checkpoint, defaults=replace(checkpoint.defaults, run=run))
    assert _defaults(as_few_step(ancestral, "turbo")).sampler == "euler_ancestral"
    assert _defaults(as_few_step(checkpoint, "turbo")).sampler == "euler"


def test_the_model_of_one_step_of_lightning_predicts_the_image(tiny: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    assert as_few_step(checkpoint, "lightning-1step").schedule.prediction_type == "sample"
    assert as_few_step(checkpoint, "lightning").schedule.prediction_type == "epsilon"


def test_the_choices_of_a_recipe_replace_those_of_the_kind(tiny: Path) -> None:
    defaults = _defaults(as_few_step(open_checkpoint(tiny), "turbo"), PackageChoices(steps=2, guidance=1.5))
    assert (defaults.steps, defaults.guidance) == (2, 1.5)


@pytest.mark.parametrize("kind", FEW_STEP)
def test_a_unet_that_reads_the_guidance_scale_keeps_it(reading: Path, kind: str) -> None:
    assert _defaults(as_few_step(open_checkpoint(reading), kind)).guidance == 8.5
