"""scheduler_config.json: read as a schedule and a sampler, of which a plan is made."""

from pathlib import Path
from random import Random
from typing import Any

from ldm_export.checkpoint.json_files import refused
from ldm_export.checkpoint.scheduler import read_scheduler_config, write_scheduler_config
from ldm_runtime.files import strict_json
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.solvers import SOLVERS, read_sampler
from tests.fuzz.kind import SCHEDULE, Kind
from tests.fuzz.mutate import json_input


def _prepare(folder: Path) -> list[dict[str, Any]]:
    """What we write for every solver with its defaults, a published file, and one of a flow model."""
    seeds = []
    for name, solver in SOLVERS.items():
        if not getattr(solver, "flow_only", False):
            seeds.append(write_scheduler_config(SCHEDULE, read_sampler(name)))
    seeds.append(
        {
            "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_start": 0.00085,
            "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "set_alpha_to_one": False,
            "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False,
        }
    )  # fmt: skip
    seeds.append({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0})
    return seeds


def _make(random: Random, seeds: list[dict[str, Any]]) -> bytes:
    seed = random.choice(seeds)
    if random.random() < 0.3:
        seed = {**seed, **random.choice(seeds), "_class_name": seed["_class_name"]}
    return json_input(random, seed)


def _read(content: bytes, seeds: list[dict[str, Any]]) -> None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return  # the checkpoint's reader refuses it: see the kind `checkpoint`
    with refused():
        config = strict_json.parse(text, "scheduler_config.json", infinity=True)
    if isinstance(config, dict):
        schedule, sampler = read_scheduler_config(config)
        compile_plan(schedule, sampler, 4)


KINDS = [Kind("scheduler_config", _prepare, _make, _read)]
