"""Variants in the C++ library: the same choice, in the same words, and the same latents as Python's."""

import ctypes
import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import ldm_runtime
from ldm_export.lossy import merging
from ldm_export.package.write import with_artefacts
from ldm_runtime.engines.choice import artefact_named
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.errors import LdmError
from ldm_runtime.package import manifest_json, safetensors
from ldm_runtime.package.open import Package, open_package, read_manifest
from ldm_runtime.package.variants import Variant, Way
from ldm_runtime.pipeline import Pipeline
from tests.runtime import cached_package, tiny_package
from tests.runtime.cpp.context import Refusal
from tests.runtime.cpp.library import Evaluation, Library
from tests.runtime.lossy_package import variant, with_variants
from tests.runtime.notices import said
from tests.runtime.quantised_package import DATA, INT8, WEIGHTS, with_int8, with_narrow_weights

pytestmark = pytest.mark.slow
EXACT = Way("ort", "canonical", "fp32", ())
SPARE = variant("spare", 1.0, 2.0, ways={"unet": INT8}, ssim=0.0)  # within no budget; an artefact of integers needs one
Open = Callable[..., Library]


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_int8(tiny_package.make(tmp_path_factory.mktemp("packages") / "int8"))


@pytest.fixture(scope="module")
def merged(tiny_build: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a variant whose attention reads half of the tokens."""
    folder = Path(shutil.copytree(tiny_build("sd15").package, tmp_path_factory.mktemp("packages") / "merged"))
    whole = Package(folder, read_manifest(folder), "", "size")
    (base,) = (each for each in whole.manifest.components["unet"].artefacts if each.name == "ort_cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "LEAST_TOKENS", 0)
        artefact = merging.write_merged(whole, base, 0.5)
    made = with_artefacts(folder, whole.manifest, {"unet": [artefact]})
    way = Way("ort", artefact.name, "fp32", ())
    made = dataclasses.replace(made, variants=(variant("merged", 20.0, 0.8, ways={"unet": way}),))
    (folder / "manifest.json").write_text(manifest_json.dump(made), encoding="utf-8")
    return folder


@pytest.fixture
def package(quantised: Path, tmp_path: Path) -> Callable[..., Path]:
    """The quantised package with variants of one's own."""

    def made(*variants: Variant) -> Path:
        return with_variants(Path(shutil.copytree(quantised, tmp_path / "package")), *variants, SPARE)

    return made


@pytest.fixture
def opened(library_file: Path, onnxruntime_library: Path) -> Iterator[Open]:
    """Open a package in C++; texts are options of the engine."""
    libraries: list[Library] = []

    def open_with(folder: Path, **texts: str) -> Library:
        given = {name: text.encode() for name, text in texts.items()}
        libraries.append(Library(library_file, onnxruntime_library, folder, **given))
        return libraries[-1]

    yield open_with
    for library in libraries:
        library.free()


def variant_of(library: Library) -> str | None:
    library.calls.ldm_engine_variant.restype = ctypes.c_char_p
    name = library.calls.ldm_engine_variant(library.engine)
    return None if name is None else name.decode()


def without_binding(sentence: str) -> str:
    """A sentence without the code that Python's binding of ONNX Runtime puts before its own sentences."""
    return re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", sentence)


def both(folder: Path, opened: Open, options: dict[str, Any], **texts: str) -> tuple[np.ndarray, str | None]:
    """Draw in both runtimes, which say and record the same; return the latents, equal to the bit, and the variant."""
    with ldm_runtime.load(folder, engine="auto", **texts) as pipe:
        assert isinstance(pipe, Pipeline)
        run = pipe.sample("red", **options)
        last = list(run)[-1]
        expected, made = last.latents, list(last.metadata().items())
        told = [without_binding(sentence) for sentence in said(run)]
    library = opened(folder, **texts)
    told_at_opening, name = list(library.said), variant_of(library)
    drawn = library.sample("red", variant=name, **options).draw()
    assert told_at_opening + drawn.notices == told
    assert list(drawn.metadata().items()) == made and dict(made).get("variant") == name
    np.testing.assert_array_equal(drawn.latents, expected)
    return expected, name


OPTIONS: dict[str, Any] = {"seed": 3}


def test_a_quantised_denoiser_gives_the_same_latents(quantised: Path, opened: Open) -> None:
    exact, none = both(quantised, opened, OPTIONS)
    lossy, name = both(quantised, opened, OPTIONS, budget="psnr=20")
    assert none is None and name == "int8" and not np.array_equal(exact, lossy)
    named, _ = both(quantised, opened, OPTIONS, variant="int8")
    np.testing.assert_array_equal(named, lossy)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_narrow_weights_in_a_file_of_their_own_give_the_same_latents(
    tmp_path: Path, opened: Open, precision: Literal["int8", "int4"]
) -> None:
    folder = with_narrow_weights(tiny_package.make(tmp_path / "package"), precision)
    exact, _ = both(folder, opened, OPTIONS)
    lossy, name = both(folder, opened, OPTIONS, variant=precision)
    assert name == precision and not np.array_equal(exact, lossy)


@pytest.mark.parametrize("size", [(32, 32), (22, 30)])
def test_a_denoiser_of_merged_tokens_gives_the_same_latents(merged: Path, opened: Open, size: tuple[int, int]) -> None:
    """Of latents with odd sides, too."""
    options = {"seed": 3, "steps": 3, "size": size}
    exact, none = both(merged, opened, options)
    lossy, name = both(merged, opened, options, budget="psnr=20")
    assert none is None and name == "merged" and not np.allclose(exact, lossy, rtol=1e-3, atol=1e-3)


def test_weights_that_a_quantised_graph_does_not_read_take_no_memory(
    quantised: Path, opened: Open, tmp_path: Path
) -> None:
    """What memory is asked for goes by the megabytes that are told. Its data moves: it would draw nonsense."""
    folder = Path(shutil.copytree(quantised, tmp_path / "package"))
    for file, name, kind in ((WEIGHTS, "wide.weight", np.float32), (DATA, "wide.weight/int8", np.int8)):
        tensors = {each: array.copy() for each, array in safetensors.read(folder / file).items()}
        safetensors.write(folder / file, {**tensors, name: np.zeros(2**20, kind)})
    tiny_package.rehash(folder)
    told = [line for line in opened(folder, variant="int8").details if "model.int8.onnx" in line and "MB" in line]
    assert len(told) == 1 and ", 1 MB of weights " in told[0], told


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("interval", [2, 3])
def test_kept_features_give_the_same_latents(tmp_path: Path, opened: Open, interval: int, guidance: float) -> None:
    folder = cached_package.make(tmp_path / "cached")
    with_variants(folder, cached_package.variant(interval))
    options = {**OPTIONS, "steps": 7, "guidance": guidance}
    exact, _ = both(folder, opened, options)
    cached, name = both(folder, opened, options, variant="cached")
    assert name == "cached" and not np.array_equal(exact, cached)


def test_kept_features_of_the_prompts_are_read_where_guidance_has_ended(tmp_path: Path, opened: Open) -> None:
    folder = cached_package.make(tmp_path / "cached")
    with_variants(folder, cached_package.variant(4, guidance_until=0.5))
    both(folder, opened, {**OPTIONS, "steps": 6, "negative": "blue"}, variant="cached")
    both(folder, opened, {**OPTIONS, "steps": 6, "guidance_interval": (0.3, 0.6)}, variant="cached")


@pytest.mark.parametrize(("interval", "until"), [(2, 1.0), (3, 0.5)])
def test_a_host_with_an_engine_of_its_own_is_told_which_graph_to_run_and_fed_what_was_kept(
    tmp_path: Path, opened: Open, interval: int, until: float
) -> None:
    folder = cached_package.make(tmp_path / "cached")
    with_variants(folder, cached_package.variant(interval, guidance_until=until))
    options = {**OPTIONS, "steps": 7, "negative": "blue"}
    expected, _ = both(folder, opened, options, variant="cached")
    package = open_package(folder)

    def host(its: Evaluation) -> dict[str, np.ndarray]:
        parts = package.manifest.components[its.component]
        artefact = parts.canonical if its.artefact is None else artefact_named(package, its.component, its.artefact)
        return OrtEngine(package.file(artefact.file)).run(its.feeds)

    run = opened(folder).sample("red", variant="cached", **options)
    for _ in run.tasks(host):
        pass
    graphs = [each.artefact for each in run.evaluations if each.component == "unet"]
    assert graphs == ["deep" if row % interval == 0 else "shallow" for row in range(len(graphs))]
    assert {each.artefact for each in run.evaluations if each.component != "unet"} == {None}
    np.testing.assert_array_equal(run.latents, expected)


def test_a_host_of_an_older_header_is_told_that_it_cannot_know_the_graph(tmp_path: Path, opened: Open) -> None:
    folder = cached_package.make(tmp_path / "cached")
    for variant_name in (None, "cached"):
        run = opened(folder).sample("red", variant=variant_name, **OPTIONS)
        task = run.library.begun("ldm_task")
        task.struct_size -= ctypes.sizeof(ctypes.c_void_p)  # without `artefact`
        refused = run.library.refusal("ldm_run_next", run.handle, ctypes.byref(task))
        assert (refused is None) is (variant_name is None)
        assert refused is None or ("the variant cached takes turns" in refused[1] and refused[0] == "other.misuse")


RUNS: dict[str, dict[str, Any]] = {
    "fewer steps": {"steps": 3},
    "another sampler": {"sampler": "euler"},
    "guidance in part": {"guidance_until": 0.6},
    "no guidance": {"guidance_until": 0.0},
    "all": {"steps": 5, "sampler": "dpmsolver:order=2", "guidance_until": 0.5},
}


OWN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "other options": {"steps": 6, "sampler": "ddim", "guidance": 2.5, "size": (48, 48)},
    "all of the run guided": {"guidance_interval": (0.0, 1.0), "guidance": 2.5},
}


def test_a_sampler_that_neither_knows_is_said_in_all_its_length(package: Callable[..., Path], opened: Open) -> None:
    short = variant("short", 30.0, 0.5, ways={}, steps=3)
    unknown = dataclasses.replace(short, error=dataclasses.replace(short.error, sampler="é" * 1000))
    both(package(unknown), opened, OPTIONS, variant="short")


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
@pytest.mark.parametrize("name", RUNS)
def test_a_variants_defaults_go_before_the_packages_and_behind_the_callers(
    package: Callable[..., Path], opened: Open, name: str, own: dict[str, Any]
) -> None:
    folder = package(variant("short", 30.0, 0.5, ways={}, **RUNS[name]))
    both(folder, opened, {**OPTIONS, **own}, variant="short")


UNHEARD = dataclasses.replace(EXACT, units=("avx2", "unheard_of"))
CHOICES: dict[str, tuple[tuple[Variant, ...], str, str | None]] = {
    "none within": (
        (variant("a", 20.0, 0.5, ways={"unet": INT8}), variant("b", 25.129, 0.5, ways={"unet": INT8})),
        "psnr=30",
        None,
    ),
    "none within by likeness": ((variant("a", 20.0, 0.5, ways={"unet": INT8}, ssim=0.91239),), "ssim=0.95", None),
    "equal images": ((variant("equal", None, 0.5, ways={"unet": INT8}, ssim=1.0),), "psnr=100", "equal"),
    "the fastest": (
        (variant("a", 40.0, 0.5, ways={"unet": INT8}), variant("b", 32.999, 0.4, ways={"unet": INT8})),
        "psnr=32.5",
        "b",
    ),
    "the first of equally fast ones": (
        (variant("a", 40.0, 0.5, ways={"unet": INT8}), variant("b", 41.0, 0.5, ways={"unet": INT8})),
        "psnr=30",
        "a",
    ),
    "no faster than exact": ((variant("slow", 40.0, 1.0, ways={"unet": INT8}),), "psnr=30", None),
    "a unit that no CPU has": (
        (variant("a", 40.0, 0.3, ways={"unet": UNHEARD}, steps=2), variant("b", 35.0, 0.5, ways={"unet": INT8})),
        "psnr=30",
        "b",
    ),
    "an engine that is not known": (
        (variant("a", 40.0, 0.3, ways={"unet": dataclasses.replace(EXACT, engine="abacus")}, steps=2),),
        "psnr=30",
        None,
    ),
    "a precision of no kernels": (
        (variant("a", 40.0, 0.3, ways={"unet": dataclasses.replace(EXACT, precision="fp16")}),),
        "ssim=0.5",
        None,
    ),
    "exactly": ((variant("a", 40.0, 0.3, ways={"unet": INT8}),), "exact", None),
}


@pytest.mark.parametrize("why", CHOICES)
def test_the_same_variant_is_chosen_in_the_same_words(package: Callable[..., Path], opened: Open, why: str) -> None:
    variants, budget, expected = CHOICES[why]
    _, name = both(package(*variants), opened, {**OPTIONS, "steps": 2}, budget=budget)
    assert name == expected


def test_an_end_of_guidance_beside_one_that_is_not_given_is_all_that_way(
    package: Callable[..., Path], opened: Open
) -> None:
    library = opened(package(variant("cut", 30.0, 0.5, ways={}, guidance_until=0.5)), variant="cut")
    options = {**OPTIONS, "variant": "cut", "steps": 5}
    nan = float("nan")
    latents = {
        ends: library.sample("red", guidance_interval=ends, **options).draw().latents
        for ends in ((nan, nan), (0.0, 0.5), (0.3, nan), (0.3, 1.0), (nan, 0.8), (0.0, 0.8))
    }
    pairs = list(zip(*[iter(latents.values())] * 2, strict=True))
    for without, given in pairs:
        np.testing.assert_array_equal(without, given)
    assert not np.array_equal(pairs[0][0], pairs[1][0]) and not np.array_equal(pairs[1][0], pairs[2][0])


def test_a_package_without_variants_is_drawn_exactly(tmp_path: Path, opened: Open) -> None:
    _, name = both(tiny_package.make(tmp_path / "package"), opened, OPTIONS, budget="psnr=30")
    assert name is None


REFUSED = {
    "an unknown variant": {"variant": "int4"},
    "a variant that is not within a budget": {"variant": "int8", "budget": "psnr=40"},
    "a variant that is not alike enough": {"variant": "int8", "budget": "ssim=0.95"},
    "a budget that is none": {"budget": "psnr=abc"},
    "a budget beyond its range": {"budget": "ssim=1.1"},
    "a budget without a value": {"budget": "psnr="},
    "a budget with an exponent": {"budget": "psnr=3e1"},
    "a unit that no CPU has": {"variant": "odd"},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_is_refused_in_the_same_words(package: Callable[..., Path], opened: Open, why: str) -> None:
    folder = package(
        variant("int8", 30.0, 0.5, ways={"unet": INT8}),
        variant("odd", 30.0, 0.5, ways={"unet": dataclasses.replace(INT8, units=("unheard_of",))}),
    )
    with pytest.raises(LdmError) as expected:
        ldm_runtime.load(folder, engine="auto", **REFUSED[why])
    with pytest.raises(Refusal) as found:
        opened(folder, **REFUSED[why])
    assert (found.value.code, found.value.text) == (expected.value.code, str(expected.value))


def test_another_variant_than_the_engines_is_misuse(quantised: Path, opened: Open) -> None:
    for library, name in ((opened(quantised, variant="int8"), None), (opened(quantised), "int8")):
        with pytest.raises(Refusal, match="set `variant` of ldm_run_options to what ldm_engine_variant says"):
            library.sample("red", variant=name, **OPTIONS).draw()


def test_a_run_of_an_unknown_variant_is_refused(quantised: Path, opened: Open) -> None:
    with pytest.raises(Refusal, match="variant is 'int4'; expected one of int8"):
        opened(quantised).sample("red", variant="int4", **OPTIONS)


def test_a_proof_takes_no_variant(quantised: Path, opened: Open) -> None:
    library, report = opened(quantised), ctypes.c_void_p()
    for name, text in (("budget", b"psnr=20"), ("variant", b"int8")):
        options = library.begun("ldm_engine_options", **{name: text})
        refused = library.refusal("ldm_verify", str(quantised).encode(), ctypes.byref(options), ctypes.byref(report))
        assert refused == ("request.invalid", f"a proof takes no {name}; leave it out")
