"""A denoiser in parts, and its rewritten convolutions, are the same function: every family, and through the gate."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ldm_export.verify.gate import prove_package
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.openvino import savings as module
from ldm_runtime.engines.openvino.engine import OpenVinoEngine
from ldm_runtime.engines.openvino.forms import Primed
from ldm_runtime.engines.openvino.split import Part, Split
from ldm_runtime.package.open import open_package, read_manifest
from ldm_runtime.package.tensor_spec import TensorSpec

pytestmark = pytest.mark.slow

SIZES = {"height": 8, "width": 8, "context_tokens": 7}


def opened(package: Path, savings: str) -> OpenVinoEngine:
    choice = choose("openvino", threads=1, options={"openvino": {"savings": savings}})
    engine = open_engine(choice, open_package(package, check="size"), "unet").engine
    assert isinstance(engine, OpenVinoEngine)
    return engine


def drawn(specs: tuple[TensorSpec, ...], batch: int, *, equal: bool) -> dict[str, np.ndarray]:
    """Draw feeds; equal: both halves of the latents are equal, as guidance has them."""
    random, made = np.random.default_rng(3), {}
    for spec in specs:
        shape = [{"batch": batch, **SIZES}.get(dim, 1) if isinstance(dim, str) else dim for dim in spec.dims]
        value = random.standard_normal(shape).astype(spec.dtype)
        made[spec.name] = value if shape else np.array(500, spec.dtype)
    if equal:
        made["sample"][batch // 2 :] = made["sample"][: batch // 2]
    return made


def parts_of(engine: OpenVinoEngine) -> Split:
    assert engine._forms._held is not None
    primed = getattr(engine._forms._held.run, "__self__", None)
    assert isinstance(primed, Primed)
    split = getattr(primed.inner, "__self__", None)
    assert isinstance(split, Split)
    return split


@pytest.mark.parametrize("kind", ["sd15", "sd21", "inpaint", "sdxl", "sdxl_inpaint"])
def test_a_denoiser_in_parts_is_the_same_function(kind, tiny_build) -> None:
    package = tiny_build(kind).package
    plain, spared = opened(package, "none"), opened(package, "all")
    for batch, equal in ((2, True), (4, True), (2, False), (1, False)):
        feeds = drawn(plain.inputs, batch, equal=equal)
        for _ in range(2):  # the second time with what was kept
            got = spared.run(feeds)["out_sample"]
        expected = plain.run(feeds)["out_sample"]
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    split = parts_of(spared)
    assert split.text is not None and split.time is not None and split.prefix is not None


@pytest.mark.parametrize("savings", ["none", "all"])
def test_a_first_text_of_one_token_spoils_none_of_those_that_come_later(savings, tiny_build) -> None:
    package = tiny_build("sd15").package
    engine, other = opened(package, savings), opened(package, "none")
    feeds = drawn(engine.inputs, 2, equal=False)
    expected = other.run(feeds)["out_sample"]
    engine.run({**feeds, "encoder_hidden_states": feeds["encoder_hidden_states"][:, :1]})
    got = engine.run(feeds)["out_sample"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_swapped_keys_and_values_do_not_pass_the_gate(proven, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", dict.fromkeys(module._LARGE, 0))
    package = proven("sd15")
    said: list[str] = []
    report = prove_package(package, read_manifest(package), engine="openvino", progress=said.append)
    assert report.passed, report.failures
    run = Part.of

    def swapped(part: Part, feeds: Mapping[str, np.ndarray], sample: str) -> dict[str, np.ndarray]:
        values = run(part, feeds, sample)
        if part.inputs != ("encoder_hidden_states",):
            return values
        first, second, *_ = values
        assert values[first].shape == values[second].shape
        return {**values, first: values[second], second: values[first]}

    monkeypatch.setattr(Part, "of", swapped)
    report = prove_package(package, read_manifest(package), engine="openvino", progress=said.append)
    assert not report.passed and "unet" in str(report.first_failure)
