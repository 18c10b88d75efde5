"""Writes the conformance kit, tests/golden: what every implementation of the runtime has to agree with.

    python tests/make_golden.py [OUT]

tests/golden/README.md describes the files. The same input gives the same bytes (plans to 1e-12: cos and exp of two
machines may differ in their last bit): the tiny model's outputs are computed here with numpy in float64, not by an
engine.
"""

import dataclasses
import json
import random
import shutil
import struct
import sys
import unicodedata
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]

from ldm_runtime.errors import FormatError, InputError  # noqa: E402
from ldm_runtime.files import strict_json  # noqa: E402
from ldm_runtime.noise import MASKED_STREAM, NOISES, VAE_STREAM, Noise  # noqa: E402
from ldm_runtime.noise import philox as rng  # noqa: E402
from ldm_runtime.noise.cuda import CudaGenerator  # noqa: E402
from ldm_runtime.noise.torch_cpu import TorchGenerator  # noqa: E402
from ldm_runtime.package import safetensors  # noqa: E402
from ldm_runtime.package.open import open_package  # noqa: E402
from ldm_runtime.sampling.loop import guide, hooked, noised, run_plan, slerp  # noqa: E402
from ldm_runtime.sampling.plan import Hook, Plan, compile_plan  # noqa: E402
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule, Schedule  # noqa: E402
from ldm_runtime.sampling.solvers import PRESETS, SOLVERS, read_sampler  # noqa: E402
from ldm_runtime.text.weighting import parse_prompt, weigh, windows  # noqa: E402
from tests import golden_manifests, golden_numbers, golden_tokenizers  # noqa: E402
from tests.golden_images import image_cases  # noqa: E402
from tests.runtime import tiny_package  # noqa: E402
from tests.runtime.package.test_variants import LOSSY, onnx, variant, way  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)


def main() -> None:
    if sys.argv[1:2] and sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN
    out.mkdir(parents=True, exist_ok=True)
    if out != GOLDEN:
        shutil.copytree(GOLDEN / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    shutil.rmtree(out / "package", ignore_errors=True)
    tiny_package.make(out / "package")
    write(out / "tokenizer.json", tokenizer_cases(out / "tokenizer" / "tokenizer.json"))
    write(out / "prompts.json", prompt_cases(out / "package"))
    write(out / "plans.json", plan_cases())
    write(out / "samplers.json", sampler_cases())
    write(out / "packages.json", package_cases())
    write(out / "numbers.json", golden_numbers.number_cases())
    golden_manifests.write_families(out / "manifests")
    write(out / "families.json", golden_manifests.family_facts(out / "manifests"))
    write(out / "manifests.json", golden_manifests.manifest_cases(out))
    write(out / "tokenizers.json", golden_tokenizers.tokenizer_changes(out))
    write(out / "mutations.json", golden_manifests.mutation_cases(out))
    made = {"noise": noise_cases, "guidance": guidance_cases, "graphs": graph_cases, "runs": run_cases}
    for name, make in (made | {"images": image_cases}).items():
        cases, tensors = make(out / "package")
        write(out / f"{name}.json", cases)
        safetensors.write(out / f"{name}.safetensors", tensors)


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=True, allow_nan=False, indent=1) + "\n", encoding="utf-8")


# --- tokenizer ---

HARD = [
    "", " ", "\t\n red \r\n  apple ", "Red APPLE", "don't I'm we'll they've he'd it's you're", "'S 'T x'LL",
    "a1b22c333",
    "١٢٣ ²³ ½ Ⅷ", "naïve café — “quotes” … ™", "e\u0301 \u00e9 o\u0308\u0323", "İstanbul DİYARBAKIR ı", "ẞ ß ﬀ ﬁ ǅ",
    "ΑΣ ΑΣ. ΟΔΟΣ", "日本語 한국어 ไทย हिन्दी עברית العربية", "👩‍🚀🏽 🇩🇪 ❤️ 🏳️‍🌈", "<|startoftext|> red", "<|endoftext|>",
    "red<|endoftext|>apple", "< |endoftext| >", "<|ENDOFTEXT|>", "a\u0000b", "\u200b\u200d\ufeff",
    "\u00a0\u2003\u3000x",
    "!!!???...", "#hash @at 50% $5.00 a_b", "https://example.org/a?b=c&d", "x" * 300, "red " * 200, "\U0001f600" * 40,
    "(red:1.3) [blue] BREAK", "\\(escaped\\)", "٪ ﷽ \ufdfa", "\u0345\u0399\u03b9", "\u1e9e\u0130\u0131", "ﬃ\u0301",
    "\ud7ff\ue000\uffff", "𝒜𝓁𝓅𝒽𝒶 ℵ₀ x²", "line\u2028separator\u2029para", "a\u0300\u0301\u0302\u0303",
]  # fmt: skip
RANDOM_TEXTS = 3000
RANGES = [(0x20, 0x7E)] * 6 + [
    (0x00, 0x1F), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
    (0x1E00, 0x1FFF), (0x2000, 0x22FF), (0x3040, 0x30FF), (0x4E00, 0x4EFF), (0xAC00, 0xACFF), (0x1F300, 0x1F6FF),
]  # fmt: skip


def tokenizer_cases(file: Path) -> dict[str, Any]:
    """Token ids without begin and end, from the tokenizers library; transformers' CLIPTokenizerFast has to agree."""
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizerFast

    ours, theirs = Tokenizer.from_file(str(file)), CLIPTokenizerFast(tokenizer_file=str(file))
    words = [token.removesuffix("</w>") for token in ours.get_vocab() if token.isascii()]
    words.sort()
    draw = random.Random(20)
    texts = list(HARD)
    for _ in range(RANDOM_TEXTS):
        parts = []
        for _ in range(draw.randrange(1, 9)):
            if draw.random() < 0.5:
                parts.append(draw.choice(words))
            else:
                low, high = draw.choice(RANGES)
                parts.append("".join(chr(draw.randint(low, high)) for _ in range(draw.randrange(1, 7))))
            parts.append(draw.choice(["", " ", " ", "  ", ", "]))
        texts.append("".join(part for part in parts if part[:1] < "\ud800" or part[:1] > "\udfff"))
    cases = []
    for text in texts:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False).input_ids, text
        cases.append([text, ids])
    digest = sha256(file.read_bytes()).hexdigest()
    return {
        "tokenizer": "tokenizer/tokenizer.json",
        "sha256": digest,
        "unicode": unicodedata.unidata_version,
        "cases": cases,
    }


# --- prompts ---

PROMPTS = [
    "", "a red cat", "a (red:1.3) cat", "a (red) [cat]", "((a) b)", "((a:2) b:0.5)", "([a])", "[[a]]",
    r"\(x\) \[y\] \\",
    r"\n", "a (b c", "a [b (c", "a ) b ]", "a:1.3) b", "(a:b)", "(a: 1.5 )", "(a:.5)", "(a:1.2:1.5)", "(a:0)",
    "[a:1.2]",
    "(a]", "one BREAK two", "BREAK", " BREAK  BREAK ", "BREAKFAST unBREAK BREAK,", "(a BREAK b)", "日本 (語:1.2)",
    "(:1.3)",
    "((((a))))", "(a:10)", "(a:1.)", "(a:1.1234567)", "(a:12345)", "(a:11)", "(a:0.000001)", "(a:0.0000009)",
    "((a:10):10)", "((a:10):10.0)b", "(((a:10):10):1.01)", "(((a:0.001):0.001):0.9)", "(((a:0):10):10)", "(" * 48 + "a",
    "(" * 49 + "a", "[" * 144 + "a", "[" * 145 + "a", "[" * 9000 + "a", "((((b (a:0):10):10):10)", "(" * 49,
]  # fmt: skip
# Of windows with room for ten tokens: "blue" is five of them, "red" and a comma one.
WINDOWED = [
    "", "red", "red " * 10, "red " * 11, "red, " * 7, "red " * 9 + ", red", "red " * 10 + ", red red",
    "red " * 8 + ", red blue", ", " + "red " * 12, "red, " + "red " * 8 + "(red:1.5) red",
    "red, BREAK (red:2) blue blue", "(red, [red red red:0.5] red red red red red red:1.5)", "(x:0) red", "(red:0)",
    "(red:0) BREAK (red:0)", "(:0)",
]  # fmt: skip


def prompt_cases(package: Path) -> dict[str, Any]:
    """What is read from a prompt: parts between BREAKs, each a list of [text, weight]; and its windows."""
    cases = []
    for prompt in PROMPTS:
        try:
            parts: Any = [[[piece.text, piece.weight] for piece in part] for part in parse_prompt(prompt)]
        except InputError:  # a port refuses it too
            parts = None
        cases.append({"prompt": prompt, "parts": parts})
    draw = np.random.default_rng(5)
    weighed = []
    for _ in range(4):
        embedding = draw.standard_normal((5, 3)).astype(np.float32)
        weights = np.round(draw.uniform(0, 2, 5), 2)
        result = weigh(embedding, weights)
        weighed.append({"embedding": floats(embedding), "weights": weights.tolist(), "result": floats(result)})
    return {"parse": cases, "weigh": weighed, "windows": window_cases(package)}


def window_cases(package: Path) -> list[dict[str, Any]]:
    """Token ids and weights of each window, by the tokenizer of `package`."""
    tokenizer = tiny_package.tokenizer_of(open_package(package))
    cases = []
    for prompt in WINDOWED:
        try:
            made: Any = [
                {"ids": window.ids.tolist(), "weights": window.weights.tolist()}
                for window in windows(prompt, tokenizer)
            ]
        except InputError:  # every word has weight 0
            made = None
        cases.append({"prompt": prompt, "windows": made})
    return cases


def floats(array: np.ndarray) -> Any:
    """float32 values as numbers that read back as the same float32."""
    return array.astype(np.float64).tolist()


# --- plans ---


def schedules() -> dict[str, Schedule]:
    def of(**changes: Any) -> NoiseSchedule:
        return dataclasses.replace(SD15, **changes)

    return {
        "sd15": SD15,
        "v": of(prediction_type="v_prediction"),
        "leading": of(timestep_spacing="leading"),
        "trailing v": of(timestep_spacing="trailing", prediction_type="v_prediction", set_alpha_to_one=True),
        "zero snr": of(timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True),
        "cosine": of(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
        "linear sample": of(beta_schedule="linear", prediction_type="sample", steps_offset=0),
        "flow": FlowSchedule(1000, 3.0, None),
        "flow terminal": FlowSchedule(1000, 1.0, 0.1),
    }


OPTIONS = [
    "ddpm:variance=fixed_large", "ddim:eta=0.7", "ddim:clip=1", "ddim:threshold=0.9,threshold_max=1.5",
    "euler:final=sigma_min,sigmas=exponential", "lms:sigmas=beta", "dpm2:sigmas=exponential", "dpmsolver:sigmas=lu",
    "dpmsolver:sigmas=ays", "dpmsolver:algorithm=sde-dpmsolver,final=sigma_min,solver_type=heun",
    "dpmsolver:algorithm=dpmsolver,final=sigma_min,order=3", "dpmsolver:lambda_min=-3",
    "dpmsolver_singlestep:order=3,solver_type=heun", "dpmsolver_singlestep:order=3,algorithm=sde-dpmsolver++",
    "deis:order=3", "unipc:order=3", "unipc:solver_type=bh1", "unipc:predict=eps,final=sigma_min",
    "sa_solver:order=3,corrector_order=4", "sa_solver:predict=eps,tau=0.5", "lcm:original_steps=20", "tcd:eta=0.3",
    "flow_euler:sigmas=karras", "flow_euler:stochastic=true",
]  # fmt: skip


def plan_cases() -> dict[str, Any]:
    """Every solver and preset with every schedule that it takes, and its options with one."""
    known = schedules()
    cases = []
    for text in (*SOLVERS, *PRESETS, *OPTIONS):
        for name, schedule in known.items():
            plain = text in SOLVERS or name in ("v", "flow")
            for steps, start in ((5, 0), (1, 0), (8, 3)):
                if not plain or (text not in SOLVERS and (steps, start) == (1, 0)):
                    continue
                try:
                    plan = compile_plan(schedule, read_sampler(text), steps, start)
                except InputError:  # this sampler does not take this schedule or that few steps
                    continue
                cases.append(
                    {"schedule": name, "sampler": text, "steps": steps, "start": start, "plan": plan_facts(plan)}
                )
    return {"schedules": {name: schedule.to_dict() for name, schedule in known.items()}, "cases": cases}


def plan_facts(plan: Plan) -> dict[str, Any]:
    """The plan as `ldm-export plan --json` prints it, less what the case says."""
    return {name: value for name, value in plan.to_dict().items() if name not in ("steps", "start")}


LAMBDAS = ["-inf", "-3", "-3.0", "-1e1", "-.5", "-5.", "1E-3", "+7", "100", "-1e999", "101", "infinity"]
SIGMAS = ["0.1", "0.30000000000000004", "1e-5", "12345.678", "1e6", "1e-400", "0.0001", "1e7"]
ETAS = ["1.1", "-0.1", "nan", "inf", "1_0", " 1", "1 ", "0x1", "1e", ".", "1e999", "١", "--1", ""]
ORDERS = ["5", "0", "+2", "2.0", "", "1234567890", "²"]
TEXTS = [
    *(f"dpmsolver:lambda_min={text}" for text in LAMBDAS), *(f"euler:sigma_min={text}" for text in SIGMAS),
    *(f"ddim:eta={text}" for text in ETAS), *(f"unipc:order={text}" for text in ORDERS),
    "euler:sigma_max=1,sigma_min=0.5,final=sigma_min", "dpmpp_2m_karras:sigmas=default", "dpmpp_2m_karras:order=3",
    "unipc:order=3,predict=x0,lower_order_final=true", "ddpm:variance=fixed_small,clip=1", "lcm:original_steps=007",
    "euler:", "plms:skip_prk_steps=false", "sa_solver:tau=10,corrector_order=4,predict=eps", "tcd:eta=1",
    "", ":", "Euler", "euler ", "magic", "euler:order=2", "euler:sigmas", "euler:sigmas=", "euler:sigmas=ays",
    "euler:,", "euler:sigmas=karras,", "euler:sigmas=karras,sigmas=karras", "euler:sigmas=karras;final=zero",
    "euler:sigmas==karras", "unipc:lower_order_final=True", "unipc:lower_order_final=1", "unipc:final=last",
    "deis:order=4", "dpmsolver_singlestep:sigmas=lu", "dpmsolver_singlestep:algorithm=sde-dpmsolver",
    "lcm:original_steps=100001", "ddim:threshold_max=0.5", "euler_ancestral:sigmas=karras",
]  # fmt: skip
STEPS = [(1, 0), (2, 0), (7, 0), (50, 0), (50, 47), (1000, 999), (0, 0), (1001, 0), (7, 7), (7, -1)]


def sampler_cases() -> dict[str, Any]:
    """Texts of samplers, schedules, and plans of more steps than plans.json has, each told by a few numbers."""
    return {
        "texts": [{"text": text, "canonical": canonical(text)} for text in (*SOLVERS, *PRESETS, *OPTIONS, *TEXTS)],
        "schedules": [{"schedule": value, "code": schedule_code(value)} for value in schedule_values()],
        "plans": [
            short_plan(schedule, text, steps, start)
            for text in (*SOLVERS, *OPTIONS)
            for schedule in (("flow", "flow terminal") if text.startswith("flow") else ("sd15", "zero snr"))
            for steps, start in (STEPS if text in SOLVERS and schedule in ("sd15", "flow") else STEPS[1:4])
        ],
        "hooks": hook_cases(),
    }


def canonical(text: str) -> str | None:
    try:
        return read_sampler(text).canonical
    except InputError:
        return None


def schedule_values() -> list[Any]:
    """The schedules of the plans, and changes to them that are refused but for a few."""
    noise, flow = SD15.to_dict(), FlowSchedule(1000, 3.0, None).to_dict()
    changes: list[tuple[dict[str, Any], str, list[Any]]] = [
        (noise, "num_train_timesteps", [2, 1, 100_000, 100_001, 10**30, True, 1000.0, "1000", None]),
        (noise, "beta_start", [1e-8, 9e-9, 0, 1, 0.012, 0.5, True, "0.1", 10**400]),
        (noise, "beta_end", [0.999, 1.0, 0.0008, -1, None, []]),
        (noise, "beta_schedule", ["linear", "squaredcos_cap_v2", "cosine", "", 1, None]),
        (noise, "prediction_type", ["sample", "flow_prediction", "score", {}]),
        (noise, "timestep_spacing", ["leading", "default", 1]),
        (noise, "steps_offset", [0, 999, 1000, -1, 0.5]),
        (noise, "set_alpha_to_one", [True, 0, "true"]),
        (noise, "rescale_betas_zero_snr", [True, None]),
        (noise, "shift", [1.0]),
        (flow, "num_train_timesteps", [2, 1, 100_001]),
        (flow, "shift", [1e-3, 1000, 9e-4, 1001, True, None]),
        (flow, "shift_terminal", [0, 0.999, 1, -0.1, "0.1", False]),
        (flow, "beta_start", [0.1]),
    ]
    changed = [{**schedule, name: value} for schedule, name, values in changes for value in values]
    lacking = [
        {key: schedule[key] for key in schedule if key != name} for schedule in (noise, flow) for name in schedule
    ]
    return [*(schedule.to_dict() for schedule in schedules().values()), *changed, *lacking, {}, [], None, "flow"]


def schedule_code(value: Any) -> str | None:
    try:
        strict_json.read(ScheduleHolder, {"schedule": value}, "schedule")
    except FormatError as error:
        return error.code
    return None


@dataclasses.dataclass(frozen=True)
class ScheduleHolder:
    schedule: Schedule


def short_plan(schedule: str, text: str, steps: int, start: int) -> dict[str, Any]:
    """A plan, or the code that refuses it. Of a row the timestep and each line of its matrix, weighed by column."""
    facts: dict[str, Any] = {"schedule": schedule, "sampler": text, "steps": steps, "start": start}
    try:
        plan = compile_plan(schedules()[schedule], read_sampler(text), steps, start)
    except InputError as error:
        return {**facts, "code": error.code}

    def weighed(line: list[float]) -> float:
        return sum(value / (1 + column) for column, value in enumerate(line))

    rows = [[row.timestep, *map(weighed, row.matrix.tolist())] for row in plan.rows]
    return {**facts, "code": None, "identity": plan.identity, "initial_scale": plan.initial_scale, "rows": rows}


def hook_cases() -> list[dict[str, Any]]:
    """Two images' x0 and what the loop's hook makes of them."""
    data = rng.philox_normal(6, 0, (2, 4, 3, 3)) * np.array([1.0, 3.0], np.float32).reshape(2, 1, 1, 1)
    row = compile_plan(dataclasses.replace(SD15, prediction_type="sample"), read_sampler("ddim"), 1).rows[0]
    hooks = [Hook("clip", 0.7, 0.0)]
    hooks += [Hook("threshold", limit, ratio) for limit, ratio in ((1.5, 0.9), (1e6, 0.995), (1.0, 0.5), (4.0, 1.0))]
    facts = {"x0": floats(data)}
    return [{**dataclasses.asdict(hook), **facts, "clipped": floats(hooked(hook, row, data, data))} for hook in hooks]


# --- noise, guidance ---

Cases = tuple[Any, dict[str, np.ndarray]]


def noise_cases(package: Path) -> Cases:
    cases: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}

    def add(case: dict[str, Any], values: np.ndarray) -> None:
        case["tensor"] = f"noise/{len(cases)}"
        case["sha256"] = sha256(values.astype("<f4").tobytes()).hexdigest() if case["mode"] == "philox" else None
        tensors[case["tensor"]] = values.reshape(-1)[:64].copy()
        cases.append(case)

    for seed in (0, 1, 42, 2**32 - 1, 2**32, 2**63 + 11, 2**64 - 1):
        for stream, shape in (
            (0, (4, 64, 64)),
            (1, (4, 8, 8)),
            (7, (3, 5)),
            (0x80000000, (4, 6, 8)),
            (2**32 - 1, (5,)),
        ):
            values = rng.philox_normal(seed, stream, shape)
            add({"mode": "philox", "seed": str(seed), "stream": stream, "shape": list(shape)}, values)
    for seed in (0, 42, 2**32 + 7):
        for mode, generator in (("torch", TorchGenerator(seed)), ("cuda", CudaGenerator(seed))):
            for draw, shape in enumerate(((4, 8, 8), (4, 9, 9), (3,), (4, 8, 8))):
                add({"mode": mode, "seed": str(seed), "draw": draw, "shape": list(shape)}, generator.normal(shape))
    add({"mode": "cuda:4096", "seed": "5", "draw": 0, "shape": [4, 64, 66]}, CudaGenerator(5, 4096).normal((4, 64, 66)))
    first, second = rng.philox_normal(1, 0, (4, 4, 4)), rng.philox_normal(2, 0, (4, 4, 4))
    for share in (0.0, 0.25, 1.0):
        add({"mode": "slerp", "seeds": ["1", "2"], "share": share, "shape": [4, 4, 4]}, slerp(first, second, share))
    return cases, tensors


def guidance_cases(package: Path) -> Cases:
    uncond, cond = rng.philox_normal(3, 0, (2, 4, 3, 3)), rng.philox_normal(4, 0, (2, 4, 3, 3)) * np.float32(1.5)
    tensors = {"uncond": uncond, "cond": cond}
    cases = []
    for scale, rescale in ((0.0, 0.0), (1.0, 0.0), (7.5, 0.0), (7.5, 0.3), (7.5, 1.0)):
        name = f"guided/{len(cases)}"
        tensors[name] = guide(uncond, cond, scale, rescale)
        cases.append({"scale": scale, "rescale": rescale, "tensor": name})
    return cases, tensors


# --- whole runs of the tiny package ---

RUNS: list[dict[str, Any]] = [
    {"sampler": sampler, "steps": 4} for sampler in (*SOLVERS, *PRESETS) if sampler not in ("flow_euler", "pndm")
]
RUNS += [{"sampler": "pndm", "steps": 5}, {"sampler": "ddim:clip=0.5", "steps": 4}]
RUNS += [{"sampler": "ddim", "steps": 4, "guidance": guidance} for guidance in (0.0, 1.0, 1.5, 7.5)]
RUNS += [
    {"sampler": "dpmpp_2m", "steps": 6, "guidance_rescale": 0.7},
    {"sampler": "dpmpp_2m", "steps": 6, "guidance_interval": [0.2, 0.7]},
    {"sampler": "euler_ancestral", "steps": 3, "seed": "18446744073709551615"},
    {"sampler": "euler", "steps": 4, "variation": ["9", 0.3]},
    {"sampler": "euler", "steps": 4, "strength": 0.5},
    {"sampler": "unipc", "steps": 8, "strength": 0.7},
    {"sampler": "ddim", "steps": 4, "strength": 0.75, "mask": True},
    {"sampler": "euler_ancestral", "steps": 4, "strength": 1.0, "mask": True},
    {"sampler": "ddim", "steps": 3, "prompt": "a (red:1.5) [apple] BREAK blue", "syntax": "weighted"},
]
# The other noises, which depend on the order of what is drawn.
TASKS: list[dict[str, Any]] = [{}, {"strength": 0.7}, {"strength": 0.75, "mask": True}, {"strength": 1.0, "mask": True}]
RUNS += [{"sampler": "euler_ancestral", "steps": 4, "noise": noise, **task} for noise in NOISES[1:3] for task in TASKS]
# Between two prompts and seeds; with an image, the noise of the ends is not drawn by the run's generator.
RUNS += [
    {"sampler": "ddim", "steps": 3, "to": ["blue cat", "18446744073709551615", share]} for share in (0.0, 0.25, 1.0)
]
RUNS += [
    {"sampler": "euler_ancestral", "steps": 3, "to": ["blue", "6", 0.5], "noise": noise, **task, **variation}
    for noise in NOISES[:2]
    for task in TASKS[:2]
    for variation in ({}, {"variation": ["9", 0.3]})
]
RUNS += [
    {"sampler": "ddim", "steps": 2, "to": ["red BREAK [cat]", "5", 0.75], "prompt": "(a:1.3)", "syntax": "weighted"},
    {"sampler": "ddim", "steps": 2, "to": ["blue", "6", 0.75], "guidance": 1.0},
]


def run_cases(package: Path) -> Cases:
    """Latents after every row and the picture's bytes, of one image of 64x48 pixels."""
    model = TinyModel(package)
    tensors: dict[str, np.ndarray] = {"image": test_image(), "mask": test_mask()}
    cases = []
    for changes in RUNS:
        case = {
            "prompt": "a red apple", "negative": "blue", "seed": "5", "guidance": 3.0, "guidance_rescale": 0.0,
            "guidance_interval": [0.0, 1.0], "variation": None, "strength": None, "mask": False, "syntax": "plain",
            "noise": "philox", "to": None,
            **changes,
        }  # fmt: skip
        latents = run_of(model, case)
        picture = np.rint(np.clip(model.decode(latents[-1]) * 0.5 + 0.5, 0, 1) * 255.0).astype(np.uint8)
        name = f"run/{len(cases)}"
        tensors[f"{name}/latents"] = latents
        tensors[f"{name}/picture"] = np.ascontiguousarray(picture[0].transpose(1, 2, 0))
        cases.append({**case, "tensors": name})
    return cases, tensors


def run_of(model: "TinyModel", case: dict[str, Any]) -> np.ndarray:
    """float32 (rows, 4, 6, 8): the definition of a run, written out."""
    shape, seed = (4, 6, 8), int(case["seed"])
    contract = tiny_package.CONTRACT
    steps, strength = case["steps"], case["strength"]
    start = 0 if strength is None else steps - min(int(steps * strength), steps)
    plan = compile_plan(contract.schedule, read_sampler(case["sampler"]), steps, start)
    noise = Noise(case["noise"], [seed], shape)

    def noise_of(other: int) -> np.ndarray:
        return Noise(case["noise"], [other], shape).initial()[0]

    picture = blend = None  # the order is that of diffusers, whose generators give one number after the other
    if strength is not None:
        picture = model.encode(test_image(), noise.stream(VAE_STREAM))
    ends = [case["prompt"]]
    if case["to"] is None:
        initial = noise.initial()
    else:
        last, other, share = case["to"]
        ends.append(last)
        initial = slerp(noise_of(seed), noise_of(int(other)), share)[None]
    if case["variation"] is not None:
        initial = slerp(initial[0], noise_of(int(case["variation"][0])), case["variation"][1])[None]
    if case["mask"] and case["noise"] != "philox":
        noise.stream(MASKED_STREAM)
    cond, *others = padded(model, [model.embed(text, case["syntax"]) for text in ends])
    if others:
        cond = ((1.0 - share) * cond + share * others[0]).astype(np.float32)
    cond, uncond = padded(model, [cond, model.embed(case["negative"], case["syntax"])])
    if case["mask"]:
        grid = (test_mask()[::8, ::8] >= 128).astype(np.float32)[None, None]
        known = picture

        def blend(row: int, x: np.ndarray) -> np.ndarray:
            kept = noised(plan.rows[row + 1], known, initial) if row + 1 < len(plan.rows) else known
            return ((np.float32(1) - grid) * kept + grid * x).astype(np.float32)

        if strength == 1.0:
            picture = None
    guidance, (low, high) = case["guidance"], case["guidance_interval"]
    done: list[int] = []

    def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
        share = len(done) / len(plan.rows)
        done.append(1)
        conditional = model.unet(x, timestep, cond)
        if guidance <= 1.0 or not low <= share < high:
            return conditional
        return guide(model.unet(x, timestep, uncond), conditional, guidance, case["guidance_rescale"])

    steps_taken = run_plan(plan, denoise, initial, noise.row, image=picture, blend=blend)
    return np.concatenate([step.latents for step in steps_taken])


def padded(model: "TinyModel", embeddings: list[np.ndarray]) -> list[np.ndarray]:
    """Let windows of the empty prompt follow embeddings (1, T, D) up to the longest one's length."""
    most = max(one.shape[1] for one in embeddings)
    empty = model.embed("", "plain")
    missing = [(most - one.shape[1]) // tiny_package.WINDOW for one in embeddings]
    return [np.concatenate([one, *[empty] * count], axis=1) for one, count in zip(embeddings, missing, strict=True)]


def graph_cases(package: Path) -> Cases:
    """One evaluation of each graph, at two sizes."""
    model = TinyModel(package)
    tensors: dict[str, np.ndarray] = {}
    cases: list[dict[str, Any]] = []

    def add(component: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
        prefix = f"graph/{len(cases)}"
        case: dict[str, Any] = {"component": component}
        for side, values in (("inputs", inputs), ("outputs", outputs)):
            case[side] = {name: f"{prefix}/{side}/{name}" for name in values}
            tensors.update((f"{prefix}/{side}/{name}", value) for name, value in values.items())
        cases.append(case)

    def normal(*shape: int) -> np.ndarray:
        return rng.philox_normal(len(cases), 0, shape)

    for batch, height, width in ((1, 2, 3), (2, 6, 8)):
        ids = np.arange(batch * 12, dtype=np.int64).reshape(batch, 12) * 17 % 517
        states, pooled = model.text(ids)
        add("text_encoder", {"input_ids": ids}, {"last_hidden_state": states, "pooler_output": pooled})
        sample, timestep, context = normal(batch, 4, height, width), np.float32(500.25), normal(batch, 12 * batch, 6)
        inputs = {"sample": sample, "timestep": np.array(timestep), "encoder_hidden_states": context}
        add("unet", inputs, {"out_sample": model.unet(sample, float(timestep), context)})
        pixels = normal(batch, 3, 8 * height, 8 * width)
        add("vae_encoder", {"sample": pixels}, {"latent_parameters": model.moments(pixels).astype(np.float32)})
        latents = normal(batch, 4, height, width)
        add("vae_decoder", {"latent_sample": latents}, {"sample": model.image(latents).astype(np.float32)})
    return cases, tensors


class TinyModel:
    """The graphs of the tiny package, in numpy and float64."""

    def __init__(self, package: Path) -> None:
        from tokenizers import Tokenizer

        self.weights = {
            name: {
                key: value.astype(np.float64)
                for key, value in safetensors.read(package / name / "model.safetensors").items()
            }
            for name in ("text_encoder", "unet", "vae_encoder", "vae_decoder")
        }
        self.tokenizer = Tokenizer.from_file(str(package / "tokenizer" / "tokenizer.json"))
        self.latent = tiny_package.CONTRACT.latent

    def embed(self, prompt: str, syntax: str) -> np.ndarray:
        """float32 (1, T, D)."""
        facts = tiny_package.CONTRACT.text[0].tokenizer
        parts = parse_prompt(prompt) if syntax == "weighted" else None
        stretches = [[(prompt, 1.0)]] if parts is None else [[(p.text, p.weight) for p in part] for part in parts]
        windows = []
        for part in stretches:
            tokens = [(token, weight) for text, weight in part for token in self._tokens(text)][: facts.max_length - 2]
            ids = [facts.bos_token_id, *(token for token, _ in tokens), facts.eos_token_id]
            ids += [facts.pad_token_id] * (facts.max_length - len(ids))
            weights = np.ones(facts.max_length)
            weights[1 : 1 + len(tokens)] = [weight for _, weight in tokens]
            windows.append(weigh(self.text(np.array([ids]))[0][0], weights))
        return np.concatenate(windows)[None]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hidden states (B, T, D) and pooled ones (B, D) of (B, T)."""
        states = np.tanh(self.weights["text_encoder"]["embedding.weight"][ids]).astype(np.float32)
        return states, states.max(axis=1)

    def unet(self, x: np.ndarray, timestep: float, context: np.ndarray) -> np.ndarray:
        weights = self.weights["unet"]
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
        mixed = np.zeros(x.shape) + weights["conv.bias"][None, :, None, None]
        for i in range(3):
            for j in range(3):
                window = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
                mixed += (weights["conv.weight"][None, :, :, i, j, None, None] * window[:, None]).sum(axis=2)
        mean = context.astype(np.float64).mean(axis=1)
        text = (mean[:, :, None] * weights["to_k.weight"][None]).sum(axis=1)
        return (0.5 * np.tanh(mixed + text[:, :, None, None] + float(np.float32(timestep)) * 0.001)).astype(np.float32)

    def encode(self, image: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) to scaled latents, sampled with `noise`: float32 (1, C, h, w)."""
        moments = self.moments(image.transpose(2, 0, 1)[None].astype(np.float64) / 127.5 - 1.0)
        mean, log_variance = np.split(moments, 2, axis=1)
        sampled = mean + np.exp(0.5 * np.clip(log_variance, -30, 20)) * noise
        return ((sampled - self.latent.shift) * self.latent.scale).astype(np.float32)

    def moments(self, pixels: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) to float64 (B, 2C, h, w)."""
        batch, _, height, width = pixels.shape
        blocks = pixels.astype(np.float64).reshape(batch, 3, height // 8, 8, width // 8, 8)
        blocks = blocks.transpose(0, 2, 4, 1, 3, 5)  # (B, h, w, 3, 8, 8)
        weight = self.weights["vae_encoder"]["conv.weight"]
        return (blocks[:, None] * weight[None, :, None, None]).sum(axis=(4, 5, 6))

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """float32 (C, h, w) to float64 (1, 3, H, W)."""
        return self.image(latents[None].astype(np.float64) / self.latent.scale + self.latent.shift)

    def image(self, unscaled: np.ndarray) -> np.ndarray:
        """(B, C, h, w) to float64 (B, 3, H, W)."""
        weight = self.weights["vae_decoder"]["conv.weight"]  # (C, 3, 8, 8)
        images = []
        for each in unscaled.astype(np.float64):
            grown = (each[:, None, :, :, None, None] * weight[:, :, None, None]).sum(axis=0)  # (3, h, w, 8, 8)
            images.append(np.tanh(grown.transpose(0, 1, 3, 2, 4).reshape(3, each.shape[1] * 8, each.shape[2] * 8)))
        return np.stack(images)


def test_image() -> np.ndarray:
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    return np.stack([x * 4 % 256, y * 5 % 256, (x + y) * 2 % 256], axis=2).astype(np.uint8)


def test_mask() -> np.ndarray:
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    return np.where((x < 24) | (y > 30), 255, 0).astype(np.uint8)


# --- packages that have to be opened, and ones that have to be refused ---


def package_cases() -> list[dict[str, Any]]:
    """Changes to a copy of the package. `code`: of the error that refuses it, None: it still opens."""
    stub = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    weights, graph, tokenizer = "unet/model.safetensors", "unet/model.onnx", "tokenizer/tokenizer.json"
    entry = {"sha256": "0" * 64, "size": 1}
    canonical = {"name": "canonical", "format": "onnx", "files": [graph, weights], "engine": "any"}
    exact = {"precision": "fp32", "exactness": "exact", "difference": None, "requires": None}
    plan = {"name": "p", "format": "tensorrt", "files": ["engines/p/unet.plan"], "engine": "tensorrt"}
    requires = {
        "flavour": "rtx", "version": "1.5.0.1", "compute_capabilities": [], "options": [], "graph": "0" * 64,
        "weights": "0" * 64, "profiles": [], "activation_bytes": None, "weight_bytes": None,
    }  # fmt: skip

    def case(why: str, *edits: dict[str, Any], code: str | None = None) -> dict[str, Any]:
        return {"why": why, "opens": code is None, "code": code, "edits": list(edits)}

    def manifest(text: str, code: str) -> dict[str, Any]:
        return case(f"the manifest is {text[:40]}", {"do": "write", "file": "manifest.json", "text": text}, code=code)

    def set_(path: list[Any], value: Any, **file: str) -> dict[str, Any]:
        return {"do": "set", "path": path, "value": value, **file}

    def rehashed(why: str, edit: dict[str, Any], code: str) -> dict[str, Any]:
        return case(why, edit, {"do": "rehash"}, code=code)

    def write(file: str, content: bytes) -> dict[str, Any]:
        return {"do": "write", "file": file, "hex": content.hex()}

    return [
        case("nothing is changed"),
        case("a text beside the model", {"do": "write", "file": "NOTES.txt", "text": "hello"}),
        case("another sampler", set_(["contract", "defaults", "sampler"], "unipc:order=3")),
        case("no manifest", {"do": "delete", "file": "manifest.json"}, code="package.missing"),
        case("the manifest is not UTF-8", write("manifest.json", b"\xff"), code="json.encoding"),
        manifest(stub, "file.lfs-stub"),
        manifest("{", "json.syntax"),
        manifest('{"a":1,"a":1}', "json.duplicate-key"),
        manifest('{"schema_version":NaN}', "json.number"),
        manifest('{"schema_version":1e999}', "json.number"),
        manifest('{"a":"\\ud800"}', "json.surrogate"),
        manifest("[" * 65 + "]" * 65, "json.depth"),
        case("the manifest has an unknown key", set_(["surprise"], 1), code="json.unknown-key"),
        case("the proof lacks a key", set_(["proof"], {"passed": True, "summary": {}}), code="json.missing-key"),
        case("the name is a number", set_(["name"], 5), code="json.type"),
        case("another version of the schema", set_(["schema_version"], 7), code="manifest.version"),
        case("the version is a text", set_(["schema_version"], "3"), code="manifest.version"),
        case("the name turns the direction of writing", set_(["name"], "a\u202eb"), code="manifest.name"),
        case("the name hides a character", set_(["name"], "a\u200bb"), code="manifest.name"),
        case("the name is empty", set_(["name"], ""), code="manifest.name"),
        case("a listed path leaves the package", set_(["files", "../x"], entry), code="manifest.path"),
        case("a digest is no hexadecimal", set_(["files", graph, "sha256"], "x" * 64), code="manifest.digest"),
        *contract_cases(set_, case),
        case("weights that are not listed", set_(["components", "unet", "weights"], "../w"), code="manifest.file"),
        case("an absolute path", set_(["components", "unet", "weights"], "/etc/passwd"), code="manifest.file"),
        case("no canonical graph", set_(["components", "unet", "artefacts", 0, "name"], "x"), code="manifest.artefact"),
        case(
            "a plan for no GPU",
            set_(["files", plan["files"][0]], entry),
            set_(
                ["components", "unet", "artefacts"], [{**canonical, **exact}, {**plan, **exact, "requires": requires}]
            ),
            code="manifest.plan",
        ),
        case(
            "a transpose is no permutation",
            set_(["components", "unet", "keys", "conv.weight", "transpose"], [0, 0, 1, 1]),
            code="manifest.keys",
        ),
        case("a file is missing", {"do": "delete", "file": graph}, code="file.missing"),
        case("weights are truncated", {"do": "truncate", "file": weights, "bytes": 8}, code="file.size"),
        case("weights are too long", {"do": "append", "file": weights, "hex": "00"}, code="file.size"),
        case("weights are a Git-LFS stub", {"do": "write", "file": weights, "text": stub}, code="file.lfs-stub"),
        case("a byte of the weights is another", {"do": "flip", "file": weights, "offset": -1}, code="file.hash"),
        case("a byte of the graph is another", {"do": "flip", "file": graph, "offset": 40}, code="file.hash"),
        case("a byte of the tokenizer is another", {"do": "flip", "file": tokenizer, "offset": 100}, code="file.hash"),
        case("a graph that is not listed", {"do": "write", "file": "unet/x.onnx", "text": ""}, code="file.unlisted"),
        case(
            "a link leaves the package",
            {"do": "link", "file": weights, "target": "../../model.safetensors"},
            code="file.link",
        ),
        case("a link to itself", {"do": "link", "file": graph, "target": "model.onnx"}, code="file.unreadable"),
        case("a folder in the place of a file", {"do": "link", "file": graph, "target": "."}, code="file.kind"),
        rehashed("a header of 2^60 bytes", write(weights, struct.pack("<Q", 2**60)), "weights.header"),
        rehashed("an unknown dtype", write(weights, weights_of("F7", b"\0")), "weights.tensor"),
        rehashed("a byte after the last tensor", write(weights, weights_of("U8", b"\0\0")), "weights.layout"),
        rehashed("the graph is a text", write(graph, b"hello"), "graph.format"),
        rehashed("the graph reads another file", write(graph, graph_that_reads("../x")), "graph.external-data"),
        case(
            "the graph lacks an output of the contract",
            set_(["contract", "components", "unet", "outputs", 0, "name"], "x"),
            set_(["contract", "denoiser", "output"], "x"),
            code="graph.signature",
        ),
        *variant_cases(set_, case, write),
        rehashed("the tokenizer is a text", write(tokenizer, b"hello"), "json.syntax"),
        rehashed("no normalizer", set_(["normalizer"], None, file=tokenizer), "tokenizer.form"),
        rehashed("an id beyond", set_(["model", "vocab", "a"], 99999, file=tokenizer), "tokenizer.vocabulary"),
        rehashed("an unknown part", set_(["model", "merges", 0], ["?a", "b"], file=tokenizer), "tokenizer.merges"),
        rehashed("a wrong id", set_(["added_tokens", 0, "id"], 3, file=tokenizer), "tokenizer.added-tokens"),
    ]


def variant_cases(
    set_: Callable[..., dict[str, Any]], case: Callable[..., dict[str, Any]], write: Callable[..., dict[str, Any]]
) -> list[dict[str, Any]]:
    """Packages with an int8 graph of a variant, which ONNX Runtime would take first if it picked it by itself."""
    graph, data, entry = "unet/int8.onnx", "unet/model.int8.safetensors", {"sha256": "0" * 64, "size": 1}
    canonical = {**onnx("canonical"), "files": ["unet/model.onnx", "unet/model.safetensors"]}
    lossy = {**LOSSY, "engine": "ort_cpu", "precision": "int8"}
    one = variant("int8", {"unet": way("ort", "int8", "int8")})

    def with_int8(why: str, location: str, content: bytes, code: str | None = None) -> dict[str, Any]:
        listed = [set_(["files", name], entry) for name in (graph, data)]
        artefacts = set_(["components", "unet", "artefacts"], [canonical, onnx("int8", data, **lossy)])
        files = [write(graph, graph_that_reads(location)), write(data, content)]
        return case(why, *files, *listed, artefacts, set_(["variants"], [one]), {"do": "rehash"}, code=code)

    name, good = data.rpartition("/")[2], weights_of("I8", b"\0")
    return [
        with_int8("a variant with a graph and data of its own", name, good),
        with_int8("a variant's graph reads the weights unsaid", "model.safetensors", good, "graph.external-data"),
        with_int8("a variant's data is a text", name, b"hello, world", "weights.header"),
        case("a variant of nothing", set_(["variants"], [one]), code="manifest.variant"),
    ]


def contract_cases(set_: Callable[..., dict[str, Any]], case: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Changes to one value of the contract."""
    axes, unet = ["axes"], ["components", "unet"]
    changes: list[tuple[str, list[Any], Any, str]] = [
        ("the schedule has an unknown key", ["schedule", "beta_middle"], 0.1, "json.unknown-key"),
        ("a beta is 0", ["schedule", "beta_start"], 0.0, "schedule.invalid"),
        ("an unknown prediction type", ["schedule", "prediction_type"], "score", "schedule.invalid"),
        ("an unknown sampler", ["defaults", "sampler"], "magic", "manifest.sampler"),
        ("a sampler that does not take the schedule", ["defaults", "sampler"], "flow_euler", "manifest.sampler"),
        ("an unknown option of a sampler", ["defaults", "sampler"], "euler:order=2", "manifest.sampler"),
        ("no steps", ["defaults", "steps"], 0, "manifest.range"),
        ("default steps that reach beyond the training", ["schedule", "steps_offset"], 999, "manifest.sampler"),
        ("a guidance below 0", ["defaults", "guidance"], -1.0, "manifest.range"),
        ("a batch of one for a guided default", ["axes", "batch", "max"], 1, "manifest.range"),
        ("a latent scale of 0", ["latent", "scale"], 0.0, "manifest.range"),
        ("an image that the denoiser does not take", ["image", "width"], 4096, "manifest.range"),
        ("an image that is no multiple of 8", ["image", "width"], 68, "manifest.image"),
        ("an axis that is not 8 times another", [*axes, "image_width", "multiple_of", "factor"], 4, "manifest.axis"),
        ("a tensor of an unknown axis", [*unet, "inputs", 0, "dims", 2], "depth", "manifest.axis"),
        ("latents of another type", [*unet, "inputs", 0, "dtype"], "float16", "manifest.tensor"),
        ("an output that is not there", ["denoiser", "output"], "nothing", "manifest.role"),
        ("tokens that the graph lacks", ["text", 0, "tokenizer", "vocab_size"], 2**20, "tokenizer.vocabulary"),
        ("a context of another width", ["components", "text_encoder", "outputs", 0, "dims", 2], 7, "manifest.text"),
    ]
    return [case(why, set_(["contract", *path], value), code=code) for why, path, value, code in changes]


def weights_of(dtype: str, data: bytes) -> bytes:
    """Return a safetensors file with one tensor of one byte before `data` ends."""
    header = json.dumps({"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def graph_that_reads(location: str) -> bytes:
    """Return an ONNX file of nothing but a tensor whose values are in the file `location`."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    external = field(1, b"location") + field(2, location.encode())
    return field(7, field(5, field(13, external)))


if __name__ == "__main__":
    main()
