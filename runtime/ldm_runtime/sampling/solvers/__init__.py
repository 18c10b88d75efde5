"""Every sampler: which function makes its rows, which options it has, what it cannot do.

A sampler is named by a text, `solver` or `solver:option=value,option=value`. `SOLVERS` has the solvers, `PRESETS` the
names that people use for some of them with options. Adding a solver is one function and one line in `SOLVERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.diffusion import solve_ddim, solve_ddpm, solve_lcm, solve_tcd
from ldm_runtime.sampling.solvers.dpmsolver import solve_multistep, solve_singlestep
from ldm_runtime.sampling.solvers.flow import solve_flow_euler
from ldm_runtime.sampling.solvers.kdiffusion import (
    solve_dpm2,
    solve_dpm2_ancestral,
    solve_dpmpp_sde,
    solve_euler,
    solve_euler_ancestral,
    solve_heun,
    solve_lms,
)
from ldm_runtime.sampling.solvers.multistep import solve_deis, solve_ipndm, solve_pndm, solve_sa, solve_unipc
from ldm_runtime.sampling.solvers.options import (
    Choice,
    Flag,
    Number,
    Option,
    Steps,
    Value,
    Whole,
    read_options,
    shortest,
)
from ldm_runtime.sampling.solvers.problem import CLIP, DPM_SIGMAS, FINAL, K_SIGMAS, THRESHOLD, Problem
from ldm_runtime.sampling.solvers.rows import Rows

SIGMAS: dict[str, Option] = {"sigmas": K_SIGMAS}
LAMBDA_MIN: dict[str, Option] = {"lambda_min": Number(float("-inf"), float("-inf"), 100.0)}
DISTILLED: dict[str, Option] = {"original_steps": Whole(50, 1, 100_000), "timestep_scaling": Number(10.0, 0.0, 1e6)}


@dataclass(frozen=True)
class Solver:
    """One line of the table `SOLVERS`.

    solve: Problem -> (initial_scale, rows). spacing: used when the schedule names none; None: the solver has its own.
    predictions: the prediction types that it takes. zero_snr: whether it takes zero terminal SNR.
    """

    solve: Callable[[Problem], tuple[float, Rows]]
    summary: str
    spacing: str | None = "linspace"
    options: Mapping[str, Option] = field(default_factory=dict)
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    zero_snr: bool = False
    correlated_noise: bool = False  # rows that share a stream of noise, which only `philox` can give


_NO_SAMPLE = ("epsilon", "v_prediction")

SOLVERS: dict[str, Solver] = {
    "ddpm": Solver(
        solve_ddpm, "DDPM, ancestral sampling of the trained process", "leading",
        {"variance": Choice(("fixed_small", "fixed_large")), **CLIP, **THRESHOLD}, zero_snr=True,
    ),
    "ddim": Solver(
        solve_ddim, "DDIM, deterministic at eta 0", "leading",
        {"eta": Number(0.0, 0.0, 1.0), **CLIP, **THRESHOLD}, zero_snr=True,
    ),
    "pndm": Solver(
        solve_pndm, "PNDM: linear multistep, with skip_prk_steps PLMS", "leading",
        {"skip_prk_steps": Flag(False)}, _NO_SAMPLE,
    ),
    "lms": Solver(solve_lms, "linear multistep, order 4", options=SIGMAS),
    "euler": Solver(
        solve_euler, "Euler, deterministic",
        options={**SIGMAS, "final": FINAL, "sigma_min": Number(0.0, 0.0, 1e6), "sigma_max": Number(0.0, 0.0, 1e6)},
        zero_snr=True,
    ),
    "euler_ancestral": Solver(
        solve_euler_ancestral, "Euler with fresh noise at every step", predictions=_NO_SAMPLE, zero_snr=True
    ),
    "heun": Solver(solve_heun, "Heun, second order, two evaluations for each step", options={**SIGMAS, **CLIP}),
    "dpm2": Solver(
        solve_dpm2, "DPM2, second order, two evaluations for each step", options=SIGMAS, predictions=_NO_SAMPLE
    ),
    "dpm2_ancestral": Solver(
        solve_dpm2_ancestral, "DPM2 with fresh noise at every step", options=SIGMAS, predictions=_NO_SAMPLE
    ),
    "dpmpp_sde": Solver(
        solve_dpmpp_sde, "DPM-Solver++ SDE, two evaluations for each step on one Brownian path", options=SIGMAS,
        predictions=_NO_SAMPLE, correlated_noise=True,
    ),
    "dpmsolver": Solver(
        solve_multistep, "DPM-Solver and DPM-Solver++, multistep",
        options={
            "order": Whole(2, 1, 3),
            "algorithm": Choice(("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver")),
            "solver_type": Choice(("midpoint", "heun")),
            "sigmas": DPM_SIGMAS, "final": FINAL, "lower_order_final": Flag(True), "euler_at_final": Flag(False),
            **LAMBDA_MIN, **THRESHOLD,
        },
        zero_snr=True,
    ),
    "dpmsolver_singlestep": Solver(
        solve_singlestep, "DPM-Solver and DPM-Solver++, steps of up to three evaluations", None,
        {
            "order": Whole(2, 1, 3),
            "algorithm": Choice(("dpmsolver++", "dpmsolver", "sde-dpmsolver++")),
            "solver_type": Choice(("midpoint", "heun")),
            "sigmas": K_SIGMAS, "final": FINAL, "lower_order_final": Flag(False), **LAMBDA_MIN, **THRESHOLD,
        },
    ),
    "deis": Solver(
        solve_deis, "DEIS, multistep",
        options={"order": Whole(2, 1, 3), "sigmas": K_SIGMAS, "lower_order_final": Flag(True), **THRESHOLD},
    ),
    "unipc": Solver(
        solve_unipc, "UniPC, multistep predictor and corrector",
        options={
            "order": Whole(2, 1, 4), "solver_type": Choice(("bh2", "bh1")), "predict": Choice(("x0", "eps")),
            "sigmas": K_SIGMAS, "final": FINAL, "lower_order_final": Flag(True), "corrector_off": Steps(),
            **THRESHOLD,
        },
        zero_snr=True,
    ),
    "sa_solver": Solver(
        solve_sa, "SA-Solver, stochastic multistep predictor and corrector",
        options={
            "order": Whole(2, 1, 4), "corrector_order": Whole(2, 1, 4), "predict": Choice(("x0", "eps")),
            "tau": Number(1.0, 0.0, 10.0), "sigmas": K_SIGMAS, "lower_order_final": Flag(True),
            **LAMBDA_MIN, **THRESHOLD,
        },
    ),
    "ipndm": Solver(solve_ipndm, "improved PNDM, continuous time", None, predictions=("v_prediction",)),
    "lcm": Solver(
        solve_lcm, "latent consistency models", None, {**DISTILLED, **CLIP, **THRESHOLD}, zero_snr=True
    ),
    "tcd": Solver(
        solve_tcd, "trajectory consistency distillation", None,
        {"eta": Number(0.3, 0.0, 1.0), "original_steps": DISTILLED["original_steps"]}, zero_snr=True,
    ),
    "flow_euler": Solver(
        solve_flow_euler, "Euler for flow models", None, {**SIGMAS, "stochastic": Flag(False)}, ("flow_prediction",)
    ),
}  # fmt: skip

PRESETS = {
    "dpmpp_2m": "dpmsolver",
    "dpmpp_2m_karras": "dpmsolver:sigmas=karras",
    "dpmpp_2m_sde": "dpmsolver:algorithm=sde-dpmsolver++",
    "dpmpp_2m_sde_karras": "dpmsolver:algorithm=sde-dpmsolver++,sigmas=karras",
    "dpmpp_3m": "dpmsolver:order=3",
    "dpmpp_2s": "dpmsolver_singlestep",
    "dpmpp_2s_karras": "dpmsolver_singlestep:sigmas=karras",
    "dpmpp_sde_karras": "dpmpp_sde:sigmas=karras",
    "dpm2_karras": "dpm2:sigmas=karras",
    "dpm2_ancestral_karras": "dpm2_ancestral:sigmas=karras",
    "euler_karras": "euler:sigmas=karras",
    "heun_karras": "heun:sigmas=karras",
    "lms_karras": "lms:sigmas=karras",
    "plms": "pndm:skip_prk_steps=true",
}

SAMPLERS = {**{name: solver.summary for name, solver in SOLVERS.items()}, **{name: to for name, to in PRESETS.items()}}


@dataclass(frozen=True)
class Sampler:
    """A solver by its name, with a value for each of its options."""

    name: str
    options: Mapping[str, Value]

    @classmethod
    def of(cls, name: str, options: Mapping[str, Value]) -> "Sampler":
        """The options that are not given are the solver's defaults."""
        defaults = {option: kind.default for option, kind in SOLVERS[name].options.items()}
        return cls(name, {**defaults, **options})

    @property
    def solver(self) -> Solver:
        return SOLVERS[self.name]

    @property
    def canonical(self) -> str:
        """The name of the solver with the options that are not its defaults, sorted: equal for equal samplers."""
        changed = [
            f"{name}={shortest(value)}"
            for name, value in sorted(self.options.items())
            if value != self.solver.options[name].default
        ]
        return self.name + (":" + ",".join(changed) if changed else "")


def read_sampler(text: object) -> Sampler:
    """The sampler that a text names; InputError names what is not known."""
    if not isinstance(text, str):
        raise InputError(f"sampler is {shown(text)}; expected a name such as 'euler' or 'dpmsolver:order=3'")
    name, _, options = text.partition(":")
    if name not in SAMPLERS:
        raise InputError(f"sampler {name!r} is not known; expected one of {', '.join(SAMPLERS)}")
    solver_name, _, preset = PRESETS.get(name, name).partition(":")
    known = SOLVERS[solver_name].options
    return Sampler.of(solver_name, read_options(name, preset, known) | read_options(name, options, known))


def table() -> str:
    """All samplers for people: names, what they are, their options with defaults."""
    lines = []
    for name, solver in SOLVERS.items():
        lines.append(f"{name:22} {solver.summary}")
        for option, kind in solver.options.items():
            lines.append(f"{'':24}{option}={shortest(kind.default)}{_choices(kind)}")
    lines += ["", "short names:"]
    lines += [f"{name:22} {meaning}" for name, meaning in PRESETS.items()]
    return "\n".join(lines)


def _choices(kind: Option) -> str:
    if isinstance(kind, Choice):
        return f" ({', '.join(kind.words)})"
    if isinstance(kind, Whole | Number):
        return f" ({kind.low:g} to {kind.high:g})"
    return " (true, false)" if isinstance(kind, Flag) else " (none, all, or steps from 0 joined by +)"
