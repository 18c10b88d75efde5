"""A checkpoint with the defaults of a kind of model that was distilled to draw in a few steps."""

import dataclasses

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.defaults import default_steps
from ldm_export.checkpoint.scheduler import write_scheduler_config
from ldm_export.errors import ConfigError
from ldm_export.package.choices import FEW_STEP
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import read_sampler


def as_few_step(checkpoint: Checkpoint, kind: str) -> Checkpoint:
    """Return a checkpoint with the defaults of that kind of model. Raises ConfigError for a flow model."""
    if not isinstance(checkpoint.schedule, NoiseSchedule):
        raise ConfigError(
            f"{checkpoint.path} is a flow model, which is not of the few-step kind {kind!r}; leave it out"
        )
    few = FEW_STEP[kind]
    own = checkpoint.defaults.run.parsed_sampler
    sampler = own if own.name in few.samplers else read_sampler(few.samplers[0])
    predicts = few.predicts if few.predicts is not None else checkpoint.schedule.prediction_type
    schedule = dataclasses.replace(checkpoint.schedule, timestep_spacing="trailing", prediction_type=predicts)
    family = checkpoint.family
    reads_guidance = family.reads_guidance(checkpoint.configs)
    guidance = (
        default_steps(sampler, reads_guidance, family.guidance_of(checkpoint.configs))[1] if reads_guidance else 1.0
    )  # off
    run = dataclasses.replace(checkpoint.defaults.run, sampler=sampler.canonical, steps=few.steps, guidance=guidance)
    return dataclasses.replace(
        checkpoint,
        schedule=schedule,
        sampler=sampler,
        scheduler_config=write_scheduler_config(schedule, sampler),
        defaults=dataclasses.replace(checkpoint.defaults, run=run),
    )
