"""An image that would not fit into memory is refused with both figures, before anything runs."""

from pathlib import Path

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime import image_memory
from ldm_runtime.errors import InputError
from ldm_runtime.package import safetensors


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """What the machine has available, to be changed."""
    left: dict[str, int | None] = {"bytes": None}
    monkeypatch.setattr(image_memory, "available_memory", lambda: left["bytes"])
    return left


def finest_width(package: Path) -> int:
    """The channels that the decoder's last 3x3 convolution makes three of."""
    weights = safetensors.read_header(package / "vae_decoder/model.safetensors").tensors.values()
    return max(info.shape[1] for info in weights if len(info.shape) == 4 and info.shape[0] == 3)


def test_an_image_larger_than_memory_is_refused_and_a_smaller_one_is_not(free) -> None:
    with ldm_runtime.load() as pipe:
        needed = 4 * 8 * finest_width(pipe.package.path) * 64 * 64
        free["bytes"] = needed - 1
        with pytest.raises(InputError, match="an image of 64x64 needs about 0.0 GB of memory to decode, but 0.0 GB"):
            pipe.sample("red apple", size=(64, 64), steps=1)
        free["bytes"] = needed
        pipe.sample("red apple", size=(64, 64), steps=1).cancel()
        free["bytes"] = needed - 1  # nothing was decoded yet
        with pytest.raises(InputError, match="64x64 needs about"):
            pipe.sample("red apple", size=(64, 64), steps=1)
        free["bytes"] = needed
        pipe("red apple", size=(64, 64), steps=1)
        free["bytes"] = 0  # the engine has that memory now
        pipe.sample("red apple", size=(64, 64), steps=1).cancel()
        with pytest.raises(InputError, match="72x64 needs about") as refused:
            pipe.sample("red apple", size=(72, 64), steps=1)
        assert refused.value.code == "request.size"
        free["bytes"] = None
        pipe.sample("red apple", size=(72, 64), steps=1).cancel()


def test_another_engines_memory_is_not_judged(free) -> None:
    class Decoder:
        inputs = outputs = notices = ()

        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            raise AssertionError

        def close(self) -> None: ...

    from ldm_runtime.engines.choice import choose
    from ldm_runtime.package.open import open_package
    from ldm_runtime.pipeline import Pipeline, builtin_package

    package = open_package(builtin_package())
    with Pipeline(package, choose("ort"), engines={"vae_decoder": Decoder()}) as pipe:
        free["bytes"] = 0
        pipe.sample("red apple", size=(64, 64), steps=1).cancel()
