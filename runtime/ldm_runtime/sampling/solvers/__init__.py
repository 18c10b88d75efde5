"""Every sampler: which function makes its rows, which options it has, what it cannot do.

A sampler is named by a text, `solver` or `solver:option=value,option=value`. `SOLVERS` has the solvers, `PRESETS` the
names that people use for some of them with options. Adding a solver is one function, the class of its options and
one line in `SOLVERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.deis import DeisOptions, solve_deis
from ldm_runtime.sampling.solvers.diffusion import (
    DdimOptions,
    DdpmOptions,
    LcmOptions,
    TcdOptions,
    solve_ddim,
    solve_ddpm,
    solve_lcm,
    solve_tcd,
)
from ldm_runtime.sampling.solvers.dpmsolver import (
    DpmSolverOptions,
    SinglestepOptions,
    solve_multistep,
    solve_singlestep,
)
from ldm_runtime.sampling.solvers.flow import FlowEulerOptions, solve_flow_euler
from ldm_runtime.sampling.solvers.kdiffusion import (
    EulerOptions,
    HeunOptions,
    SigmaOptions,
    solve_dpm2,
    solve_dpm2_ancestral,
    solve_dpmpp_sde,
    solve_euler,
    solve_euler_ancestral,
    solve_heun,
    solve_lms,
)
from ldm_runtime.sampling.solvers.options import Options, changed_options, defaults_of, kinds_of, read_options, shortest
from ldm_runtime.sampling.solvers.pndm import PndmOptions, solve_pndm
from ldm_runtime.sampling.solvers.problem import Problem
from ldm_runtime.sampling.solvers.rows import Rows
from ldm_runtime.sampling.solvers.sa_solver import SaSolverOptions, solve_sa
from ldm_runtime.sampling.solvers.unipc import UniPcOptions, solve_unipc

AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True)
class Solver(Generic[AnyOptions]):
    """One line of the table `SOLVERS`.

    solve: (Problem, options) -> (initial_scale, rows). spacing: used when the schedule names none; None: the solver
    has its own. predictions: the prediction types that it takes. zero_snr: whether it takes zero terminal SNR.
    """

    solve: Callable[[Problem, AnyOptions], tuple[float, Rows]]
    options: type[AnyOptions]
    summary: str
    spacing: str | None = "linspace"
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    zero_snr: bool = False
    correlated_noise: bool = False  # rows that share a stream of noise, which only `philox` can give


_NO_SAMPLE = ("epsilon", "v_prediction")

SOLVERS: dict[str, Solver[Any]] = {
    "ddpm": Solver(
        solve_ddpm, DdpmOptions, "DDPM, ancestral sampling of the trained process", "leading", zero_snr=True
    ),
    "ddim": Solver(solve_ddim, DdimOptions, "DDIM, deterministic at eta 0", "leading", zero_snr=True),
    "pndm": Solver(
        solve_pndm, PndmOptions, "PNDM: linear multistep, with skip_prk_steps PLMS", "leading", _NO_SAMPLE
    ),
    "lms": Solver(solve_lms, SigmaOptions, "linear multistep, order 4"),
    "euler": Solver(solve_euler, EulerOptions, "Euler, deterministic", zero_snr=True),
    "euler_ancestral": Solver(
        solve_euler_ancestral, Options, "Euler with fresh noise at every step", predictions=_NO_SAMPLE, zero_snr=True
    ),
    "heun": Solver(solve_heun, HeunOptions, "Heun, second order, two evaluations for each step"),
    "dpm2": Solver(
        solve_dpm2, SigmaOptions, "DPM2, second order, two evaluations for each step", predictions=_NO_SAMPLE
    ),
    "dpm2_ancestral": Solver(
        solve_dpm2_ancestral, SigmaOptions, "DPM2 with fresh noise at every step", predictions=_NO_SAMPLE
    ),
    "dpmpp_sde": Solver(
        solve_dpmpp_sde, SigmaOptions, "DPM-Solver++ SDE, two evaluations for each step on one Brownian path",
        predictions=_NO_SAMPLE, correlated_noise=True,
    ),
    "dpmsolver": Solver(
        solve_multistep, DpmSolverOptions, "DPM-Solver and DPM-Solver++, multistep", zero_snr=True
    ),
    "dpmsolver_singlestep": Solver(
        solve_singlestep, SinglestepOptions, "DPM-Solver and DPM-Solver++, steps of up to three evaluations", None
    ),
    "deis": Solver(solve_deis, DeisOptions, "DEIS, multistep"),
    "unipc": Solver(solve_unipc, UniPcOptions, "UniPC, multistep predictor and corrector", zero_snr=True),
    "sa_solver": Solver(
        solve_sa, SaSolverOptions, "SA-Solver, stochastic multistep predictor and corrector"
    ),
    "lcm": Solver(solve_lcm, LcmOptions, "latent consistency models", None, zero_snr=True),
    "tcd": Solver(solve_tcd, TcdOptions, "trajectory consistency distillation", None, zero_snr=True),
    "flow_euler": Solver(solve_flow_euler, FlowEulerOptions, "Euler for flow models", None, ("flow_prediction",)),
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
    """A solver by its name, with its options."""

    name: str
    options: Options

    @property
    def solver(self) -> Solver[Any]:
        """Its line of `SOLVERS`."""
        return SOLVERS[self.name]

    @property
    def canonical(self) -> str:
        """The text of the sampler, for people and manifests: equal for equal samplers, defaults left out."""
        changed = [f"{name}={shortest(value)}" for name, value in changed_options(self.options).items()]
        return self.name + (":" + ",".join(changed) if changed else "")


def read_sampler(text: object) -> Sampler:
    """Return the sampler that a text names; InputError names what is not known."""
    if not isinstance(text, str):
        raise InputError(
            f"sampler is {shown(text)}; expected a name such as 'euler' or 'dpmsolver:order=3'", code="request.sampler"
        )
    name, _, options = text.partition(":")
    if name not in SAMPLERS:
        raise InputError(
            f"sampler {shown(name)} is not known; expected one of {', '.join(SAMPLERS)}", code="request.sampler"
        )
    solver_name, _, preset = PRESETS.get(name, name).partition(":")
    solver = SOLVERS[solver_name]
    kinds = kinds_of(solver.options)
    values = read_options(name, preset, kinds) | read_options(name, options, kinds)
    return Sampler(solver_name, solver.options(**values))


def table() -> str:
    """Return a table of all samplers for people: names, what they are, their options with defaults."""
    lines = []
    for name, solver in SOLVERS.items():
        lines.append(f"{name:22} {solver.summary}")
        kinds = kinds_of(solver.options)
        for option, default in defaults_of(solver.options).items():
            lines.append(f"{'':24}{option}={shortest(default)} ({kinds[option]})")
    lines += ["", "short names:"]
    lines += [f"{name:22} {meaning}" for name, meaning in PRESETS.items()]
    return "\n".join(lines)
