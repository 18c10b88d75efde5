"""scheduler_config.json: what is read from it is what diffusers does with it; the rest is refused by name."""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers.schedulers
import pytest

from ldm_export.checkpoint.scheduler import (
    _CLASSES,
    _HARMLESS,
    ignored_options,
    read_scheduler_config,
    write_scheduler_config,
)
from ldm_export.errors import ConfigError
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule
from ldm_runtime.sampling.solvers import SOLVERS, Sampler, read_sampler
from ldm_runtime.sampling.solvers.options import Choice, Float, Integer, kinds_of
from tests.runtime.sampling import diffusers_schedulers as oracle
from tests.runtime.sampling.compiled import compiled

# As published, older than the keys prediction_type and timestep_spacing.
SD15_FILE: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
SD21_FILE = {**SD15_FILE, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
TURBO_FILE = {
    **SD15_FILE,
    "_class_name": "EulerAncestralDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "trailing",
    "use_karras_sigmas": False,
}
SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),  # numpy 2, inside diffusers
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),
]

READABLE = sorted(name for solver, name in oracle.CLASSES.items() if solver != "flow_euler")
ALL_READ = [*READABLE, "FlowMatchEulerDiscreteScheduler"]
SOLVER_OF = {name: solver for solver, name in oracle.CLASSES.items()}


def saved_config(scheduler: Any, folder: Path) -> dict[str, Any]:
    """The file that diffusers writes, read as JSON."""
    scheduler.save_pretrained(folder)
    return json.loads((folder / "scheduler_config.json").read_text())


def file_error(file: dict[str, Any], steps: int) -> float:
    """How far the plan of a file is from diffusers' scheduler made from that file."""
    schedule, sampler = read_scheduler_config(file)

    def make() -> Any:
        cls = getattr(diffusers.schedulers, file["_class_name"])
        with oracle.few_steps_at_first(cls):
            scheduler = cls.from_config(file)
        scheduler.set_timesteps(steps)
        return scheduler

    return oracle.coefficient_error(compile_plan(schedule, sampler, steps), make, sampler.canonical)


# --- what files mean ---


def test_published_files_are_read() -> None:
    assert read_scheduler_config(SD15_FILE) == (SD15, read_sampler("plms"))
    v_prediction = dataclasses.replace(SD15, prediction_type="v_prediction")
    assert read_scheduler_config(SD21_FILE) == (v_prediction, read_sampler("ddim"))
    assert read_scheduler_config(TURBO_FILE) == (
        dataclasses.replace(SD15, timestep_spacing="trailing"),
        read_sampler("euler_ancestral"),
    )


@pytest.mark.parametrize("steps", (4, 7))
@pytest.mark.parametrize("file", (SD15_FILE, SD21_FILE, TURBO_FILE), ids=("sd15", "sd21", "turbo"))
def test_published_files_do_what_diffusers_does_with_them(file: dict[str, Any], steps: int) -> None:
    assert file_error(file, steps) < 1e-9


OFTEN = {
    "num_train_timesteps": 900,
    "beta_start": 0.001,
    "beta_end": 0.015,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 3,
}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "DDPMScheduler": [
        {"clip_sample": False},
        {"clip_sample": False, "variance_type": "fixed_large"},
        {"clip_sample": False, "variance_type": "fixed_small_log"},
        {"clip_sample": False, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    ],
    "DDIMScheduler": [{"clip_sample": False}, {"clip_sample": False, "set_alpha_to_one": False}],
    "PNDMScheduler": [{}, {"skip_prk_steps": True}, {"skip_prk_steps": True, "set_alpha_to_one": True}],
    "EulerDiscreteScheduler": [
        {},
        {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 9.0},
        {"final_sigmas_type": "sigma_min"},
        {"use_beta_sigmas": True},
        {"use_exponential_sigmas": True},
    ],
    "DPMSolverMultistepScheduler": [
        {},
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_type": "heun"},
        {"use_lu_lambdas": True, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min", "lambda_min_clipped": -3.0},
        {"algorithm_type": "deis", "solver_type": "logrho", "final_sigmas_type": "sigma_min"},
    ],
    "DPMSolverSinglestepScheduler": [{}, {"solver_order": 3, "lower_order_final": True}, {"use_karras_sigmas": True}],
    "DEISMultistepScheduler": [{}, {"solver_order": 3, "algorithm_type": "dpmsolver++", "solver_type": "midpoint"}],
    "UniPCMultistepScheduler": [
        {},
        {"solver_order": 3, "solver_type": "bh1", "disable_corrector": []},
        {"predict_x0": False, "final_sigmas_type": "sigma_min", "solver_type": "midpoint"},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    ],
    "SASolverScheduler": [{}, {"predictor_order": 3, "corrector_order": 4}, {"algorithm_type": "noise_prediction"}],
    "LCMScheduler": [{}, {"original_inference_steps": 90, "timestep_scaling": 4.0}],
    "TCDScheduler": [{}, {"original_inference_steps": 30}],
}


@pytest.mark.parametrize("spacing", (None, "leading", "trailing"))
@pytest.mark.parametrize("class_name", READABLE)
def test_a_file_does_what_diffusers_does_with_it(class_name: str, spacing: str | None, tmp_path: Path) -> None:
    """What diffusers itself writes, with every key of the class in it."""
    cls = getattr(diffusers.schedulers, class_name)
    known = inspect.signature(cls).parameters
    for number, settings in enumerate(SETTINGS.get(class_name, [{}])):
        wanted = {**OFTEN, **({} if spacing is None else {"timestep_spacing": spacing}), **settings}
        options = {key: value for key, value in wanted.items() if key in known}
        with oracle.few_steps_at_first(cls):
            written = saved_config(cls(**options), tmp_path / str(number))
        silent = {"_class_name": class_name, **options}
        for file in (written, silent):
            assert file_error(file, 6) < 1e-8, file


@pytest.mark.parametrize("class_name", ("DDIMScheduler", "DDPMScheduler"))
def test_clipping_by_default_is_clipping(class_name: str) -> None:
    file = {key: value for key, value in {**SD15_FILE, "_class_name": class_name}.items() if key != "clip_sample"}
    assert read_scheduler_config(file)[1].canonical == f"{SOLVER_OF[class_name]}:clip=1.0"
    assert read_scheduler_config({**file, "clip_sample_range": 2.5})[1].canonical.endswith("clip=2.5")
    assert read_scheduler_config({**file, "clip_sample": False})[1].canonical == SOLVER_OF[class_name]


def test_thresholding_is_read() -> None:
    file = {**SD21_FILE, "thresholding": True, "sample_max_value": 2.0, "clip_sample": True}
    assert read_scheduler_config(file)[1].canonical == "ddim:clip=1.0,threshold=0.995,threshold_max=2.0"


def test_a_flow_is_read() -> None:
    file = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    assert read_scheduler_config(file) == (FlowSchedule(1000, 3.0, None), read_sampler("flow_euler"))
    karras = read_scheduler_config({**file, "use_karras_sigmas": True, "stochastic_sampling": True})
    assert karras[1].canonical == "flow_euler:sigmas=karras,stochastic=true"
    for key, value in {"use_dynamic_shifting": True, "invert_sigmas": True, "shift": 0, "shifts": 3}.items():
        with pytest.raises(ConfigError, match=key):
            read_scheduler_config({**file, key: value})


# --- what is refused ---


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trained_betas", [0.1, 0.2]),
        ("set_alphas_to_one", True),
        ("beta_shedule", "linear"),
        ("predictiontype", "v_prediction"),
        ("Steps_Offset", 0),
        ("beta_schedule", "sigmoid"),
        ("beta_schedule", "laplace"),
        ("prediction_type", "flow_prediction"),
        ("timestep_spacing", "cosine"),
        ("set_alpha_to_one", "no"),
        ("num_train_timesteps", 1000.0),
        ("steps_offset", -1),
        ("steps_offset", True),
        ("beta_start", 0.0),
        ("beta_start", 1e-9),
        ("num_train_timesteps", 1),
        ("num_train_timesteps", 20_000),
        ("beta_end", 1.0),
        ("beta_end", "0.012"),
        ("beta_end", float("nan")),
        ("beta_start", 0.02),
        ("skip_prk_steps", 1),
    ],
)
def test_what_this_class_cannot_do_or_may_have_meant_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        read_scheduler_config({**SD15_FILE, key: value})


@pytest.mark.parametrize(
    ("class_name", "key", "value"),
    [
        ("DPMSolverMultistepScheduler", "solver_order", 4),
        ("DPMSolverMultistepScheduler", "solver_order", True),
        ("DPMSolverMultistepScheduler", "algorithm_type", "euler"),
        ("DPMSolverMultistepScheduler", "use_flow_sigmas", True),
        ("DPMSolverMultistepScheduler", "variance_type", "learned"),
        ("DPMSolverMultistepScheduler", "lower_order_final", "yes"),
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", float("nan")),
        ("DPMSolverMultistepScheduler", "final_sigmas_type", None),
        ("DDPMScheduler", "variance_type", "fixed_large_log"),
        ("UniPCMultistepScheduler", "solver_p", "DDIM"),
        ("UniPCMultistepScheduler", "predict_x0", "maybe"),
        ("UniPCMultistepScheduler", "predict_x0", ["x0"]),
        ("UniPCMultistepScheduler", "predict_x0", "x0"),
        ("UniPCMultistepScheduler", "predict_x0", 1),
        ("UniPCMultistepScheduler", "solver_order", "2"),
        ("UniPCMultistepScheduler", "solver_order", 2.0),
        ("UniPCMultistepScheduler", "lower_order_final", "true"),
        ("UniPCMultistepScheduler", "use_karras_sigmas", "yes"),
        ("UniPCMultistepScheduler", "thresholding", 1),
        ("UniPCMultistepScheduler", "disable_corrector", [0, 2]),
        ("UniPCMultistepScheduler", "disable_corrector", 5),
        ("UniPCMultistepScheduler", "disable_corrector", ["0"]),
        ("UniPCMultistepScheduler", "disable_corrector", [-1]),
        ("UniPCMultistepScheduler", "disable_corrector", "all of them"),
        ("SASolverScheduler", "algorithm_type", True),
        ("SASolverScheduler", "algorithm_type", "x0"),
        ("EulerDiscreteScheduler", "sigma_min", -1.0),
        ("EulerDiscreteScheduler", "interpolation_type", "log_linear"),
        ("DPMSolverSDEScheduler", "noise_sampler_seed", 3),
        ("LCMScheduler", "original_inference_steps", 0),
        ("DDIMScheduler", "clip_sample_range", "wide"),
    ],
)
def test_what_a_class_cannot_be_is_refused_by_name(class_name: str, key: str, value: object) -> None:
    base = {name: value for name, value in SD15_FILE.items() if name != "skip_prk_steps"}
    if key == "clip_sample_range":
        base["clip_sample"] = True
    expected = "clip_sample" if key == "clip_sample_range" else key
    with pytest.raises(ConfigError, match=expected):
        read_scheduler_config({**base, "_class_name": class_name, key: value})


def test_two_sigma_schedules_at_once_are_refused() -> None:
    file = {**SD15_FILE, "_class_name": "DPMSolverMultistepScheduler"}
    with pytest.raises(ConfigError, match="use_karras_sigmas and use_beta_sigmas"):
        read_scheduler_config({**file, "use_karras_sigmas": True, "use_beta_sigmas": True})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("thresholding", True),
        ("clip_sample", True),
        ("sample_max_value", 1.0),
        ("dynamic_thresholding_ratio", 0.9),
        ("solver_order", 3),
        ("algorithm_type", "sde-dpmsolver++"),
        ("lambda_min_clipped", -5.1),
        ("variance_type", "learned_range"),
        ("use_karras_sigmas", True),
        ("use_lu_lambdas", True),
        ("use_flow_sigmas", True),
        ("use_dynamic_shifting", True),
        ("interpolation_type", "log_linear"),
        ("final_sigmas_type", "sigma_min"),
        ("sigma_min", 0.03),
        ("shift_terminal", 0.1),
        ("rescale_betas_zero_snr", True),
        ("tensor_format", "pt"),  # of diffusers before 0.3
        ("timestep_values", None),
        ("a_switch_of_a_trainer", True),
        ("_use_default_values", ["prediction_type"]),
        ("timestep_spacing", None),
    ],
)
def test_what_this_class_does_not_take_has_no_effect_as_in_diffusers(key: str, value: object) -> None:
    file = {**SD15_FILE, key: value}
    assert read_scheduler_config(file) == read_scheduler_config(SD15_FILE)
    assert ignored_options(file) == (
        (key,) if key in ("tensor_format", "timestep_values", "a_switch_of_a_trainer") else ()
    )
    if key not in ("_use_default_values", "timestep_spacing"):
        assert file_error(file, 4) < 1e-9


@pytest.mark.parametrize("class_name", ALL_READ)
def test_every_key_that_diffusers_reads_is_a_row_or_must_be_off(class_name: str) -> None:
    """A class reads what its constructor takes, and what its config keeps of a file besides."""
    cls = getattr(diffusers.schedulers, class_name)
    read = set(re.findall(r'self\.config(?:, "|\.get\("|\.)(\w+)', inspect.getsource(cls)))
    unread = {"train_timesteps", "get"}  # in the text of an error; a method
    taken = set(inspect.signature(cls.__init__).parameters) - {"self"}
    assert (read - unread) | taken <= _CLASSES[class_name].keys | _HARMLESS
    assert _CLASSES[class_name].keys - taken - read <= {
        "set_alpha_to_one", "rescale_betas_zero_snr", "timestep_spacing", "steps_offset",
    }  # fmt: skip


@pytest.mark.parametrize("class_name", ["DPMSolverMultistepScheduler", "HeunDiscreteScheduler"])
def test_bounds_that_the_constructor_does_not_take_count_all_the_same(class_name: str) -> None:
    """diffusers keeps them in the config, where sigmas=karras finds them; so they are refused, not ignored."""
    file = {**SD15_FILE, "_class_name": class_name, "use_karras_sigmas": True}
    schedulers = [getattr(diffusers.schedulers, class_name).from_config({**file, **more})
                  for more in ({}, {"sigma_min": 0.3, "sigma_max": 9.0})]  # fmt: skip
    for scheduler in schedulers:
        scheduler.set_timesteps(4)
    assert float(schedulers[1].sigmas[0]) == pytest.approx(9.0) != float(schedulers[0].sigmas[0])
    with pytest.raises(ConfigError, match="sigma_min = 0.3, which is not supported"):
        read_scheduler_config({**file, "sigma_min": 0.3})


def test_a_key_of_a_newer_diffusers_is_refused() -> None:
    read_scheduler_config({**SD15_FILE, "_diffusers_version": "99.0.0"})
    with pytest.raises(ConfigError, match="flavour = 3, and was written by diffusers 99.0.0; known are"):
        read_scheduler_config({**SD15_FILE, "_diffusers_version": "99.0.0", "flavour": 3})


@pytest.mark.parametrize("class_name", ("IPNDMScheduler", "EDMEulerScheduler", None, ["x"]))
def test_another_family_of_schedulers_is_refused(class_name: object) -> None:
    with pytest.raises(ConfigError, match="_class_name .* is not supported; expected one of DDIMScheduler"):
        read_scheduler_config({**SD15_FILE, "_class_name": class_name})


def constructor(class_name: str) -> dict[str, Any]:
    """Every key of the class with its default."""
    parameters = inspect.signature(getattr(diffusers.schedulers, class_name).__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


@pytest.mark.parametrize("class_name", ALL_READ)
def test_a_key_that_the_file_lacks_has_the_default_of_the_constructor(class_name: str) -> None:
    defaults = constructor(class_name)
    whole = {"_class_name": class_name, **defaults}
    # None stands for the class's own spacing, here and in our samplers.
    spacing = {"timestep_spacing": None} if "timestep_spacing" in defaults else {}
    for key in defaults:
        lacking = {name: value for name, value in whole.items() if name != key}
        silent = spacing if key == "timestep_spacing" else {}
        assert read_scheduler_config(lacking) == read_scheduler_config({**whole, **silent}), key
    assert read_scheduler_config({"_class_name": class_name}) == read_scheduler_config({**whole, **spacing})


@pytest.mark.parametrize("class_name", READABLE)
def test_a_file_that_says_nothing_does_what_diffusers_does_with_it(class_name: str) -> None:
    clips = {"clip_sample": False} if class_name in ("DDIMScheduler", "DDPMScheduler") else {}
    assert file_error({"_class_name": class_name, **clips}, 5) < 1e-8


@pytest.mark.parametrize("key", ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule"))
@pytest.mark.parametrize("value", (None, [], {}, "much", True, -1, 0, 1e300, 10**5000, -float("inf")), ids=range(10))
def test_a_schedule_of_absurd_values_is_refused_in_a_short_sentence(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        read_scheduler_config({**SD15_FILE, key: value})
    assert len(str(caught.value)) < 200


def test_a_fault_of_the_schedule_is_said_once_and_has_a_code_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"^scheduler: PNDMScheduler: beta_start is -1; expected") as caught:
        read_scheduler_config({**SD15_FILE, "beta_start": -1})
    assert caught.value.code == "schedule.invalid"


# --- writing ---

WRITTEN = [
    *(name for name in SOLVERS if name != "flow_euler"),
    "plms",
    "euler:sigmas=karras,sigma_min=0.1,sigma_max=12",
    "heun:sigmas=exponential",
    "dpmsolver:algorithm=sde-dpmsolver,final=sigma_min,order=1,lambda_min=-4.5",
    "dpmsolver:order=3,sigmas=beta",
    "dpmsolver_singlestep:sigmas=karras,order=3,solver_type=heun",
    "unipc:order=3,solver_type=bh1",
    "unipc:predict=eps,final=sigma_min",
    "sa_solver:predict=eps,order=3,corrector_order=1",
]


def told_in_files() -> Iterator[Sampler]:
    """Every solver, and each of its options at every name or at both ends, as far as a file can say it."""
    for name, solver in SOLVERS.items():
        yield Sampler(name, solver.options())
        for option, kind in kinds_of(solver.options).items():
            if option in ("eta", "tau", "reach"):
                continue  # arguments of diffusers' calls
            values: Any = (False, True)
            if isinstance(kind, Choice):
                values = [choice for choice in kind.names if choice != "ays"]
            elif isinstance(kind, Integer | Float):
                values = (max(kind.limits.low, -1e6), kind.limits.high)
            on = {"threshold": 0.9} if option == "threshold_max" else {}
            for value in values:
                yield Sampler(name, solver.options(**on, **{option: value}))


def test_a_written_file_is_read_back() -> None:
    count = 0
    for sampler in told_in_files():
        for spacing in (None, "trailing"):
            diffusion = dataclasses.replace(SD15, timestep_spacing=spacing)
            schedule = FlowSchedule(1000, 3.0, 0.1) if sampler.name == "flow_euler" else diffusion
            written = write_scheduler_config(schedule, sampler)
            assert getattr(diffusers.schedulers, written["_class_name"])
            read = json.loads(json.dumps(written, allow_nan=False))
            assert read_scheduler_config(read) == (schedule, sampler), sampler
            count += 1
    assert count > 250


def test_what_no_file_says_is_left_out() -> None:
    for text, without in (("ddim:eta=0.5", "ddim"), ("tcd:eta=0.3", "tcd"), ("dpmsolver:sigmas=ays", "dpmsolver")):
        written = write_scheduler_config(SD15, read_sampler(text))
        assert written == write_scheduler_config(SD15, read_sampler(without))
    assert "timestep_spacing" not in write_scheduler_config(SD15, read_sampler("ddim"))


@pytest.mark.parametrize("sampler", WRITTEN)
def test_diffusers_does_with_a_written_file_what_the_sampler_does(sampler: str, tmp_path: Path) -> None:
    written = write_scheduler_config(SD15, read_sampler(sampler))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(written))

    def make() -> Any:
        scheduler = getattr(diffusers.schedulers, written["_class_name"]).from_pretrained(tmp_path)
        scheduler.set_timesteps(7)
        return scheduler

    assert oracle.coefficient_error(compiled(SD15, sampler, 7), make, sampler) < 1e-8


def test_every_class_of_diffusers_that_has_a_solver_is_read() -> None:
    assert {*READABLE, "FlowMatchEulerDiscreteScheduler"} == set(oracle.CLASSES.values())
    assert set(oracle.CLASSES) == set(SOLVERS)
